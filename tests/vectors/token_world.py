"""A small authorization server of the tests, over real TLS, and a resource that takes its tokens."""

import asyncio
import contextlib
import json
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from agentshield.identity.access_token import AccessTokenClaims, Confirmation, sign_access_token
from agentshield.identity.act_chain import ActChain, Party
from agentshield.identity.dpop import sign_dpop_proof, verify_dpop_proof
from agentshield.identity.jwk import KeySet, jwk_of, thumbprint
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.access_tokens import TokenVerifier
from agentshield.sdk.asgi import PEER, ShieldMiddleware, authorized_caller
from agentshield.sdk.clients.oauth import SERVER_PATH
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.testing import FakeTrustDomain, ShieldPair
from agentshield.testing.server import serving
from agentshield.uuid7 import uuid7

AUDIENCE = "https://analyst.example.test/tasks"
BASE_URL = "https://analyst.example.test"
PLANNER = "spiffe://example.test/agents/planner"


class TokenServer:
    """Issues whatever a test asks for; over HTTP, only what proves a DPoP key."""

    def __init__(self, domain):
        self.domain = domain
        self.clock = domain.clock
        self.issuer = ""
        self.key, self.kid = generate_private_key(), "one"
        self.forms, self.headers, self.asked = [], [], []
        self.nonce = None
        self.refusal = None
        self.metadata_changes = {}
        self.opaque = {}
        self.is_down = False
        self._revoked, self._news = [], asyncio.Event()

    def roll(self):
        self.key, self.kid = generate_private_key(), self.kid + "+"

    def claims(self, agent=PLANNER, *, jkt=None, certificate=None, scopes=("AI.Task.Execute",), **changes):
        confirmation = (
            Confirmation(jkt=jkt) if jkt else Confirmation.of_certificate(certificate) if certificate else None
        )
        now = self.clock()
        return AccessTokenClaims(
            **{
                "issuer": self.issuer,
                "subject": agent,
                "audience": AUDIENCE,
                "client_id": agent,
                "scopes": frozenset(scopes),
                "issued_at": now,
                "expires_at": now + timedelta(minutes=5),
                "jti": str(uuid7(now)),
                "confirmation": confirmation,
                **changes,
            }
        )

    def issue(self, agent=PLANNER, **changes):
        return sign_access_token(self.claims(agent, **changes), self.key, kid=self.kid)

    def act(self, *agents):
        return ActChain(tuple(Party(issuer=self.issuer, subject=each) for each in agents))

    def revoke(self, jti):
        self._revoked.append(jti)
        self._news.set()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        self.asked.append(scope["path"])
        query = parse_qs(scope["query_string"].decode())
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        form = {name: values[0] for name, values in parse_qs(await body_of(receive)).items()}
        status, answer, more = await self._answer(scope, query, headers, form)
        data = json.dumps(answer).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)), *more]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": data})

    async def _answer(self, scope, query, headers, form):
        if self.is_down:
            return 503, {}, []
        match scope["path"]:
            case "/.well-known/oauth-authorization-server":
                return 200, self._metadata(), []
            case "/oauth/jwks":
                return 200, {"keys": [jwk_of(self.key.public_key(), kid=self.kid, use="sig", alg="ES256")]}, []
            case "/oauth/revocations":
                return 200, await self._revocations(int(query["after"][0]), float(query["wait"][0])), []
            case "/oauth/introspect":
                claims = self.opaque.get(form["token"])
                return 200, {"active": True, **claims.to_claims()} if claims else {"active": False}, []
            case "/oauth/token":
                return self._token(headers, form, scope.get(PEER))
        return 404, {}, []

    def _metadata(self):
        endpoints = {"token_endpoint": "token", "jwks_uri": "jwks", "introspection_endpoint": "introspect"}
        document = {"issuer": self.issuer} | {name: f"{self.issuer}/oauth/{path}" for name, path in endpoints.items()}
        return document | self.metadata_changes

    async def _revocations(self, after, wait):
        if after >= len(self._revoked):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(wait, 0.2))
        self._news.clear()
        end = int((self.clock() + timedelta(minutes=5)).timestamp())
        news = [{"jti": jti, "exp": end} for jti in self._revoked[after:]]
        return {"epoch": len(self._revoked), "lease_seconds": 5, "revoked": news}

    def _token(self, headers, form, peer):
        self.forms.append(form)
        self.headers.append(headers)
        proof = verify_dpop_proof(headers["dpop"], method="POST", url=f"{self.issuer}/oauth/token", at=self.clock())
        if self.nonce is not None and proof.nonce != self.nonce:
            return 400, {"error": "use_dpop_nonce"}, [(b"dpop-nonce", self.nonce.encode())]
        if self.refusal is not None:
            return 400, {"error": self.refusal, "error_description": "no"}, []
        assert form["client_id"] == str(peer.spiffe_id)
        agent = str(peer.spiffe_id)
        wanted = {"scopes": form.get("scope", "").split(), "audience": form.get("resource") or form["audience"]}
        if "subject_token" in form:
            wanted |= {"subject": "a user", "act_chain": self.act(agent), "subject_profile": "user"}
        return (
            200,
            {"access_token": self.issue(agent, jkt=proof.jkt, **wanted), "token_type": "DPoP", "expires_in": 300},
            [],
        )


async def body_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body.decode()


class World:
    """planner and analyst, an authorization server, and analyst's door that takes its tokens."""

    def __init__(self, pair, server):
        self.pair, self.server = pair, server
        self.key = generate_private_key()
        self.ran = []
        self.callers = []

    @property
    def jkt(self):
        return thumbprint(self.key.public_key())

    def verifier(self, **changes):
        return TokenVerifier(**{"audience": AUDIENCE, "issuer": self.server.issuer, **changes})

    def door(self, *, scopes=("AI.Task.Execute",), **changes):
        async def app(scope, receive, send):
            self.ran.append(scope["path"])
            self.callers.append(await authorized_caller(scope, "run", scopes=scopes))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        return ShieldMiddleware(app, self.pair.analyst, tokens=self.verifier(**changes))

    def proof(self, token, *, key=None, method="GET", url=f"{BASE_URL}/run", **changes):
        now = self.pair.domain.clock()
        return sign_dpop_proof(key or self.key, method=method, url=url, at=now, access_token=token, **changes)

    async def ask(self, door, token=None, *, scheme="DPoP", proofs=None, peer=None, path="/run", headers=()):
        """Send one request; without `proofs`, with the right one."""
        sent, shown = [], list(headers)
        if token is not None:
            shown.append((b"authorization", f"{scheme} {token}".encode()))
            if scheme == "DPoP" and proofs is None:
                proofs = [self.proof(token)]
            shown += [(b"dpop", proof.encode()) for proof in proofs or ()]
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": shown, PEER: peer}
        scope["query_string"] = b""

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        await door(scope, receive, send)
        body = b"".join(each["body"] for each in sent if each["type"] == "http.response.body")
        return Answer(sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, body)

    async def reasons(self, last=""):
        """The codes in analyst's log, once `last` is among them; who is refused does not wait for the log."""
        for _ in range(200):
            found = [reason for event in self.pair.events for reason in event["reasons"]]
            if found and (not last or last in found):
                break
            await asyncio.sleep(0.01)
        return found


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.challenge = headers.get("www-authenticate", "")


@contextlib.asynccontextmanager
async def token_world(domain=None):
    """A world in which planner may `run` at analyst."""
    async with ShieldPair(domain or FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "run")
        server = TokenServer(pair.domain)
        tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL, clock=pair.domain.clock)
        tls.update(pair.domain.issue_svid(SERVER_PATH), pair.domain.bundles())
        async with serving(server, tls) as url:
            server.issuer = url
            world = World(pair, server)
            yield world
            for shield in (pair.planner, pair.analyst):  # whatever waits at the server goes first
                await shield.__aexit__(None, None, None)


@pytest.fixture
async def world():
    async with token_world() as world:
        yield world


__all__ = ["AUDIENCE", "BASE_URL", "PLANNER", "KeySet", "TokenServer", "World", "token_world", "world"]
