"""A real a2a-sdk agent that serves itself over mTLS with a signed card, and an agent that calls it."""

import contextlib
import socket
from datetime import timedelta

from a2a_agent import Agent, agent_app, card_members

from agentshield.identity.agent_card.binding import IdentityBinding
from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import sign_card
from agentshield.sdk.tls import ClientCertificates
from agentshield.testing import FakeTrustDomain, ShieldPair
from agentshield.testing.server import serving

MTLS = {"mtls": {"mtlsSecurityScheme": {"description": "An X509-SVID"}}}
ASKS_FOR_MTLS = [{"schemes": {"mtls": {"list": ["spiffe"]}}}]
CARD_PATH = "/.well-known/agent-card.json"


class A2AClientWorld:
    """`planner` calls `analyst`. `seen` is what reached analyst: method, path, and header fields of each request."""

    def __init__(self):
        self.domain = FakeTrustDomain()
        self.pair = ShieldPair(self.domain)
        self.agent = Agent()
        self.seen = []
        self.cards_served = 0
        self.not_modified = 0
        self.cache_control = "max-age=60"
        self.card = b""
        self.redirect = None
        self.cut_streams = 0
        self.lose_answers = 0
        self.breaks = False
        self.queries = []
        self.bodies = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.pair)
            self.me = self.pair.planner
            port = free_port()
            self.url = f"https://127.0.0.1:{port}"
            self.publish()
            self._agent_app = agent_app(self.url, executor=self.agent)
            tls = self.pair.analyst.server_tls(client_certificates=ClientCertificates.OPTIONAL)
            await stack.enter_async_context(serving(self, tls, port=port))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    def members(self, **more):
        """A card of the agent that asks for mTLS."""
        asks = {"securitySchemes": MTLS, "securityRequirements": ASKS_FOR_MTLS}
        return {**card_members(self.url), **asks, **more}

    def publish(self, members=None, *, serial=1, spiffe_id=None, shield=None, extensions=(), is_bound=True):
        """Serve a card, signed by analyst's SVID, or by that of `shield`."""
        svid = (shield or self.pair.analyst).source.svid
        now = self.domain.clock()
        binding = IdentityBinding(
            spiffe_id=spiffe_id or svid.spiffe_id,
            issued_at=now.replace(microsecond=0),
            expires_at=(now + timedelta(minutes=30)).replace(microsecond=0),
            serial=serial,
        )
        members = members or self.members()
        found = [*extensions, *([binding.to_extension()] if is_bound else [])]
        capabilities = {name: value for name, value in members["capabilities"].items() if value}
        card = AgentCard.of({**members, "capabilities": {**capabilities, "extensions": found}})
        self.card = sign_card(card, signer_of(svid))

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._agent_app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["method"], scope["path"], headers))
        self.queries.append(scope["query_string"].decode())
        receive = self._reading(receive)
        if scope["path"] == CARD_PATH:
            await self._serve_card(headers, send)
        elif self.breaks:
            await answer(send, 502, {"content-type": "text/html"}, b"<h1>Bad gateway</h1>")
        elif self.lose_answers:
            self.lose_answers -= 1
            await receive()
            head = [(b"content-type", b"application/json"), (b"content-length", b"100")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            raise ConnectionError("the connection breaks before the answer")
        elif self.redirect is not None:
            await answer(send, 307, {"location": self.redirect})
        else:
            await self._agent_app(scope, receive, self._cutting(send) if self.cut_streams else send)

    def _reading(self, receive):
        async def read():
            message = await receive()
            self.bodies.append(message.get("body", b""))
            return message

        return read

    def _cutting(self, send):
        """End the connection of a stream after its first event."""
        events = 0

        async def cut(message):
            nonlocal events
            if message["type"] == "http.response.start":
                is_stream = b"event-stream" in dict(message["headers"]).get(b"content-type", b"")
                events = 0 if is_stream else -(10**6)
            elif message.get("body"):
                events += 1
            await send(message)
            if events == 1:
                self.cut_streams -= 1
                raise ConnectionError("the connection breaks")

        return cut

    async def _serve_card(self, headers, send):
        import hashlib

        tag = f'"{hashlib.sha256(self.card).hexdigest()[:16]}"'
        fields = {"etag": tag, "cache-control": self.cache_control, "content-type": "application/json"}
        if headers.get("if-none-match") == tag:
            self.not_modified += 1
            await answer(send, 304, fields)
        else:
            self.cards_served += 1
            await answer(send, 200, fields, self.card)


async def answer(send, status, headers, body=b""):
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    if status != 304:
        fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def signer_of(svid):
    """Sign as this SVID's agent."""
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = tuple(each.public_bytes(Encoding.DER) for each in svid.chain)
    return CardSigner(kid="leaf", key=svid.private_key, chain=chain)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
