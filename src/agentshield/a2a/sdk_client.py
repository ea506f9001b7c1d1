"""For clients of `a2a-sdk`: cards that are verified, and all that they ask for, by the same planner as `shield.a2a`.

async with sdk_client(shield, "https://analyst.acme.test") as client:
    async for event in client.send_message(request):
        ...

The SDK's own interceptor attaches the first credential that it finds, to whatever address, and knows no SVID.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx
from a2a.client import Client, ClientCallContext, ClientConfig, create_client
from a2a.client.interceptors import AfterArgs, BeforeArgs, ClientCallInterceptor
from a2a.types import AgentCard as SdkCard
from google.protobuf.json_format import MessageToDict, ParseDict

from agentshield.identity.agent_card.card import AgentCard
from agentshield.identity.agent_card.signature import CardKeys, EnrolledKeys, VerifiedCard, verify_card
from agentshield.sdk.a2a.operations import EXTENSIONS_HEADER
from agentshield.sdk.a2a.skill import named_skill
from agentshield.sdk.a2a_client.link import AgentLink, LinkSettings
from agentshield.sdk.a2a_client.planner import KNOWN_EXTENSIONS, choose_interface
from agentshield.sdk.a2a_client.serials import SeenSerials
from agentshield.sdk.egress_connection import tls_context
from agentshield.sdk.shield import Shield

TIMEOUT: Final = httpx.Timeout(300.0, connect=10.0)

_SKILL: Final = "agentshield-planned-skill"  # from the interceptor to the auth, and no further


class SkillInterceptor(ClientCallInterceptor):
    """Reads for which skill a message is, and says which extensions of the card we speak."""

    async def before(self, args: BeforeArgs) -> None:
        """As the SDK's. Raises: InvalidParamsError, the message names its skill in a wrong way."""
        context = args.context or ClientCallContext()
        parameters = dict(context.service_parameters or {})
        parameters.pop(_SKILL, None)
        message = getattr(args.input, "message", None)
        skill = None if message is None else named_skill(MessageToDict(message.metadata))
        if skill is not None:
            parameters[_SKILL] = skill
        spoken = sorted(KNOWN_EXTENSIONS & {each.uri for each in args.agent_card.capabilities.extensions})
        if spoken:
            parameters.setdefault(EXTENSIONS_HEADER, ", ".join(spoken))
        context.service_parameters = parameters
        args.context = context

    async def after(self, args: AfterArgs) -> None:
        """Leave the answer as it is."""


class PlannedAuth(httpx.Auth):
    """Puts on each request what the card asks for the skill of the call, and on none to another origin."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """As `httpx.Auth.async_auth_flow`. Raises: as `planner.plan_call`; ForeignOriginError."""
        skill = request.headers.pop(_SKILL, None)
        auth: Any = await self._link.auth_for(skill)  # it does the same to requests of either library
        async with aclosing(auth.async_auth_flow(request)) as flow:
            step = await anext(flow)
            while True:
                response = yield step
                try:
                    step = await flow.asend(response)
                except StopAsyncIteration:
                    return


@asynccontextmanager
async def sdk_client(shield: Shield, card_url: str, **options: Any) -> AsyncGenerator[Client]:
    """Yield a client of `a2a-sdk` for the agent whose card is at `card_url`; `options` are those of `LinkSettings`.

    Raises:
        AgentShieldError: the card is not believed, or has no interface that we speak.
    """
    settings = LinkSettings(**options)
    link = AgentLink(shield, card_url, settings, seen=SeenSerials())
    try:
        verified = await link.open()
        async with _http_client(shield, link, settings, verified) as http:
            config = ClientConfig(
                httpx_client=http,
                streaming=verified.card.has_streaming,
                supported_protocol_bindings=["JSONRPC", "HTTP+JSON"],
            )
            yield await create_client(_sdk_card(verified), config, interceptors=[SkillInterceptor()])
    finally:
        await link.aclose()


def card_verifier(shield: Shield, keys: CardKeys | None = None) -> Callable[[SdkCard], None]:
    """Return a `signature_verifier` for the SDK's own card resolver: strict, by our bundles and enrolled `keys`.

    It judges the card alone. That who answers is who the card is about, only `sdk_client` and `shield.a2a` see to.
    """

    def verify(card: SdkCard) -> None:
        read = AgentCard.of(MessageToDict(card))
        verify_card(read, keys=keys or EnrolledKeys(), bundles=shield.source.bundles, at=shield.clock())

    return verify


def _http_client(shield: Shield, link: AgentLink, settings: LinkSettings, verified: VerifiedCard) -> httpx.AsyncClient:
    auth = PlannedAuth(link)
    if settings.via is not None:
        tls = tls_context(settings.via.ca_pem)
        return httpx.AsyncClient(verify=tls, trust_env=False, auth=auth, timeout=TIMEOUT)
    return shield.client(expect=link.expected_of(verified), flavor="httpx", auth=auth, timeout=TIMEOUT)


def _sdk_card(verified: VerifiedCard) -> SdkCard:
    """The card with the one interface that we chose: the SDK would choose by rules of its own."""
    chosen = verified.card.interfaces.index(choose_interface(verified.card))
    interface = verified.card.members["supportedInterfaces"][chosen]
    return ParseDict({**verified.card.members, "supportedInterfaces": [interface]}, SdkCard())
