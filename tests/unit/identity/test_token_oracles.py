"""What holds for every token whatever it says, and what two other libraries make of ours, and we of theirs."""

import json
from datetime import UTC, datetime, timedelta

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_forges import TokenForge
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, RSAKey
from token_kinds import ALGORITHMS, KINDS, name_of

from agentshield.errors import AgentShieldError
from agentshield.identity.access_token import AccessTokenClaims, Confirmation, sign_access_token, verify_access_token
from agentshield.identity.act_chain import ActChain, Party
from agentshield.identity.client_assertion import CLIENT_ASSERTION_TYPE, verify_client_assertion
from agentshield.identity.dpop import DPOP_TYPE, access_token_hash, sign_dpop_proof, verify_dpop_proof
from agentshield.identity.jwk import KeySet, jwk_of, thumbprint
from agentshield.identity.keys import KeyType, generate_private_key

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
URL = "https://as.example.test/oauth/token"
KEYS = [generate_private_key(), generate_private_key(KeyType.EC_P384), generate_private_key(KeyType.RSA_2048)]
FORGE = TokenForge()

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)
parties = st.builds(Party, issuer=text, subject=text, profile=st.none() | text)
thumbprints = st.text("abcXYZ019-_", min_size=43, max_size=43)
json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text | st.lists(text, max_size=2)
details = st.dictionaries(text, json_values, max_size=3)
scopes = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=12
)
claims = st.builds(
    AccessTokenClaims,
    issuer=text,
    subject=text,
    audience=text,
    client_id=text,
    scopes=st.frozensets(scopes, max_size=4),
    issued_at=st.just(NOW),
    expires_at=st.integers(1, 3600).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    jti=text,
    confirmation=st.none() | st.builds(Confirmation, jkt=thumbprints) | st.builds(Confirmation, x5t_s256=thumbprints),
    act_chain=st.lists(parties, max_size=5).map(lambda actors: ActChain(tuple(actors))),
    authorization_details=st.lists(details, max_size=2).map(tuple),
    transaction=st.none() | text,
    may_act=st.none() | parties,
    subject_profile=st.none() | text,
    blueprint=st.none() | text,
    auth_time=st.none() | st.integers(0, 2**35),
    acr=st.none() | text,
    subject_issuer=st.none() | text,
)
keys = st.sampled_from(KEYS)


def joserfc_key(key):
    return (RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey).import_key(key)


@given(claims, keys)
@settings(max_examples=150, deadline=None)
def test_what_was_signed_is_what_is_read(said, key):
    """A claim lost on the way is a limit that nobody keeps; one that is gained, a right that nobody gave."""
    keys = KeySet.of(key.public_key())
    token = sign_access_token(said, key, kid=keys.keys[0].kid)
    assert verify_access_token(token, keys=keys, issuer=said.issuer, audience=said.audience, at=NOW).claims == said
    assert AccessTokenClaims.from_claims(said.to_claims()) == said


@given(claims, keys)
@settings(max_examples=40, deadline=None)
def test_other_libraries_read_the_same(said, key):
    """A resource server that knows nothing of us sees the rights that ours sees."""
    token = sign_access_token(said, key, kid="k")
    algorithm = {384: "ES384", 256: "ES256"}.get(key.key_size, "RS256")
    assert joserfc_jwt.decode(token, joserfc_key(key), algorithms=[algorithm]).claims == said.to_claims()
    unchecked = {"verify_exp": False, "verify_iat": False, "verify_aud": False, "verify_iss": False}
    assert pyjwt.decode(token, key.public_key(), [algorithm], options=unchecked) == said.to_claims()


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_one_changed_character_is_refused(kind, data):
    """In every kind of token: a bit that may change unnoticed is a bit that an attacker may choose."""
    token = kind.token(FORGE)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda each: each != token[place]))
    with pytest.raises(AgentShieldError):
        kind.verify(token[:place] + other + token[place + 1 :], FORGE)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@given(st.text(max_size=200) | st.text("eyJ.", max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_text_is_refused_by_an_error_of_ours(kind, text):
    """Whoever presents it chooses it; a crash would stop the service for everybody."""
    with pytest.raises(AgentShieldError):
        kind.verify(text, FORGE)


@pytest.mark.parametrize("key", KEYS, ids=["P-256", "P-384", "RSA"])
def test_thumbprints_agree(key):
    """RFC 7638: `jkt` is compared with what other implementations wrote."""
    assert thumbprint(key.public_key()) == joserfc_key(key).thumbprint()


def test_key_set_of_another_library_is_read_and_ours_by_it():
    """Key sets cross from one implementation to the other at every federation."""
    theirs = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": "a"})
    ours = KeySet.from_jwks(
        b'{"keys":[%s]}' % json.dumps(theirs.as_dict(private=False)).encode(), algorithms=ALGORITHMS
    )
    assert thumbprint(ours.find("a", "ES256").public_key) == theirs.thumbprint()
    assert ECKey.import_key(jwk_of(ours.keys[0].public_key)).thumbprint() == theirs.thumbprint()


def test_proof_of_another_library_is_believed_and_ours_by_it():
    """Clients bring their own DPoP; servers that are not ours get ours."""
    key = ECKey.generate_key("P-256")
    header = {"typ": DPOP_TYPE, "alg": "ES256", "jwk": key.as_dict(private=False)}
    header["jwk"].pop("kid", None)
    said = {"jti": "j", "htm": "GET", "htu": URL, "iat": SECONDS, "ath": access_token_hash("t")}
    proof = joserfc_jwt.encode(header, said, key)
    assert verify_dpop_proof(proof, method="GET", url=URL, at=NOW, access_token="t").jkt == key.thumbprint()

    made = sign_dpop_proof(KEYS[0], method="GET", url=URL, at=NOW, access_token="t", jti="j")
    shown = ECKey.import_key(pyjwt.get_unverified_header(made)["jwk"])
    assert joserfc_jwt.decode(made, shown).claims == said
    assert shown.thumbprint() == thumbprint(KEYS[0].public_key())


def test_assertion_of_another_library_is_believed():
    """RFC 7523 clients are everybody's."""
    key = KEYS[0]
    said = {"iss": "c", "sub": "c", "aud": URL, "jti": "j", "iat": SECONDS, "exp": SECONDS + 60}
    keys = KeySet.of(key.public_key())
    for typ in (CLIENT_ASSERTION_TYPE, "JWT", None):
        token = pyjwt.encode(said, key, algorithm="ES256", headers={"kid": keys.keys[0].kid, "typ": typ})
        assert verify_client_assertion(token, keys=keys, client_id="c", audience=URL, at=NOW).jti == "j"
