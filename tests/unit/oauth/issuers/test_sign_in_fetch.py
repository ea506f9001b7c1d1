"""What an identity provider is sent and what of it is believed: the same guards as for its documents."""

from dataclasses import replace

import pytest

from agentshield.errors import AgentShieldError
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jws import sign_compact
from agentshield.oauth.issuers.errors import KeysUnavailableError
from agentshield.oauth.issuers.fetch import MAX_DOCUMENT_BYTES, IssuerFetch
from agentshield.oauth.model import SignIn
from agentshield.sdk.egress import ForbiddenAddressError

OURS = "agentshield"


def http_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


@pytest.fixture
def signing_in(record):
    return replace(record, sign_in=SignIn(client_id=OURS))


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized"])
async def test_a_grant_and_a_refusal_are_answers(foreign, settings, status):
    """RFC 6749, 5.2: why there is no token stands in the body, for our log."""
    foreign.answers["/token"] = http_answer(b'{"error":"invalid_grant"}', status=status)
    answer = await IssuerFetch(settings).post_form(foreign.url + "/token", {"code": "a&b"}, ca_pem=foreign.ca_pem)
    assert (answer.status, answer.body) == (int(status[:3]), b'{"error":"invalid_grant"}')


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"", status="302 Found", headers="Location: https://evil.test/\r\n"),
        http_answer(b"", status="500 Oops"),
        http_answer(b"x" * (MAX_DOCUMENT_BYTES + 1)),
        http_answer(b"x", headers="Content-Encoding: gzip\r\n"),
    ],
)
async def test_what_else_comes_is_no_answer(foreign, settings, answer):
    """A redirect would take the code elsewhere; a large or packed body would take our memory."""
    foreign.answers["/token"] = answer
    with pytest.raises(KeysUnavailableError):
        await IssuerFetch(settings).post_form(foreign.url + "/token", {"code": "x"}, ca_pem=foreign.ca_pem)
    assert foreign.asked == ["/token"]


async def test_a_form_is_sent_to_no_address_inside(foreign, settings):
    """SSRF: an authorization code is nothing for whoever listens on this machine."""
    guarded = IssuerFetch(replace(settings, allow_loopback_issuers=False))
    with pytest.raises(ForbiddenAddressError):
        await guarded.post_form(foreign.url + "/token", {"code": "x"}, ca_pem=foreign.ca_pem)
    assert foreign.asked == []


async def test_an_id_token_is_for_our_client_there_alone(foreign, federation, signing_in, clock):
    """OpenID Connect Core, 3.1.3.7 (3): the names that the issuer has for us as a server are none of a client's."""
    good = foreign.token(clock(), aud=OURS)
    assert (await federation.verify_id_token(good, signing_in, at=clock())).subject == "job-7"
    for audience in ("https://as.example.test", "other", [OURS, "other"]):
        with pytest.raises(WrongAudienceError):
            await federation.verify_id_token(foreign.token(clock(), aud=audience), signing_in, at=clock())


async def test_a_token_of_another_kind_or_issuer_is_no_id_token(foreign, federation, signing_in, record, clock):
    """An access token says what somebody may, not who they are; and where nobody signs in, nobody does."""
    now = int(clock().timestamp())
    claims = {"iss": foreign.url, "sub": "ann", "aud": OURS, "iat": now, "exp": now + 300}
    everything = replace(signing_in, token_types=frozenset({None, "JWT", "at+jwt"}))
    tokens = (
        (sign_compact(claims, foreign.keys["k1"], kid="k1", typ="at+jwt"), everything),
        (foreign.token(clock(), aud=OURS, iss="https://other.test"), signing_in),
        (foreign.token(clock(), aud=OURS), replace(signing_in, algorithms=frozenset({"RS256"}))),
        (foreign.token(clock(), aud=OURS), record),
    )
    for token, by in tokens:
        with pytest.raises(AgentShieldError):
            await federation.verify_id_token(token, by, at=clock())
