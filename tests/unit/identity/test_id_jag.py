"""Identity assertion grants: of one issuer, for one server and one client, once (ID-JAG, draft -04)."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from agentshield.identity.act_chain import ActChain, InvalidActChainError, Party
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.id_jag import ID_JAG_TYPE, IdJagError, VerifiedIdJag, sign_id_jag, verify_id_jag
from agentshield.identity.jwk import KeySet, UnknownKeyError, thumbprint
from agentshield.identity.jws import InvalidTokenError, sign_compact
from agentshield.identity.keys import generate_private_key

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
IDP, SERVER, CLIENT = "https://idp.example.test", "https://as.example.test", "agent-a"
KEY = generate_private_key()
KEYS = KeySet.of(KEY.public_key())
KID = thumbprint(KEY.public_key())
SECONDS = int(NOW.timestamp())
CLAIMS = {
    "iss": IDP,
    "sub": "alice",
    "aud": SERVER,
    "client_id": CLIENT,
    "jti": "j",
    "iat": SECONDS,
    "exp": SECONDS + 60,
}


def verify(token, **changes):
    rest = {"keys": KEYS, "issuer": IDP, "audience": SERVER, "client_id": CLIENT, "at": NOW}
    return verify_id_jag(token, **rest | changes)


def grant(key=KEY, kid=KID, **changes):
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not ...}
    return sign_id_jag(claims, key, kid=kid)


def test_what_the_issuer_says_is_read():
    """Who, for whom, with what, and bound to which key."""
    act = {"iss": IDP, "sub": "b"}
    read = verify(grant(scope="a b", resource="https://r.example.test", act=act, cnf={"jkt": "k" * 43}))
    assert (read.issuer, read.subject, read.client_id, read.jti) == (IDP, "alice", CLIENT, "j")
    assert (read.scopes, read.resource, read.jkt) == (frozenset({"a", "b"}), "https://r.example.test", "k" * 43)
    assert read.act_chain == ActChain((Party(issuer=IDP, subject="b"),))
    assert read.expires_at == NOW + timedelta(seconds=60)
    plain = verify(grant(aud=[SERVER]))
    assert (plain.scopes, plain.resource, plain.jkt, plain.act_chain) == (frozenset(), None, None, ActChain())


def test_issuer_may_name_its_certificate_too():
    """Some issuers write x5t into every header; it is read past, and never used."""
    token = jwt.encode(CLAIMS, KEY, algorithm="ES256", headers={"kid": KID, "typ": ID_JAG_TYPE, "x5t": "x"})
    assert verify(token).subject == "alice"


@pytest.mark.parametrize(
    "aud", ["https://other.example.test", SERVER + "/", [SERVER, "https://other.example.test"], [IDP]]
)
def test_grant_for_another_server_is_refused(aud):
    """A grant is worth its rights at one server; at two, the first could use it at the second."""
    with pytest.raises(WrongAudienceError):
        verify(grant(aud=aud))


@pytest.mark.parametrize(
    "changes", [{"client_id": "agent-b"}, {"iss": "https://evil.example.test"}, {"iss": IDP + "/"}]
)
def test_another_client_s_or_issuer_s_grant_is_refused(changes):
    """Who intercepts a grant is not who it was made for."""
    with pytest.raises(IdJagError):
        verify(grant(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"exp": SECONDS}, {"exp": SECONDS + 301}, {"iat": SECONDS + 31}, {"nbf": SECONDS + 31}, {"exp": SECONDS - 10**6}],
)
def test_grant_out_of_its_time_is_refused(changes):
    """RFC 7523, 3 (4, 5), and no grant that is good for long."""
    with pytest.raises(IdJagError):
        verify(grant(**changes))


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "client_id", "jti", "exp", "iat"])
def test_each_required_claim_is_required(name):
    """The draft's list; without jti it could be sent twice."""
    with pytest.raises(InvalidTokenError):
        verify(grant(**{name: ...}))


@pytest.mark.parametrize("cnf", [None, {}, {"x5t#S256": "k" * 43}, {"jkt": 5}, {"jkt": "k" * 43, "kid": "x"}])
def test_binding_that_is_not_understood_is_refused(cnf):
    """A bound grant must not become anybody's."""
    with pytest.raises(IdJagError):
        verify(grant(cnf=cnf))


@pytest.mark.parametrize("act", [None, "b", {"sub": "b"}, {"iss": IDP, "sub": "b", "act": {"sub": "c"}}])
def test_half_an_actor_is_refused(act):
    """TX-09: whoever acts is named by issuer and subject."""
    with pytest.raises(InvalidActChainError):
        verify(grant(act=act))


@pytest.mark.parametrize("changes", [{"scope": ["a"]}, {"scope": None}, {"resource": ["https://r.example.test"]}])
def test_rights_of_a_wrong_shape_are_refused(changes):
    """What cannot be read exactly is not guessed."""
    with pytest.raises(IdJagError):
        verify(grant(**changes))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "oauth-id-jag", "application/oauth-id-jag+jwt"])
def test_another_kind_of_token_is_no_grant(typ):
    """An ID token of the same issuer, for the same client, is not a grant."""
    with pytest.raises(InvalidTokenError, match="type"):
        verify(sign_compact(CLAIMS, KEY, kid=KID, typ=typ))


def test_forged_grant_is_refused():
    """Only the issuer's keys count."""
    with pytest.raises(BadSignatureError):
        verify(grant(key=generate_private_key()))
    with pytest.raises(UnknownKeyError):
        verify(grant(kid="other"))


def test_nobody_makes_a_verified_one_by_hand():
    """What says verified has been verified."""
    read = verify(grant())
    fields = {name: getattr(read, name) for name in read.__slots__ if not name.startswith("_")}
    with pytest.raises(TypeError):
        VerifiedIdJag(**fields)
