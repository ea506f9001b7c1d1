"""HTTP clients that are sure whom they talk to: httpx2, or httpx, with our SVID, after the server's was checked.

The server's SPIFFE ID is checked inside the TLS handshake, so a wrong server gets no byte of any request. Requests go
over https only, also after a redirect, never through a proxy, and nothing is read from the environment.
"""

from functools import cache
from types import ModuleType
from typing import Any, Final, Literal

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, ConfigurationError
from agentshield.sdk.fresh_connections import AsyncBackend, SyncBackend
from agentshield.sdk.tls import SpiffeContext

Flavor = Literal["httpx2", "httpx"]

KEEPALIVE_EXPIRY: Final = 30.0  # seconds; the pool's, apart from the SVIDs'
_OURS: Final = frozenset({"verify", "cert", "proxy", "proxies", "transport", "mounts", "trust_env", "http2", "app"})


def async_client(tls: SpiffeContext, *, flavor: Flavor, clock: Clock, **options: Any) -> Any:
    """Make an `AsyncClient` of `flavor` over `tls`; `options` are the library's own, such as `timeout` or `base_url`.

    Raises:
        TypeError: an option that would take the connection out of our hands.
        ConfigurationError: the library is not installed.
    """
    library = _library(flavor)
    transport = _async_transport_class(flavor)(tls, clock, options.pop("limits", None))
    return library.AsyncClient(transport=transport, trust_env=False, **_checked(options))


def sync_client(tls: SpiffeContext, *, flavor: Flavor, clock: Clock, **options: Any) -> Any:
    """Make a `Client` of `flavor` over `tls`; as `async_client`.

    Raises:
        TypeError, ConfigurationError: as `async_client`.
    """
    library = _library(flavor)
    transport = _sync_transport_class(flavor)(tls, clock, options.pop("limits", None))
    return library.Client(transport=transport, trust_env=False, **_checked(options))


def refusal_in(error: BaseException) -> AgentShieldError | None:
    """Find the AgentShield error behind a `ConnectError` of httpx or httpx2, such as `PeerNotAllowedError`."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AgentShieldError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(_OURS & options.keys()):
        raise TypeError(f"shield.client() decides {', '.join(taken)} itself")
    return options


def _library(flavor: Flavor) -> ModuleType:
    """Import the library when it is first asked for: most programs use one of the two."""
    try:
        if flavor == "httpx2":
            import httpx2

            return httpx2
        import httpx

        return httpx
    except ImportError as error:
        raise ConfigurationError(
            f"{flavor} is not installed", hint="pip install 'agentshield-identity[httpx]'"
        ) from error


def _core(flavor: Flavor) -> ModuleType:
    if flavor == "httpx2":
        import httpcore2

        return httpcore2
    import httpcore

    return httpcore


@cache
def _async_transport_class(flavor: Flavor) -> Any:
    """The one transport for asyncio, once for each library's base class."""
    library, core = _library(flavor), _core(flavor)
    base: Any = library.AsyncHTTPTransport

    class SpiffeTransport(base):  # type: ignore[misc]
        def __init__(self, tls: SpiffeContext, clock: Clock, limits: Any) -> None:
            super().__init__(verify=tls, trust_env=False)
            self._tls = tls
            # The public way to a network backend is httpcore's pool; the transport has no argument for it.
            self._pool = core.AsyncConnectionPool(
                network_backend=AsyncBackend(core.AnyIOBackend(), tls, clock),
                **_pool_options(library, tls, limits),
            )

        async def handle_async_request(self, request: Any) -> Any:
            _require_https(library, request)
            try:
                return await super().handle_async_request(request)
            except (library.ReadError, library.RemoteProtocolError) as error:
                raise _explained(error, self._tls) from error

    return SpiffeTransport


@cache
def _sync_transport_class(flavor: Flavor) -> Any:
    """The same for threads."""
    library, core = _library(flavor), _core(flavor)
    base: Any = library.HTTPTransport

    class SpiffeTransport(base):  # type: ignore[misc]
        def __init__(self, tls: SpiffeContext, clock: Clock, limits: Any) -> None:
            super().__init__(verify=tls, trust_env=False)
            self._tls = tls
            self._pool = core.ConnectionPool(
                network_backend=SyncBackend(core.SyncBackend(), tls, clock), **_pool_options(library, tls, limits)
            )

        def handle_request(self, request: Any) -> Any:
            _require_https(library, request)
            try:
                return super().handle_request(request)
            except (library.ReadError, library.RemoteProtocolError) as error:
                raise _explained(error, self._tls) from error

    return SpiffeTransport


def _pool_options(library: ModuleType, tls: SpiffeContext, limits: Any) -> dict[str, Any]:
    limits = limits or library.Limits(
        max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEPALIVE_EXPIRY
    )
    return {
        "ssl_context": tls,
        "max_connections": limits.max_connections,
        "max_keepalive_connections": limits.max_keepalive_connections,
        "keepalive_expiry": limits.keepalive_expiry,
    }


def _require_https(library: ModuleType, request: Any) -> None:
    if request.url.scheme != "https":
        raise library.UnsupportedProtocol(
            f"{request.url.scheme}://{request.url.host} refused: a shield's client speaks https only", request=request
        )


def _explained(error: Any, tls: SpiffeContext) -> Exception:
    """With TLS 1.3 the server's refusal of our SVID looks like a connection that ends before an answer."""
    ours = tls.svid.spiffe_id if tls.svid is not None else "without an SVID"
    explained: Exception = type(error)(
        f"{error or type(error).__name__}; if this server never answers us, it may not accept {ours}"
    )
    return explained
