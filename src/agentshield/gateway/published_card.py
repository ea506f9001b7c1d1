"""An agent's card as callers of the gateway see it: with the gateway's addresses, signed by the gateway.

The agent's own signature cannot hold for another address, so it is verified here and named in the new card
(`urn:agentshield:a2a:gateway:1`); what callers believe is the gateway's.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, Final

import httpx2

from agentshield.errors import AgentShieldError
from agentshield.gateway.settings import AgentRoute, GatewaySettings
from agentshield.identity.agent_card.binding import IDENTITY_EXTENSION, IdentityBinding
from agentshield.identity.agent_card.card import MAX_CARD_BYTES, AgentCard
from agentshield.identity.agent_card.errors import CardOutOfPlaceError, InvalidCardError
from agentshield.identity.agent_card.jose import CardSigner
from agentshield.identity.agent_card.signature import EnrolledKeys, sign_card, verify_card
from agentshield.sdk.a2a.errors import AgentUnreachableError
from agentshield.sdk.a2a.once import ONCE_EXTENSION, once_extension
from agentshield.sdk.a2a.operations import PROTOCOL_VERSION, Binding
from agentshield.sdk.a2a.skill import SKILL_EXTENSION, skill_extension
from agentshield.sdk.asgi_lifespan import Scope, Send
from agentshield.sdk.shield import Shield

GATEWAY_EXTENSION: Final = "urn:agentshield:a2a:gateway:1"
CARD_LIFETIME: Final = timedelta(hours=1)
_STEP_SECONDS: Final = 600
_MAX_AGE: Final = 60  # seconds that callers may keep a card without asking
_FETCH_SECONDS: Final = 5.0
_MTLS: Final = "mtls"
_OAUTH: Final = "oauth2"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCard:
    """The card that the agent showed us, and who vouched for it: a key, an SVID, or the connection alone ("")."""

    card: AgentCard
    signed_by: str
    digest: str


async def fetch_card(client: httpx2.AsyncClient, route: AgentRoute, shield: Shield) -> UpstreamCard:
    """Fetch the card of the agent of `route`, over a connection that it proved to be itself on.

    Raises:
        AgentUnreachableError: it does not answer, or with no card.
        AgentShieldError: the card, or a signature of it that names a trust domain we know, does not hold.
    """
    url = f"{route.url.rstrip('/')}/.well-known/agent-card.json"
    try:
        async with asyncio.timeout(_FETCH_SECONDS), client.stream("GET", url, follow_redirects=False) as response:
            body = await _read(response)
    except (httpx2.HTTPError, TimeoutError) as error:
        raise AgentUnreachableError(f"{route.name}: no card at {url}: {type(error).__name__}") from error
    card = AgentCard.parse(body)
    digest = hashlib.sha256(body).hexdigest()
    if not card.signatures:  # the agent itself said so, on a connection of its own
        return UpstreamCard(card=card, signed_by="", digest=digest)
    verified = verify_card(card, keys=EnrolledKeys(), bundles=shield.source.bundles, at=shield.clock())
    if verified.spiffe_id != route.spiffe_id:
        raise CardOutOfPlaceError(f"{route.name} shows the card of {verified.spiffe_id}, expected {route.spiffe_id}")
    return UpstreamCard(card=card, signed_by=verified.signed_by, digest=verified.digest)


async def _read(response: httpx2.Response) -> bytes:
    if response.status_code != 200:
        raise AgentUnreachableError(f"asked for its card, the agent answers {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_CARD_BYTES:
            raise InvalidCardError(f"card has more than {MAX_CARD_BYTES} bytes")
    return bytes(body)


class PublishedCard:
    """The card of one agent, signed anew when it or our SVID has changed, and every ten minutes.

    Its serial counts these steps of time, so replicas that share nothing agree on it: a caller that asks one after the
    other must not take the second's card for an older one.
    """

    def __init__(self, route: AgentRoute, settings: GatewaySettings, shield: Shield, upstream: UpstreamCard) -> None:
        self._route = route
        self._settings = settings
        self._shield = shield
        self._upstream = upstream
        self.card = AgentCard.of(_members(route, settings, upstream))
        self._signed: tuple[bytes, tuple[str, int]] | None = None  # the document, and by which leaf and serial it is
        self._written_at = shield.clock()

    def replace(self, upstream: UpstreamCard) -> bool:
        """Take in a newer card of the agent; return whether it differs."""
        if upstream.digest == self._upstream.digest:
            return False
        self.card = AgentCard.of(_members(self._route, self._settings, upstream))
        self._upstream, self._signed = upstream, None
        return True

    def document(self) -> bytes:
        """Return the signed card. Raises: InvalidCardError, something in it cannot be signed for everybody."""
        now, svid = self._shield.clock(), self._shield.source.svid
        state = (hashlib.sha256(svid.chain_der()).hexdigest(), int(now.timestamp()) // _STEP_SECONDS)
        if self._signed is None or self._signed[1] != state:
            leaf, serial = state
            binding = IdentityBinding(
                spiffe_id=svid.spiffe_id,
                issued_at=now.replace(microsecond=0),
                expires_at=min(now + CARD_LIFETIME, svid.not_after).replace(microsecond=0),
                serial=serial,
                proofs=frozenset({"x509-svid"} | ({"dpop", "mtls-token"} if self._takes_tokens else set())),
            )
            signer = CardSigner(kid=leaf, key=svid.private_key, chain=tuple(_ders(svid.chain)))
            self._signed = (sign_card(_with_extension(self.card, binding.to_extension()), signer), state)
            self._written_at = now
        return self._signed[0]

    async def serve(self, scope: Scope, send: Send) -> None:
        """Answer a request for it (A2A 8.6): to everybody, with what it takes to keep it."""
        if scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        try:
            document = self.document()
        except AgentShieldError:
            await _send(send, 503, [(b"retry-after", b"5")], b"")
            return
        tag = f'"{hashlib.sha256(document).hexdigest()[:32]}"'.encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", f"public, max-age={_MAX_AGE}".encode()),
            (b"etag", tag),
            (b"last-modified", format_datetime(self._written_at, usegmt=True).encode()),
        ]
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        if tag in [each.strip().removeprefix(b"W/") for each in known.split(b",")]:
            await _send(send, 304, headers, b"")
            return
        await _send(send, 200, headers, document if scope["method"] == "GET" else b"", length=len(document))

    @property
    def _takes_tokens(self) -> bool:
        return self._settings.resource_of(self._route) is not None


def _members(route: AgentRoute, settings: GatewaySettings, upstream: UpstreamCard) -> dict[str, Any]:
    """The agent's card with our addresses, and with what we ask for where it asks for nothing."""
    members: dict[str, Any] = json.loads(json.dumps(dict(upstream.card.members)))
    members["supportedInterfaces"] = _interfaces(route, settings, upstream.card)
    kept = [
        each
        for each in members["capabilities"].get("extensions", [])
        if each.get("uri") not in (IDENTITY_EXTENSION, GATEWAY_EXTENSION, SKILL_EXTENSION, ONCE_EXTENSION)
    ]
    params = {"agent": str(route.spiffe_id), "cardDigest": upstream.digest}
    if upstream.signed_by:
        params["signedBy"] = upstream.signed_by
    ours = {
        "uri": GATEWAY_EXTENSION,
        "description": "The agent behind this gateway, and its own card",
        "params": params,
    }
    members["capabilities"]["extensions"] = [*kept, skill_extension(is_required=False), once_extension(), ours]
    if not upstream.card.requirements:
        _ask_for_identity(members, route, settings)
    found: dict[str, Any] = _without_empty(members)
    return found


def _interfaces(route: AgentRoute, settings: GatewaySettings, card: AgentCard) -> list[dict[str, Any]]:
    url = settings.url_of(route)
    addresses = {Binding.JSON_RPC: f"{url}/rpc", Binding.HTTP_JSON: f"{url}/v1"}
    tenants = dict.fromkeys(each.tenant for each in card.interfaces) or {"": None}
    found = [_interface(binding, address, tenant) for binding, address in addresses.items() for tenant in tenants]
    if settings.grpc_address:  # it has no path: among several agents, the tenant names ours
        names = tenants if len(settings.agents) == 1 else {route.name: None}
        found += [_interface(Binding.GRPC, settings.grpc_address, name) for name in names]
    return found


def _interface(binding: Binding, address: str, tenant: str) -> dict[str, Any]:
    members = {"url": address, "protocolBinding": binding.value, "protocolVersion": PROTOCOL_VERSION}
    return {**members, "tenant": tenant} if tenant else members


def _ask_for_identity(members: dict[str, Any], route: AgentRoute, settings: GatewaySettings) -> None:
    """The schemes' names have a scope each, as a signature in the SDKs' form covers nothing that is empty."""
    schemes: dict[str, Any] = {_MTLS: {"mtlsSecurityScheme": {"description": "An X509-SVID (SPIFFE)"}}}
    requirements = [{"schemes": {_MTLS: {"list": ["spiffe"]}}}]
    resource = settings.resource_of(route)
    if resource is not None:
        flow = {"tokenUrl": f"{resource.issuer}/token", "scopes": {"a2a": "Call this agent"}}
        schemes[_OAUTH] = {
            "oauth2SecurityScheme": {
                "description": "A sender-bound access token",
                "flows": {"clientCredentials": flow},
                "oauth2MetadataUrl": f"{resource.issuer}/.well-known/oauth-authorization-server",
            }
        }
        requirements.append({"schemes": {_OAUTH: {"list": ["a2a"]}}})
    members["securitySchemes"], members["securityRequirements"] = schemes, requirements


def _with_extension(card: AgentCard, extension: Mapping[str, Any]) -> AgentCard:
    members = dict(card.members)
    capabilities = dict(members["capabilities"])
    capabilities["extensions"] = [*capabilities.get("extensions", []), extension]
    return AgentCard.of({**members, "capabilities": capabilities})


def _without_empty(value: Any) -> Any:
    """What is empty in the agent's card says nothing, but a signature over it would not cover it everywhere.

    A security object that is empty is not dropped: it says something, and the card is then refused when it is signed.
    """
    if isinstance(value, dict):
        return {name: _without_empty(each) for name, each in value.items() if each not in ("", []) or "ecurity" in name}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def _ders(chain: Any) -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return [each.public_bytes(Encoding.DER) for each in chain]


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, length: int | None = None
) -> None:
    size = len(body) if length is None else length
    own = [] if status == 304 else [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *own]})
    await send({"type": "http.response.body", "body": body})
