"""`Shield`: an agent's identity, whom it trusts, and what it lets others do, in one object that is always current.

async with Shield.from_env() as me, me.client(expect="spiffe://acme.test/agents/analyst") as http:
    answer = await http.post("https://analyst.acme.test:8443/tasks", json={"skill": "summarise"})
"""

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

from agentshield.clock import Clock, system_clock
from agentshield.errors import ConfigurationError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.authorizers import Expected, authorizer_for
from agentshield.sdk.endpoint import VARIABLE, Endpoint
from agentshield.sdk.errors import SourceClosedError
from agentshield.sdk.file_source import watch_directory
from agentshield.sdk.sources import DEFAULT_WAIT, X509Source
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.sdk.x509_context import Outage, SourceStatus, X509Context

if TYPE_CHECKING:
    import httpx
    import httpx2

    from agentshield.audit.event import AuditEvent
    from agentshield.audit.log import Receipt
    from agentshield.identity.jwt_svid import JwtSvid
    from agentshield.identity.wit_svid import WitSvid
    from agentshield.policy.engine import Decision
    from agentshield.sdk.a2a_client.client import A2AClient
    from agentshield.sdk.a2a_client.serials import SeenSerials
    from agentshield.sdk.caller import Caller
    from agentshield.sdk.decisions import Decisions
    from agentshield.sdk.enforcement import LocalPolicy
    from agentshield.sdk.jwt_source import JwtSource
    from agentshield.sdk.token_client import TokenClients
    from agentshield.sdk.token_holder import TokenHolder
    from agentshield.sdk.wit_source import WitSource
    from agentshield.sdk.workload_api import WorkloadApiClient

SVID_DIRECTORY_VARIABLE: Final = "AGENTSHIELD_SVID_DIR"
STATE_DIRECTORY_VARIABLE: Final = "AGENTSHIELD_STATE_DIR"


class Shield:
    """One identity of this process. Make it with a `from_…` method and use it as an async context manager.

    Entering waits for the first SVID, `wait` seconds at most, and raises what stood in the way.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint | None = None,
        directory: Path | None = None,
        register_as: str | None = None,
        policy: "LocalPolicy | None" = None,
        hint: str | None = None,
        wait: float = DEFAULT_WAIT,
        clock: Clock = system_clock,
    ) -> None:
        if (endpoint is None) == (directory is None):
            raise TypeError("a Shield has either an endpoint or a directory; use Shield.from_env() and its sisters")
        self._endpoint = endpoint
        self._directory = directory
        self._register_as = register_as
        self._policy = policy
        self._hint = hint
        self._wait = wait
        self._clock = clock
        self._opened: contextlib.AsyncExitStack | None = None
        self._api: WorkloadApiClient | None = None
        self._source: X509Source | None = None
        self._jwt: JwtSource | None = None
        self._wit: WitSource | None = None
        self._decisions: Decisions | None = None
        self._token_clients: TokenClients | None = None
        self._seen_cards: SeenSerials | None = None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """Be whoever the environment says: SPIFFE_ENDPOINT_SOCKET, or a directory in AGENTSHIELD_SVID_DIR.

        `options` are those of `from_socket`.

        Raises:
            ConfigurationError: neither is set, or the first is not an endpoint.
        """
        if not environment.get(VARIABLE) and (directory := environment.get(SVID_DIRECTORY_VARIABLE)):
            return cls.from_files(directory, **options)
        return cls(endpoint=Endpoint.from_environment(environment), **options)

    @classmethod
    def from_socket(
        cls,
        address: str | os.PathLike[str] | Endpoint,
        *,
        policy: "LocalPolicy | None" = None,
        hint: str | None = None,
        wait: float = DEFAULT_WAIT,
        clock: Clock = system_clock,
    ) -> Self:
        """Ask the Workload API at `address`, ours or SPIRE's: a URI, or the path of a socket.

        `hint` picks one of several identities. `policy` is for a node agent that pushes none, as SPIRE's: without it
        every decision there is a deny.

        Raises:
            ConfigurationError: not an address.
        """
        return cls(endpoint=Endpoint.of(address), policy=policy, hint=hint, wait=wait, clock=clock)

    @classmethod
    def from_files(
        cls,
        directory: str | os.PathLike[str],
        *,
        policy: "LocalPolicy | None" = None,
        wait: float = DEFAULT_WAIT,
        clock: Clock = system_clock,
    ) -> Self:
        """Read SVID and bundle from files that something else renews; `sdk.file_source` lists the layouts."""
        return cls(directory=Path(directory), policy=policy, wait=wait, clock=clock)

    @classmethod
    def local(cls, name: str, *, wait: float = DEFAULT_WAIT, clock: Clock = system_clock) -> Self:
        """Be the agent `name` of the `agentshield up` that runs on this machine, for development.

        The process registers itself with the node agent, so it works without `agentshield run`.
        """
        socket = _state_directory() / "run" / "workload.sock"
        return cls(endpoint=Endpoint(path=str(socket.resolve())), register_as=name, wait=wait, clock=clock)

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise ConfigurationError("this Shield is open already")
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        feed: Callable[[], AsyncGenerator[X509Context | Outage]]
        if self._endpoint is not None:
            from agentshield.sdk.workload_api import WorkloadApiClient

            self._api = await stack.enter_async_context(WorkloadApiClient(self._endpoint))
            feed = self._api.watch_x509_contexts
            if self._register_as is not None:
                await _register(self._api, self._register_as)
        else:
            assert self._directory is not None
            directory = self._directory
            feed = lambda: watch_directory(directory)  # noqa: E731  shorter than a def that needs its own docstring
        source = X509Source(feed, hint=self._hint, wait=self._wait)
        self._source = await stack.enter_async_context(source)
        await self._open_services(stack, source)

    async def _open_services(self, stack: contextlib.AsyncExitStack, source: X509Source) -> None:
        from agentshield.sdk.decisions import Decisions
        from agentshield.sdk.enforcement import LocalEnforcement, NodeEnforcement, NoEnforcement
        from agentshield.sdk.jwt_source import JwtSource

        enforcement: NodeEnforcement | LocalEnforcement | NoEnforcement
        if self._policy is not None:
            enforcement = LocalEnforcement(self._policy)
        elif self._api is not None:
            enforcement = NodeEnforcement(self._api)
        else:
            enforcement = NoEnforcement()
        self._decisions = Decisions(enforcement, source, self._clock)
        stack.push_async_callback(self._decisions.aclose)
        if self._api is not None:
            self._jwt = JwtSource(self._api, clock=self._clock)
            stack.push_async_callback(self._jwt.aclose)
        source.subscribe(self._forget_tokens)

    def _forget_tokens(self, context: X509Context) -> None:
        if context.svids:
            return
        for held in (self._jwt, self._wit, self._token_clients):
            if held is not None:
                held.forget()

    def close_with(self, aclose: Callable[[], Awaitable[object]]) -> None:
        """Call `aclose` when this shield is closed, before its identity goes.

        Raises:
            SourceClosedError: it is not open.
        """
        if self._opened is None:
            raise SourceClosedError("this Shield is not open: use it in `async with`")
        self._opened.push_async_callback(aclose)

    @property
    def _x509(self) -> X509Source:
        if self._source is None:
            raise SourceClosedError("this Shield is not open: use it in `async with`")
        return self._source

    @property
    def spiffe_id(self) -> SpiffeId:
        """Our name.

        Raises:
            NoIdentityError, SourceClosedError: we have none.
        """
        return self._x509.spiffe_id

    @property
    def source(self) -> X509Source:
        """The X509-SVID and bundles, for code that needs them bare."""
        return self._x509

    @property
    def clock(self) -> Clock:
        """What time it is for this shield."""
        return self._clock

    def status(self) -> SourceStatus:
        """How we are doing: name, end of the SVID, trust domains, last fault."""
        return self._x509.status

    async def fetch_jwt_svid(self, audience: str | Sequence[str]) -> "JwtSvid":
        """Return a JWT-SVID for `audience`, from the cache while it is fresh.

        Raises:
            AgentShieldError: as `JwtSource.fetch`; ConfigurationError without a Workload API.
        """
        return await self._tokens.fetch(audience)

    async def fetch_wit_svid(self) -> "WitSvid":
        """Return our WIT-SVID and the key that it names, as the node agent has them now.

        Raises:
            AgentShieldError: as `WitSource.current`; ConfigurationError without a Workload API.
        """
        if self._api is None:
            raise ConfigurationError("WIT-SVIDs come from a Workload API, and this Shield reads files")
        if self._wit is None:
            from agentshield.sdk.wit_source import WitSource

            self._wit = WitSource(self._api, self.spiffe_id, clock=self._clock)
            self.close_with(self._close_wit)
        return await self._wit.current()

    async def _close_wit(self) -> None:
        source, self._wit = self._wit, None
        if source is not None:
            await source.aclose()

    async def verify_jwt_svid(self, token: str, *, audience: str) -> VerifiedIdentity:
        """Verify a JWT-SVID that somebody presented to us.

        Raises:
            AgentShieldError: as `JwtSource.verify`; ConfigurationError without a Workload API.
        """
        return await self._tokens.verify(token, audience=audience)

    @property
    def _tokens(self) -> "JwtSource":
        if self._jwt is None:
            raise ConfigurationError("JWT-SVIDs come from a Workload API, and this Shield reads files")
        return self._jwt

    @overload
    def client(
        self, *, expect: Expected, flavor: Literal["httpx2"] = "httpx2", **options: Any
    ) -> "httpx2.AsyncClient": ...
    @overload
    def client(self, *, expect: Expected, flavor: Literal["httpx"], **options: Any) -> "httpx.AsyncClient": ...
    def client(self, *, expect: Expected, flavor: Literal["httpx2", "httpx"] = "httpx2", **options: Any) -> Any:
        """Make an HTTP client that talks to `expect` and to nobody else.

        `expect` is a SPIFFE ID, several, a `TrustDomain`, or an authorizer. `options` are the library's own. A wrong
        server is a `ConnectError` that names both; `sdk.http.refusal_in` finds the AgentShield error in it.

        Raises:
            InvalidSpiffeIdError, ValueError: `expect` names nobody.
            TypeError: an option that would take TLS, proxies or transport out of our hands.
        """
        from agentshield.sdk.http import async_client

        return async_client(self.client_tls(expect=expect), flavor=flavor, clock=self._clock, **options)

    def auth(
        self,
        resource: str,
        *,
        scopes: Iterable[str] = (),
        on_behalf_of: "str | Caller | None" = None,
        audience: str | None = None,
        issuer: str | None = None,
        proof: Literal["x509-svid", "jwt-svid", "wit-svid"] = "x509-svid",
    ) -> Any:
        """Make an `Auth` that both httpx2 and httpx take: `shield.client(expect=…, auth=shield.auth(resource))`.

        It asks the authorization server `issuer`, by default the one that AGENTSHIELD_TOKEN_SERVICE names, for tokens
        with `scopes` for `audience`, by default `resource`, which is the https URL that requests go to. The tokens are
        bound to a key of ours, kept for most of their life, and sent to the origin of `resource` and nowhere else.
        With `on_behalf_of`, the token of somebody or a `Caller` who came with one, they are exchanged for it, and we
        are the actor. `proof` says with which SVID we ask: that of the connection, or a JWT-SVID besides, or a
        WIT-SVID besides with a proof of its key (`spiffe_wit`, where the server has that draft on).

        Raises:
            ConfigurationError: no issuer, a resource that is no https URL, or neither library is installed.
            ValueError: a `Caller` who came without a token.
        """
        from agentshield.sdk.token_auth import shield_auth
        from agentshield.sdk.token_cache import TokenWish
        from agentshield.sdk.token_client import TokenClients

        if self._token_clients is None:
            self._token_clients = TokenClients(self)
            self.close_with(self._close_token_clients)
        subject_token = on_behalf_of if on_behalf_of is None or isinstance(on_behalf_of, str) else on_behalf_of.token()
        wish = TokenWish(audience=audience or resource, scopes=frozenset(scopes), subject_token=subject_token)
        return shield_auth(self._token_clients.of(issuer, proof), resource, wish)

    async def _close_token_clients(self) -> None:
        clients, self._token_clients = self._token_clients, None
        if clients is not None:
            await clients.aclose()

    def a2a(self, card_url: str, **options: Any) -> "A2AClient":
        """Make a client of the A2A agent whose card is at `card_url`, or at the well-known place of that origin.

        Entering it fetches the card and verifies it: by the bundles we hold, or by enrolled `keys`. Calls then go to
        the agent of the card and to nobody else, with all that its card asks for. `options` are those of
        `sdk.a2a_client.link.LinkSettings`.

        Raises:
            InvalidInputError: no https URL.
            ValueError, TypeError: options that contradict each other, or that there are not.
        """
        from agentshield.sdk.a2a_client.card_source import card_url as checked
        from agentshield.sdk.a2a_client.client import A2AClient
        from agentshield.sdk.a2a_client.link import AgentLink, LinkSettings
        from agentshield.sdk.a2a_client.serials import SeenSerials

        if self._seen_cards is None:
            self._seen_cards = SeenSerials()
        settings = LinkSettings(has_jwt_svid=self._api is not None, **options)
        return A2AClient(AgentLink(self, checked(card_url), settings, seen=self._seen_cards))

    def client_tls(self, *, expect: Expected, alpn: Sequence[str] = ()) -> SpiffeContext:
        """Make a rotating TLS context to dial `expect`, for libraries that take an `ssl.SSLContext`."""
        tls = SpiffeContext.for_client(authorize=authorizer_for(expect), alpn=alpn, clock=self._clock)
        self._x509.keep_current(tls)
        return tls

    def server_tls(
        self,
        *,
        accept: Expected | None = None,
        client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
        alpn: Sequence[str] = (),
    ) -> SpiffeContext:
        """Make a rotating TLS context to listen with; it is its own `ssl_context_factory` for uvicorn.

        Without `accept` every peer that proves an identity in a trust domain we know passes the handshake; what it may
        do is then for `ShieldMiddleware` and `decide`.
        """
        tls = SpiffeContext.for_server(
            authorize=authorizer_for(accept) if accept is not None else None,
            client_certificates=client_certificates,
            alpn=alpn,
            on_refuse=self._peer_refused,
            clock=self._clock,
        )
        self._x509.keep_current(tls)
        return tls

    def verify_peer(self, peer: VerifiedIdentity) -> None:
        """Check again that a connected peer is still to be believed.

        Raises:
            AuthenticationError: its SVID has ended, or its authority or trust domain is no longer trusted.
        """
        self._x509.verifier.verify(peer.chain, at=self._clock())

    @property
    def decisions(self) -> "Decisions":
        """What we let others do: policy, standing, and the way to the audit log."""
        if self._decisions is None:
            raise SourceClosedError("this Shield is not open: use it in `async with`")
        return self._decisions

    async def decide(
        self,
        action: str,
        caller: "VerifiedIdentity | TokenHolder | Caller",
        *,
        context: Mapping[str, Any] | None = None,
    ) -> "Decision":
        """Decide whether `caller` may have us do `action`, and record the answer before returning it.

        Its `evaluation_id` is the event's id in the audit log.

        Raises:
            DecisionUnrecordedError: it would be an allow, and the audit log has not got it.
        """
        from agentshield.sdk.caller import Caller

        peer = caller.identity if isinstance(caller, Caller) else caller
        return await self.decisions.decide(action, peer, context=context)

    async def record(self, *events: "AuditEvent") -> "tuple[Receipt, ...]":
        """Write events to the audit log, and return once they are durable.

        Raises:
            DecisionUnrecordedError: they are not known to be.
        """
        return await self.decisions.record(*events)

    def _peer_refused(self, chain: Sequence[bytes], error: Exception) -> None:
        """Leave a trace of who was turned away in the handshake."""
        if self._decisions is not None:
            self._decisions.peer_refused(chain, error)


def _state_directory() -> Path:
    if named := os.environ.get(STATE_DIRECTORY_VARIABLE):
        return Path(named).absolute()
    from platformdirs import user_data_path

    return user_data_path("agentshield")


async def _register(api: "WorkloadApiClient", name: str) -> None:
    """Tell the node agent which agent this process is; the kernel tells it which process asks."""
    from agentshield.sdk.launch import register_self

    await register_self(api, name)
