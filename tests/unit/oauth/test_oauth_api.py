"""The endpoints: each answer by the RFC's code, and nothing of our insides in it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.errors import UnavailableError
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.verify import verify_x509_svid
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.authorize.parts import PushedResponse
from agentshield.oauth.backchannel.parts import BackchannelResponse
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.metadata import metadata
from agentshield.oauth.model import Revocation
from agentshield.oauth.requests import TokenResponse
from agentshield.oauth.settings import OAuthSettings
from agentshield.testing import FakeTrustDomain

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SETTINGS = OAuthSettings(issuer="https://localhost:8443", trust_domain=TrustDomain("example.test"))
FORM = (b"content-type", b"application/x-www-form-urlencoded")
NONCES = DpopNonces(secret=b"n" * 32)


@pytest.fixture
def domain_peer():
    """An agent's verified identity."""
    domain = FakeTrustDomain("example.test")
    return verify_x509_svid(domain.issue_svid("/agents/b").chain, domain.bundles(), at=datetime.now(UTC))


@dataclass
class Service:
    """Answers with what it is told, and remembers what it was asked."""

    answer: object = None
    asked: list = field(default_factory=list)

    async def token(self, request):
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    introspect = revoke = backchannel = push = token

    def jwks(self):
        return b'{"keys":[]}'


class Watch:
    """One revocation, at epoch 3."""

    async def after(self, epoch, *, wait):
        revoked = Revocation(epoch=3, jti="j", expires_at=NOW + timedelta(minutes=5), revoked_at=NOW)
        return 3, (revoked,) if epoch < 3 else ()


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


async def ask(service, path, *, method="POST", headers=(FORM,), query=b"", body=b"grant_type=x", peer=None):
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    app = OAuthApp(
        service,
        Watch(),
        settings=SETTINGS,
        document=metadata(SETTINGS, grant_types=frozenset({"client_credentials"})),
        nonces=NONCES,
        clock=lambda: NOW,
    )
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": list(headers),
        "client": ("127.0.0.1", 5),
        "agentshield.peer": peer,
    }
    await app(scope, receive, send)
    start, end = sent
    return Answer(status=start["status"], headers=dict(start["headers"]), body=end["body"])


async def test_token_is_answered_and_never_stored():
    """RFC 6749, 5.1: no cache may keep it."""
    service = Service(TokenResponse(access_token="t", token_type="DPoP", expires_in=300, scope="a"))
    answer = await ask(service, "/oauth/token", headers=(FORM, (b"dpop", b"p1"), (b"dpop", b"p2")))
    assert answer.status == 200
    assert answer.json == {"access_token": "t", "token_type": "DPoP", "expires_in": 300, "scope": "a"}
    assert answer.headers[b"cache-control"] == b"no-store"
    assert service.asked[0].dpop == ("p1", "p2")  # that two are too many is for who checks them to say
    assert service.asked[0].url == "https://localhost:8443/oauth/token"


async def test_a_question_is_answered_with_its_secret_and_never_stored():
    """CIBA Core, 7.3: what fetches the token must be in no cache."""
    service = Service(BackchannelResponse(auth_req_id="r", expires_in=300, interval=5))
    answer = await ask(service, "/oauth/bc-authorize")
    assert (answer.status, answer.json) == (200, {"auth_req_id": "r", "expires_in": 300, "interval": 5})
    assert answer.headers[b"cache-control"] == b"no-store"
    assert (await ask(service, "/oauth/bc-authorize", method="GET")).status == 405


async def test_a_lodged_request_is_201_and_never_stored():
    """RFC 9126, 2.2: what opens the human's browser must be in no cache."""
    service = Service(PushedResponse(request_uri="urn:ietf:params:oauth:request_uri:r", expires_in=90))
    answer = await ask(service, "/oauth/par")
    assert (answer.status, answer.json["expires_in"]) == (201, 90)
    assert answer.json["request_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    assert answer.headers[b"cache-control"] == b"no-store"
    assert service.asked[0].url == "https://localhost:8443/oauth/par"
    assert (await ask(service, "/oauth/par", method="GET")).status == 405


@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/callback", "/oauth/consent"])
async def test_where_nobody_can_delegate_there_are_no_pages(path):
    """An address that does nothing must not look as if it did."""
    for method in ("GET", "POST"):
        assert (await ask(Service(), path, method=method)).status == 404


async def test_a_human_who_may_not_be_asked_is_403():
    """CIBA Core, 13: here access_denied has a status of its own, and at the token endpoint it has not."""
    denied = OAuthError(OAuthErrorCode.ACCESS_DENIED, "no", rule="r", status=403)
    assert (await ask(Service(denied), "/oauth/bc-authorize")).status == 403
    assert (await ask(Service(OAuthError(OAuthErrorCode.ACCESS_DENIED, "no", rule="r")), "/oauth/token")).status == 400


async def test_address_is_ours_whatever_host_says():
    """RFC 9449, 4.3: a proof is for the address we published, and Host is the client's to write."""
    service = Service(TokenResponse(access_token="t", token_type="DPoP", expires_in=300))
    await ask(service, "/oauth/token", headers=(FORM, (b"host", b"hostile.example.test")))
    assert service.asked[0].url.startswith(SETTINGS.issuer)


async def test_refusal_is_the_rfcs_and_no_more():
    """A client learns the code; which rule it broke, and on what, is for the audit log."""
    error = OAuthError(OAuthErrorCode.INVALID_CLIENT, "client authentication failed", rule="R", detail="inside")
    answer = await ask(Service(error), "/oauth/token", headers=(FORM, (b"authorization", b"Basic x")))
    assert answer.status == 401
    assert answer.json == {"error": "invalid_client", "error_description": "client authentication failed"}
    assert answer.headers[b"www-authenticate"].startswith(b"Basic")
    assert b"www-authenticate" not in (await ask(Service(error), "/oauth/token")).headers


async def test_nonce_comes_with_the_demand_for_it():
    """RFC 9449, 8: without it the client could not go on."""
    error = OAuthError(OAuthErrorCode.USE_DPOP_NONCE, "a nonce is required", rule="RFC 9449 8")
    answer = await ask(Service(error), "/oauth/token")
    assert (answer.status, answer.json["error"]) == (400, "use_dpop_nonce")
    assert NONCES.is_current(answer.headers[b"dpop-nonce"].decode(), NOW)


async def test_fault_of_ours_tells_nothing(caplog):
    """A traceback is a map of the house."""
    answer = await ask(Service(ValueError("postgresql://secret@db")), "/oauth/token")
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert b"secret" not in answer.body
    assert answer.json["error_description"].split()[1] in caplog.text


async def test_log_away_is_said_so():
    """Nothing is granted that is not on record, and the client is told when to come again."""
    error = OAuthError(OAuthErrorCode.TEMPORARILY_UNAVAILABLE, "try again later", rule="availability", detail="disk")
    answer = await ask(Service(error), "/oauth/token")
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    assert answer.headers[b"retry-after"] == b"1"


async def test_database_away_is_said_so():
    """Nothing is granted, and the client may come again."""
    answer = await ask(Service(UnavailableError("no disk", retry_after=7)), "/oauth/token")
    assert (answer.status, answer.json) == (503, {"error": "temporarily_unavailable"})
    assert answer.headers[b"retry-after"] == b"7"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"headers": ()}, 415),
        ({"body": b"x" * 70_000}, 413),
        ({"body": b"a=1&a=2"}, 400),
        ({"query": b"grant_type=x"}, 400),
        ({"headers": (FORM, (b"dpop", b"x" * 40_000))}, 431),
        ({"headers": (FORM, (b"authorization", b"a"), (b"authorization", b"b"))}, 400),
        ({"path": "/oauth/tokens"}, 404),
        ({"path": "/oauth/jwks"}, 405),
    ],
)
async def test_odd_requests_never_reach_the_service(changes, status):
    """Oversized, doubled, misplaced: refused at the door."""
    service = Service()
    answer = await ask(service, changes.pop("path", "/oauth/token"), **changes)
    assert answer.status == status
    assert service.asked == []


@pytest.mark.parametrize(
    ("changes", "is_last"),
    [
        ({}, False),
        ({"body": b"a=1&a=2"}, False),
        ({"headers": ((b"content-length", b"900"),)}, True),
        ({"headers": (FORM, (b"content-length", b"70000"))}, True),
        ({"headers": ((b"transfer-encoding", b"chunked"),), "path": "/oauth/tokens"}, True),
        ({"headers": ((b"transfer-encoding", b"chunked"),), "path": "/oauth/jwks", "method": "GET"}, True),
        ({"headers": (), "path": "/oauth/jwks", "method": "GET"}, False),
    ],
)
async def test_answer_before_the_end_of_a_request_is_the_last(changes, is_last):
    """Who is refused early must not go on sending: the connection would be held by a body that nobody reads."""
    service = Service(TokenResponse(access_token="t", token_type="DPoP", expires_in=300))
    answer = await ask(service, changes.pop("path", "/oauth/token"), **changes)
    assert (answer.headers.get(b"connection") == b"close") is is_last


async def test_metadata_and_keys_are_public():
    """Who is to trust us must find our keys without asking; HEAD is GET without the body."""
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        assert (await ask(Service(), path, method="GET")).json["issuer"] == SETTINGS.issuer
    keys = await ask(Service(), "/oauth/jwks", method="GET")
    assert keys.json == {"keys": []}
    head = await ask(Service(), "/oauth/jwks", method="HEAD")
    assert (head.body, head.headers[b"content-length"]) == (b"", b"11")


async def test_revocations_are_for_agents():
    """Who does not prove an identity has no resource to guard."""
    answer = await ask(Service(), "/oauth/revocations", method="GET")
    assert answer.status == 401


async def test_revocations_are_listed_since_an_epoch(domain_peer):
    """A resource server learns what was revoked, and how long it may believe that it knows."""
    answer = await ask(Service(), "/oauth/revocations", method="GET", query=b"after=2&wait=1", peer=domain_peer)
    assert answer.json["epoch"] == 3
    assert [each["jti"] for each in answer.json["revoked"]] == ["j"]
    assert answer.json["lease_seconds"] == 5
    later = await ask(Service(), "/oauth/revocations", method="GET", query=b"after=3", peer=domain_peer)
    assert later.json["revoked"] == []


@pytest.mark.parametrize(
    "query",
    [
        b"after=1&after=2",
        b"after=",
        b"after=-1",
        b"after=x",
        b"wait=26",
        b"wait=nan",
        b"\xff",
        b"after=9223372036854775808",
    ],
)
async def test_odd_places_in_the_feed_are_refused(domain_peer, query):
    """A question that would wait for ever is not asked."""
    answer = await ask(Service(), "/oauth/revocations", method="GET", query=query, peer=domain_peer)
    assert answer.status == 400
