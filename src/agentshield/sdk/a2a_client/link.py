"""Between us and one agent: its card, the connection that the card binds, and the proofs that go along with calls."""

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from agentshield.identity.agent_card.signature import CardKeys, EnrolledKeys, VerifiedCard
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.a2a.call import A2ACall
from agentshield.sdk.a2a.operations import Binding, Operation
from agentshield.sdk.a2a.requests import read_request
from agentshield.sdk.a2a_client.authenticate import PlanAuth
from agentshield.sdk.a2a_client.card_source import CardSource
from agentshield.sdk.a2a_client.credentials import PublicTls, Secret, Wallet
from agentshield.sdk.a2a_client.errors import CardPeerError
from agentshield.sdk.a2a_client.exchange import AgentWire
from agentshield.sdk.a2a_client.planner import KNOWN_EXTENSIONS, CallPlan, choose_interface, plan_call
from agentshield.sdk.a2a_client.serials import SeenSerials
from agentshield.sdk.authorizers import Expected
from agentshield.sdk.clients.oauth import VARIABLE, checked_issuer
from agentshield.sdk.egress_connection import tls_context
from agentshield.sdk.shield import Shield


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What the program said about the agent.

    `expect` is who may show the card: by default any workload of our trust domain. `keys` are those enrolled for cards;
    `via` says that it is an agent of the web. `secrets` go by the names of the card's schemes. `audience` is what
    tokens are for, by default the agent's origin, and `issuer` whose, by default the environment's token service.
    """

    expect: Expected | None = None
    keys: CardKeys = field(default_factory=EnrolledKeys)
    via: PublicTls | None = None
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    audience: str | None = None
    issuer: str | None = None
    has_jwt_svid: bool = True

    def __post_init__(self) -> None:
        if self.via is not None and self.expect is not None:
            raise ValueError("expect names a SPIFFE ID, which an agent of the web does not prove")

    @property
    def wallet(self) -> Wallet:
        """What there is to show. Raises: ConfigurationError, the issuer is no https URL."""
        issuer = self.issuer or os.environ.get(VARIABLE)
        return Wallet(
            shows_svid=self.via is None,
            has_jwt_svid=self.has_jwt_svid,
            issuer=checked_issuer(issuer) if issuer else None,
            secrets=self.secrets,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A request that is ready to go: what it says, by which wire, with which proofs."""

    call: A2ACall
    wire: AgentWire
    auth: PlanAuth


class AgentLink:
    """Open it before use. When the card's time is over it is fetched anew, and what follows from it is decided anew."""

    def __init__(self, shield: Shield, url: str, settings: LinkSettings, *, seen: SeenSerials) -> None:
        self._shield = shield
        self._url = url
        self._settings = settings
        self._seen = seen
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[SpiffeId | None, httpx2.AsyncClient] = {}
        self._auths: dict[CallPlan, PlanAuth] = {}
        self._source: CardSource | None = None

    async def open(self) -> VerifiedCard:
        """Fetch and verify the card. Raises: as `CardSource.current`."""
        settings, shield = self._settings, self._shield
        client = await self._connected(settings.expect or shield.spiffe_id.trust_domain)
        self._source = CardSource(
            self._url,
            client,
            keys=settings.keys,
            bundles=(lambda: shield.source.bundles) if settings.via is None else None,
            seen=self._seen,
            clock=shield.clock,
        )
        return await self._source.current()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def card(self) -> VerifiedCard:
        """Return the card as it holds now. Raises: as `CardSource.current`."""
        assert self._source is not None, "open() comes first"
        return await self._source.current()

    async def plan(self, skill: str | None) -> CallPlan:
        """Return how we prove ourselves for `skill`. Raises: as `plan_call`."""
        verified = await self.card()
        interface = choose_interface(verified.card)
        return plan_call(verified, self._settings.wallet, interface=interface, skill=skill)

    async def auth_for(self, skill: str | None) -> PlanAuth:
        """Return what puts our proofs for `skill` on requests. Raises: as `plan_call`."""
        return self._auth(await self.plan(skill))

    def expected_of(self, verified: VerifiedCard) -> Expected:
        """Return who must answer at the card's addresses.

        Raises:
            CardPeerError: the card does not say, and neither did the program.
        """
        expect: Expected | None = verified.spiffe_id or self._settings.expect
        if expect is None:
            raise CardPeerError(
                "card names no SPIFFE ID, so a connection could be anybody's",
                hint="say expect='spiffe://…' for an agent with an SVID, via=PublicTls() for one of the web",
            )
        return expect

    async def prepare(self, operation: Operation, members: Mapping[str, Any], skill: str | None) -> PlannedCall:
        """Make a request ready, or raise before anything was sent.

        Raises:
            InvalidParamsError: it is not as A2A has it.
            AgentShieldError: the card does not hold any more, or we cannot prove what it asks for.
        """
        verified = await self.card()
        interface = choose_interface(verified.card)
        plan = plan_call(verified, self._settings.wallet, interface=interface, skill=skill)
        tenant = {"tenant": interface.tenant} if interface.tenant else {}  # A2A 4.4.6: echoed in every request
        call = A2ACall(
            operation=operation,
            binding=Binding(interface.binding),
            members=read_request(operation, {**members, **tenant}),
            extensions=KNOWN_EXTENSIONS & {each.uri for each in verified.card.extensions},
        )
        client = await self._client_for(verified)
        return PlannedCall(call=call, wire=AgentWire(client, interface), auth=self._auth(plan))

    async def ask(self, operation: Operation, members: Mapping[str, Any], skill: str | None) -> Mapping[str, Any]:
        """Send a request and return its result. Raises: as `prepare` and `AgentWire.ask`."""
        ready = await self.prepare(operation, members, skill)
        return await ready.wire.ask(ready.call, ready.auth)

    async def events(
        self, operation: Operation, members: Mapping[str, Any], skill: str | None
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """Send a request and yield the events of its answer. Raises: as `prepare` and `AgentWire.events`."""
        ready = await self.prepare(operation, members, skill)
        async with contextlib.aclosing(ready.wire.events(ready.call, ready.auth)) as events:
            async for event in events:
                yield event

    def _auth(self, plan: CallPlan) -> PlanAuth:
        """One for each plan: it remembers the nonces of the agent."""
        if plan not in self._auths:
            token = next((each for each in plan.proofs if each.kind == "token"), None)
            tokens = None
            if token is not None:
                tokens = self._shield.auth(
                    plan.origin, scopes=token.scopes, audience=self._settings.audience, issuer=self._settings.issuer
                )
            self._auths[plan] = PlanAuth(plan, self._shield, tokens=tokens)
        return self._auths[plan]

    async def _client_for(self, verified: VerifiedCard) -> httpx2.AsyncClient:
        """A connection to the agent of the card and to nobody else."""
        if verified.spiffe_id not in self._clients:
            expect = self.expected_of(verified) if self._settings.via is None else None
            self._clients[verified.spiffe_id] = await self._connected(expect)
        return self._clients[verified.spiffe_id]

    async def _connected(self, expect: Expected | None) -> httpx2.AsyncClient:
        client: httpx2.AsyncClient
        if self._settings.via is not None:
            client = httpx2.AsyncClient(verify=tls_context(self._settings.via.ca_pem), trust_env=False)
        else:
            assert expect is not None
            client = self._shield.client(expect=expect)
        return await self._stack.enter_async_context(client)
