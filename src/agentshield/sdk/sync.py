"""The same for programs without asyncio: a `Shield` on an event loop in a thread of its own, and nothing decided twice.

with SyncShield.local("planner") as me, me.client(expect="spiffe://acme.test/agents/analyst") as http:
    print(http.get("https://localhost:8443/hello").json())
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.authorizers import Expected
from agentshield.sdk.endpoint import Endpoint
from agentshield.sdk.errors import SourceClosedError
from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.sdk.x509_context import SourceStatus

if TYPE_CHECKING:
    import httpx
    import httpx2

    from agentshield.identity.jwt_svid import JwtSvid
    from agentshield.identity.wit_svid import WitSvid
    from agentshield.policy.engine import Decision
    from agentshield.sdk.caller import Caller

T = TypeVar("T")


class SyncShield:
    """`Shield`, method by method, for threads. Each promises and raises what its twin does."""

    def __init__(self, shield: Shield) -> None:
        self._shield = shield
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """As `Shield.from_env`."""
        return cls(Shield.from_env(environment, **options))

    @classmethod
    def from_socket(cls, address: str | os.PathLike[str] | Endpoint, **options: Any) -> Self:
        """As `Shield.from_socket`."""
        return cls(Shield.from_socket(address, **options))

    @classmethod
    def from_files(cls, directory: str | os.PathLike[str], **options: Any) -> Self:
        """As `Shield.from_files`."""
        return cls(Shield.from_files(directory, **options))

    @classmethod
    def local(cls, name: str, **options: Any) -> Self:
        """As `Shield.local`."""
        return cls(Shield.local(name, **options))

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise SourceClosedError("this SyncShield is open already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agentshield", daemon=True)
        self._thread.start()
        try:
            self._wait(self._shield.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._shield.__aexit__(None, None, None))
        self._stop()

    @property
    def spiffe_id(self) -> SpiffeId:
        """As `Shield.spiffe_id`."""
        return self._shield.spiffe_id

    def status(self) -> SourceStatus:
        """As `Shield.status`."""
        return self._shield.status()

    @overload
    def client(self, *, expect: Expected, flavor: Literal["httpx2"] = "httpx2", **options: Any) -> "httpx2.Client": ...
    @overload
    def client(self, *, expect: Expected, flavor: Literal["httpx"], **options: Any) -> "httpx.Client": ...
    def client(self, *, expect: Expected, flavor: Literal["httpx2", "httpx"] = "httpx2", **options: Any) -> Any:
        """As `Shield.client`, but a `Client` for threads."""
        from agentshield.sdk.http import sync_client

        return sync_client(self.client_tls(expect=expect), flavor=flavor, clock=self._shield.clock, **options)

    def auth(self, resource: str, **options: Any) -> Any:
        """As `Shield.auth`, for a blocking client."""
        return self._call(lambda: self._shield.auth(resource, **options))

    def client_tls(self, *, expect: Expected, alpn: Sequence[str] = ()) -> SpiffeContext:
        """As `Shield.client_tls`: for requests, urllib and other libraries that take an `ssl.SSLContext`."""
        return self._call(lambda: self._shield.client_tls(expect=expect, alpn=alpn))

    def server_tls(
        self,
        *,
        accept: Expected | None = None,
        client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
        alpn: Sequence[str] = (),
    ) -> SpiffeContext:
        """As `Shield.server_tls`."""
        return self._call(
            lambda: self._shield.server_tls(accept=accept, client_certificates=client_certificates, alpn=alpn)
        )

    def fetch_jwt_svid(self, audience: str | Sequence[str]) -> "JwtSvid":
        """As `Shield.fetch_jwt_svid`."""
        return self._wait(self._shield.fetch_jwt_svid(audience))

    def fetch_wit_svid(self) -> "WitSvid":
        """As `Shield.fetch_wit_svid`."""
        return self._wait(self._shield.fetch_wit_svid())

    def verify_jwt_svid(self, token: str, *, audience: str) -> VerifiedIdentity:
        """As `Shield.verify_jwt_svid`."""
        return self._wait(self._shield.verify_jwt_svid(token, audience=audience))

    def decide(
        self, action: str, caller: "VerifiedIdentity | Caller", *, context: Mapping[str, Any] | None = None
    ) -> "Decision":
        """As `Shield.decide`."""
        return self._wait(self._shield.decide(action, caller, context=context))

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function on the loop's thread, where the sources live."""

        async def on_the_loop() -> T:
            return function()

        return self._wait(on_the_loop())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise SourceClosedError("this SyncShield is not open: use it in `with`")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None, "only an open shield is stopped"
        assert thread is not None, "its loop has a thread"
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
