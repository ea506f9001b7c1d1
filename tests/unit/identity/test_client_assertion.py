"""Client assertions: for one server, of one client, once."""

from datetime import UTC, datetime, timedelta

import pytest

from agentshield.identity.client_assertion import (
    CLIENT_ASSERTION_TYPE,
    ClientAssertionError,
    sign_client_assertion,
    verify_client_assertion,
)
from agentshield.identity.errors import BadSignatureError, WrongAudienceError
from agentshield.identity.jwk import KeySet, UnknownKeyError, thumbprint
from agentshield.identity.jws import InvalidTokenError, sign_compact
from agentshield.identity.keys import generate_private_key

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVER = "https://as.example.test"
CLIENT = "agent-a"
KEY = generate_private_key()
KEYS = KeySet.of(KEY.public_key())
KID = thumbprint(KEY.public_key())


def verify(token, **changes):
    return verify_client_assertion(
        token, **{"keys": KEYS, "client_id": CLIENT, "audience": SERVER, "at": NOW, **changes}
    )


def raw(typ=CLIENT_ASSERTION_TYPE, key=KEY, kid=KID, **changes):
    now = int(NOW.timestamp())
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": SERVER, "jti": "j", "iat": now, "exp": now + 60} | changes
    return sign_compact({name: value for name, value in claims.items() if value is not None}, key, kid=kid, typ=typ)


def test_client_is_who_signed():
    """The assertion tells who, until when, and by which key."""
    token = sign_client_assertion(KEY, kid=KID, client_id=CLIENT, issuer_audience=SERVER, at=NOW)
    verified = verify(token)
    assert verified.client_id == CLIENT
    assert verified.expires_at == NOW + timedelta(seconds=60)
    assert verify(raw(typ="JWT", aud=[SERVER])).client_id == CLIENT


@pytest.mark.parametrize(
    "audience",
    [
        SERVER + "/oauth/token",
        SERVER + "/",
        [SERVER, "https://hostile.example.test"],
        ["https://hostile.example.test"],
    ],
)
def test_audience_is_the_issuer_alone(audience):
    """A hostile server could have a client sign for it what it would then use here (rfc7523bis)."""
    with pytest.raises(WrongAudienceError):
        verify(raw(aud=audience))


@pytest.mark.parametrize("name", ["iss", "sub"])
def test_another_clients_assertion_is_refused(name):
    """A client authenticates itself, and nobody else."""
    with pytest.raises(ClientAssertionError):
        verify(raw(**{name: "agent-b"}))


@pytest.mark.parametrize("changes", [{"exp": 0}, {"exp": 10**10}, {"iat": 10**10}, {"nbf": 10**10}])
def test_out_of_its_time_is_refused(changes):
    """An assertion that is good for long is a password."""
    with pytest.raises(ClientAssertionError):
        verify(raw(**changes))


@pytest.mark.parametrize(
    "changes", [{"jti": None}, {"exp": None}, {"aud": None}, {"aud": []}, {"sub": None}, {"jti": 5}]
)
def test_missing_claims_are_refused(changes):
    """Without jti it could be sent twice, without exp for ever."""
    with pytest.raises(InvalidTokenError):
        verify(raw(**changes))


@pytest.mark.parametrize("typ", ["at+jwt", "dpop+jwt", "txntoken+jwt"])
def test_another_kind_of_token_is_no_assertion(typ):
    """What was signed for another purpose does not authenticate."""
    with pytest.raises(InvalidTokenError):
        verify(raw(typ=typ))


def test_another_key_is_refused():
    """Only the keys a client registered are its."""
    other = generate_private_key()
    with pytest.raises(BadSignatureError):
        verify(raw(key=other))
    with pytest.raises(UnknownKeyError):
        verify(raw(key=other, kid="other"))
