"""JWT-SVID: every MUST, by its id in our standards sheet, with what is accepted and what is refused."""

import json
import re
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.errors import (
    BadSignatureError,
    InvalidSvidError,
    SvidExpiredError,
    SvidNotYetValidError,
    UnknownTrustDomainError,
    UntrustedSvidError,
    WrongAudienceError,
)
from agentshield.identity.issue import JwtIssuer
from agentshield.identity.jws import InvalidTokenError
from agentshield.identity.jwt_svid import JwtSvid, UnverifiedJwtSvid
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid

HOME = TrustDomain.parse("example.org")
PLANNER = SpiffeId.parse("spiffe://example.org/agents/planner")


@pytest.fixture
def verified(forge, at):
    """Verify a token of these forges for the audience `analyst`."""

    def verify(token, *token_forges, audience="analyst", at=at):
        bundle = TrustBundle.from_json(HOME, forge.bundle_json(*token_forges))
        return verify_jwt_svid(token, BundleSet.of(bundle), audience=audience, at=at)

    return verify


def test_jws_01_accepts_compact_serialization(verified, tokens):
    """The one form that JWT-SVIDs travel in must prove who the holder is."""
    identity = verified(tokens.token(), tokens)
    assert identity.spiffe_id == PLANNER
    assert identity.proof == "jwt-svid"
    assert identity.claims["sub"] == str(PLANNER)


def test_jws_01_refuses_json_serializations(verified, tokens):
    """A second form can carry a second signature, or none: whoever checks the first would be fooled by the other."""
    header, payload, signature = tokens.token().split(".")
    flattened = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for form in (flattened, general):
        with pytest.raises(InvalidTokenError):
            verified(json.dumps(form), tokens)


@pytest.mark.parametrize("form", ["", ".", "..", "{h}.{p}", "{h}.{p}.", ".{p}.{s}", "{h}..{s}", "{h}.{p}.{s}.{s}"])
def test_jws_01_refuses_another_number_of_parts_or_an_empty_one(verified, tokens, form):
    """A token without a signature part is nobody's word."""
    header, payload, signature = tokens.token().split(".")
    with pytest.raises(InvalidTokenError):
        verified(form.format(h=header, p=payload, s=signature), tokens)


@pytest.mark.parametrize("typ", ["JWT", "JOSE", ...])
def test_jws_02_accepts_alg_kid_and_typ(verified, tokens, typ):
    """What SPIRE and the specification's own examples send must pass."""
    assert verified(tokens.token(header=tokens.header(typ=typ)), tokens).spiffe_id == PLANNER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jku", "https://evil.test/keys"),
        ("jwk", {"kty": "EC"}),
        ("x5u", "https://evil.test/chain"),
        ("x5c", ["MIIB"]),
        ("x5t", "AAAA"),
        ("x5t#S256", "AAAA"),
        ("cty", "JWT"),
        ("crit", ["exp"]),
        ("b64", False),
        ("nonce", "1"),
        ("iss", "spiffe://example.org"),
    ],
)
def test_jws_02_refuses_every_other_header_parameter(verified, tokens, name, value):
    """A header that names its own key, or that must be understood and is not, lets the sender choose the rules."""
    with pytest.raises(InvalidTokenError, match=name):
        verified(tokens.token(header=tokens.header(**{name: value})), tokens)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_jws_03_accepts_es256_es384_es512(verified, tokens_of, curve):
    """Domains may sign with any of the three; refusing one cuts its workloads off."""
    signer = tokens_of(key=ec.generate_private_key(curve))
    alg = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}[curve.name]
    assert verified(signer.token(header=signer.header(alg=alg)), signer).spiffe_id == PLANNER


@pytest.mark.parametrize("size", ["256", "384", "512"])
@pytest.mark.parametrize("family", ["RS", "PS"])
def test_jws_03_accepts_rs_and_ps_256_384_512(verified, tokens_of, rsa_2048, family, size):
    """RSA domains exist, and Entra asks for RS256."""
    signer = tokens_of(key=rsa_2048)
    digest = getattr(hashes, f"SHA{size}")()
    pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    scheme = padding.PKCS1v15() if family == "RS" else pss
    token = signer.token(header=signer.header(alg=family + size), sign=lambda data: rsa_2048.sign(data, scheme, digest))
    assert verified(token, signer).spiffe_id == PLANNER


@pytest.mark.parametrize(
    "alg",
    ["none", "None", "NONE", "", "HS256", "HS512", "EdDSA", "Ed25519", "ES256K", "es256", "RS1", "A128KW", None, 1],
)
def test_jws_03_refuses_every_other_algorithm(verified, tokens, alg):
    """`none` and HMAC with the public key are the oldest forgeries; whoever trusts the claims is hurt."""
    with pytest.raises(InvalidTokenError):
        verified(tokens.token(header=tokens.header(alg=alg)), tokens)


def test_jws_03_refuses_a_token_without_algorithm(verified, tokens):
    """A default algorithm would be one that the signer did not choose."""
    with pytest.raises(InvalidTokenError):
        verified(tokens.token(header=tokens.header(alg=...)), tokens)


def test_jws_03_refuses_a_good_eddsa_signature(verified, tokens):
    """A real signature of an algorithm outside the list is still outside the list: peers would not agree with us."""
    key = ed25519.Ed25519PrivateKey.generate()
    token = tokens.token(header=tokens.header(alg="EdDSA"), sign=key.sign)
    with pytest.raises(InvalidTokenError, match="EdDSA"):
        verified(token, tokens)


@pytest.mark.parametrize("typ", ["at+jwt", "wit+jwt", "jwt", "JWS", "", "application/jwt", None, 1, ["JWT"]])
def test_jws_04_refuses_every_other_type(verified, tokens, typ):
    """An access token or a proof signed by the same key must not prove an identity."""
    with pytest.raises(InvalidTokenError):
        verified(tokens.token(header=tokens.header(typ=typ)), tokens)


@pytest.mark.parametrize(
    "sub",
    [..., None, "", 1, ["spiffe://example.org/a"], "planner", "https://example.org/a", "spiffe://example.org/a/../b"],
)
def test_jws_05_refuses_a_subject_that_is_no_spiffe_id(verified, tokens, sub):
    """A token about nobody, or about a name that others read otherwise, must not become an identity."""
    with pytest.raises(InvalidSvidError):
        verified(tokens.token(tokens.claims(sub=sub)), tokens)


def test_jws_05_refuses_a_trust_domain_as_subject(verified, tokens):
    """The authority's own name must not be carried around as a workload's."""
    with pytest.raises(InvalidSvidError, match="names a trust domain"):
        verified(tokens.token(tokens.claims(sub="spiffe://example.org")), tokens)


@pytest.mark.parametrize("aud", ["analyst", ["analyst"], ["other", "analyst"]])
def test_jws_06_accepts_our_name_as_text_or_in_a_list(verified, tokens, aud):
    """RFC 7519 allows both spellings, and peers send both."""
    assert verified(tokens.token(tokens.claims(aud=aud)), tokens).spiffe_id == PLANNER


@pytest.mark.parametrize("aud", ["other", ["other"], "analyst2", "analys", ["ANALYST"], "xanalyst", "analyst other"])
def test_jws_06_refuses_a_token_for_somebody_else(verified, tokens, aud):
    """Whoever received the token could otherwise replay it to us as its holder."""
    with pytest.raises(WrongAudienceError) as caught:
        verified(tokens.token(tokens.claims(aud=aud)), tokens)
    assert caught.value.expected == "analyst"
    assert caught.value.actual == ((aud,) if isinstance(aud, str) else tuple(aud))


@pytest.mark.parametrize(
    "aud", [..., None, "", [], [""], 1, {}, [1], ["analyst", 1], ["analyst", None], {"analyst": 1}]
)
def test_jws_06_refuses_a_missing_or_misshapen_audience(verified, tokens, aud):
    """A token for nobody in particular is a token for everybody."""
    with pytest.raises(InvalidSvidError, match="aud"):
        verified(tokens.token(tokens.claims(aud=aud)), tokens)


def test_jws_06_does_not_let_a_verifier_forget_its_own_name(verified, tokens):
    """An empty setting must stop the service, not open it."""
    with pytest.raises(ValueError, match="audience"):
        verified(tokens.token(), tokens, audience="")


def test_jws_06_issues_no_token_without_an_audience(at):
    """Such a token would be good anywhere: the agent's name could be used by every service it ever called."""
    issuer = JwtIssuer(trust_domain=HOME, key_id="k", private_key=ec.generate_private_key(ec.SECP256R1()))
    for audience in ((), ("",), ("analyst", "")):
        with pytest.raises(InvalidSvidError, match="audience"):
            issuer.issue_jwt_svid(PLANNER, audience, issued_at=at, expires_at=at + timedelta(minutes=5))


@pytest.mark.parametrize("exp", [..., None, "1795435500", True, [], {}, -1e400])
def test_jws_07_refuses_a_missing_or_misshapen_exp(verified, tokens, exp):
    """A token that never ends is a password."""
    with pytest.raises(InvalidInputError):
        verified(tokens.token(tokens.claims(exp=exp)), tokens)


@pytest.mark.parametrize(
    "exp", [b"1e400", b"9" * 5000, b"99999999999999", b"NaN", b"Infinity", b"-Infinity", b"0x7fffffff"]
)
def test_jws_07_refuses_an_exp_that_is_no_time(verified, tokens, exp):
    """Overflow and not-a-number compare oddly; neither may end as `not expired`, nor as a crash of the service."""
    claims = b'{"sub":"spiffe://example.org/agents/planner","aud":"analyst","exp":%s}' % exp
    with pytest.raises(InvalidInputError):
        verified(tokens.token(claims), tokens)


def test_jws_07_refuses_an_expired_token_from_its_last_second_on(verified, tokens, at):
    """No leeway on exp: a stolen token's life must not be longer than its authority said."""
    token = tokens.token(tokens.claims())
    ends = at + timedelta(seconds=300)
    assert verified(token, tokens, at=ends - timedelta(seconds=1)).valid_until == ends
    for late in (ends, ends + timedelta(seconds=1), ends + timedelta(days=365)):
        with pytest.raises(SvidExpiredError) as caught:
            verified(token, tokens, at=late)
        assert caught.value.expired_at == ends


def test_jws_07_refuses_a_token_from_the_future(verified, tokens, at):
    """nbf says from when; a token made in advance must not work before."""
    later = int(at.timestamp()) + 60
    with pytest.raises(SvidNotYetValidError):
        verified(tokens.token(tokens.claims(nbf=later)), tokens)
    with pytest.raises(SvidNotYetValidError):
        verified(tokens.token(tokens.claims(iat=later)), tokens)


def test_jws_11_allows_a_small_clock_difference_only(verified, tokens, at):
    """Two machines' clocks differ by seconds; a token one minute ahead is no clock difference."""
    soon = int(at.timestamp()) + 5
    assert verified(tokens.token(tokens.claims(nbf=soon, iat=soon)), tokens).spiffe_id == PLANNER


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("value", [None, "0", True, []])
def test_jws_07_refuses_misshapen_times(verified, tokens, name, value):
    """A check on something that is not a time is no check."""
    with pytest.raises(InvalidSvidError, match=name):
        verified(tokens.token(tokens.claims(**{name: value})), tokens)


def test_jws_08_takes_the_key_from_the_bundle_of_the_subject_s_trust_domain(forge_of, tokens_of, at):
    """The same kid in two domains names two keys; a partner's must not vouch for our names."""
    ours, theirs = tokens_of(kid="same"), tokens_of(kid="same")
    home = TrustBundle.from_json(HOME, forge_of("example.org").bundle_json(ours))
    partner_domain = TrustDomain.parse("partner.test")
    partner = TrustBundle.from_json(partner_domain, forge_of("partner.test").bundle_json(theirs))
    bundles = BundleSet.of(home, partner)

    assert verify_jwt_svid(ours.token(), bundles, audience="analyst", at=at).trust_domain == HOME
    partners = theirs.token(theirs.claims(sub="spiffe://partner.test/a"))
    assert verify_jwt_svid(partners, bundles, audience="analyst", at=at).trust_domain == partner_domain
    with pytest.raises(BadSignatureError):
        verify_jwt_svid(theirs.token(), bundles, audience="analyst", at=at)


def test_jws_08_refuses_a_token_of_a_trust_domain_without_bundle(verified, tokens):
    """No bundle, no trust: an unknown domain's agents are strangers."""
    with pytest.raises(UnknownTrustDomainError) as caught:
        verified(tokens.token(tokens.claims(sub="spiffe://stranger.test/a")), tokens)
    assert "stranger.test" in str(caught.value)


def test_jws_08_refuses_a_key_that_the_bundle_no_longer_has(verified, tokens, tokens_of):
    """Removing a key must end the tokens it signed, or revocation does nothing."""
    with pytest.raises(UntrustedSvidError, match=tokens.kid):
        verified(tokens.token(), tokens_of(kid="authority-2"))


def test_jws_08_refuses_every_token_when_the_bundle_is_empty(verified, tokens):
    """An empty bundle is how a domain says that everything is revoked."""
    with pytest.raises(UntrustedSvidError):
        verified(tokens.token())


@pytest.mark.parametrize("kid", [..., None, "", 1, ["authority-1"]])
def test_jws_10_refuses_a_token_that_names_no_key(verified, tokens, kid):
    """Trying every key of the bundle would let a token pass under a key it was not issued with."""
    with pytest.raises(InvalidInputError):
        verified(tokens.token(header=tokens.header(kid=kid)), tokens)


@pytest.mark.parametrize(
    "kid", ["authority-2", "AUTHORITY-1", "authority-1 ", "../authority-1", "' OR 1=1 --", "k" * 4096]
)
def test_jws_10_compares_kid_as_it_is(verified, tokens, kid):
    """kid is a name, not a path or a query: whoever can choose it must find exactly one key or none."""
    with pytest.raises(UntrustedSvidError) as caught:
        verified(tokens.token(header=tokens.header(kid=kid)), tokens)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("use", ["x509-svid", "wit-svid", "sig", "enc", "", None, ...])
def test_jws_10_filters_by_use_first(forge, tokens, at, use):
    """A key published for certificates, or for nothing we know, must not sign tokens."""
    jwk = {name: value for name, value in tokens.jwk(use=use).items() if value is not ...}
    bundle = TrustBundle.from_json(HOME, json.dumps({"keys": [jwk]}).encode())
    with pytest.raises(UntrustedSvidError):
        verify_jwt_svid(tokens.token(), BundleSet.of(bundle), audience="analyst", at=at)


def test_jws_10_ignores_a_bundle_key_without_kid(tokens, at):
    """No token can name such a key; it must neither be used nor break the others."""
    jwk = tokens.jwk()
    nameless = {name: value for name, value in jwk.items() if name != "kid"}
    bundle = TrustBundle.from_json(HOME, json.dumps({"keys": [nameless, jwk]}).encode())
    assert [authority.key_id for authority in bundle.jwt_authorities] == [tokens.kid]
    assert verify_jwt_svid(tokens.token(), BundleSet.of(bundle), audience="analyst", at=at).spiffe_id == PLANNER


def test_jws_11_accepts_a_token_with_and_without_jti_and_iss(verified, tokens):
    """Both are optional in JWT-SVID; peers send them or not."""
    assert verified(tokens.token(tokens.claims(jti="1", iss="https://issuer.test")), tokens).claims["jti"] == "1"
    assert "jti" not in verified(tokens.token(), tokens).claims


def test_jwt_svid_that_we_issue_has_what_the_standard_asks_for_and_no_more(verified, tokens, at):
    """What peers do not expect in a header they must refuse (JWS-02): our own tokens would then be useless."""
    issuer = JwtIssuer(trust_domain=HOME, key_id=tokens.kid, private_key=tokens.key)
    svid = issuer.issue_jwt_svid(PLANNER, ["analyst"], issued_at=at, expires_at=at + timedelta(minutes=5))
    unverified = UnverifiedJwtSvid.parse(svid.token)
    assert unverified.subject == PLANNER
    assert unverified.key_id == tokens.kid
    identity = verified(svid.token, tokens)
    assert set(identity.claims) == {"sub", "aud", "iat", "exp"}
    assert identity.valid_until == svid.expires_at


@pytest.mark.parametrize("spiffe_id", ["spiffe://partner.test/a", "spiffe://example.org"])
def test_jwt_svid_is_issued_for_workloads_of_the_own_domain_only(tokens, at, spiffe_id):
    """An authority that signs foreign names, or its own, hurts whoever federates with it."""
    issuer = JwtIssuer(trust_domain=HOME, key_id=tokens.kid, private_key=tokens.key)
    with pytest.raises(InvalidSvidError, match=re.escape(spiffe_id)):
        issuer.issue_jwt_svid(SpiffeId.parse(spiffe_id), ["a"], issued_at=at, expires_at=at + timedelta(minutes=5))


def test_jwt_svid_never_shows_its_token(tokens, at):
    """A token in a log line is a credential for whoever reads the log."""
    token = tokens.token()
    svid = JwtSvid.unsafe_from_own_agent(token)
    signature = token.rpartition(".")[2]
    for shown in (repr(svid), str(svid), f"{svid}", repr(UnverifiedJwtSvid.parse(token))):
        assert signature not in shown


def test_jwt_svid_refusals_never_show_the_token(verified, tokens, tokens_of):
    """Error texts end in logs; a refused token may still be good elsewhere."""
    token = tokens.token()
    with pytest.raises(AuthenticationError) as caught:
        verified(token, tokens_of(kid=tokens.kid))
    assert token.rpartition(".")[2] not in f"{caught.value!r} {caught.value.hint}"
