"""Identity that is always current: what the Workload API or a directory says now, handed to whoever uses it.

A fault keeps the last state, since an outage of the node agent must not stop its workloads; the SVIDs then run out by
themselves. A redaction (PermissionDenied) takes it away at once: from then on nothing is shown to peers.
"""

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Final, Self

from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import X509SvidVerifier
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.errors import NoIdentityError, SourceClosedError
from agentshield.sdk.tls import SpiffeContext
from agentshield.sdk.x509_context import Outage, SourceStatus, X509Context

Feed = Callable[[], AsyncGenerator[X509Context | Outage]]
Subscriber = Callable[[X509Context], None]

DEFAULT_WAIT: Final = 30.0  # seconds for the first SVID
_NOTHING: Final = X509Context(svids=(), bundles=BundleSet())

_log = logging.getLogger("agentshield.sdk.sources")


class X509Source:
    """The current X509-SVID and bundles of this process. A `BundleSource`.

    With several identities it shows the default one, or the one whose `hint` is given. Use it as an async context
    manager: entering waits until the first SVID is there, and says why if none comes.
    """

    def __init__(self, feed: Feed, *, hint: str | None = None, wait: float = DEFAULT_WAIT) -> None:
        self._feed = feed
        self._hint = hint
        self._wait = wait
        self._context = _NOTHING
        self._verifier = X509SvidVerifier(_NOTHING.bundles)
        self._rotations = 0
        self._last_error: AgentShieldError | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tls: weakref.WeakSet[SpiffeContext] = weakref.WeakSet()
        self._subscribers: list[Subscriber] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="agentshield-x509-source")
        try:
            await self._first_svid()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop following. Connections that use this source make no more handshakes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._last_error = SourceClosedError("the source of X509-SVIDs is closed")
        self._set(_NOTHING)

    @property
    def svid(self) -> X509Svid:
        """The SVID to show now.

        Raises:
            NoIdentityError, SourceClosedError: there is none.
        """
        svid = self._context.find(self._hint)
        if svid is None:
            raise self._why_none()
        return svid

    @property
    def verifier(self) -> X509SvidVerifier:
        """What verifies peers against the bundles of now; forgets what it has seen when they change."""
        return self._verifier

    @property
    def bundles(self) -> BundleSet:
        """What to trust now."""
        return self._context.bundles

    def bundle_for(self, trust_domain: TrustDomain) -> TrustBundle:
        """Return the bundle of `trust_domain`.

        Raises:
            UnknownTrustDomainError: there is none.
        """
        return self._context.bundles.bundle_for(trust_domain)

    def keep_current(self, tls: SpiffeContext) -> None:
        """Give `tls` the current SVID and bundles, now and after each rotation, for as long as somebody uses it."""
        self._tls.add(tls)
        self._apply(tls)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` after each change, on the event loop; returns the function that ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    @property
    def status(self) -> SourceStatus:
        """How the source is doing."""
        svid = self._context.find(self._hint)
        return SourceStatus(
            spiffe_id=str(svid.spiffe_id) if svid is not None else None,
            expires_at=svid.not_after if svid is not None else None,
            trust_domains=tuple(sorted(str(bundle.trust_domain) for bundle in self._context.bundles)),
            rotations=self._rotations,
            last_error=str(self._last_error) if self._last_error is not None else None,
        )

    async def _first_svid(self) -> None:
        """Wait for an identity, and at the deadline raise what stood in its way."""
        assert self._task is not None
        try:
            async with asyncio.timeout(self._wait):
                while self._context.find(self._hint) is None:
                    if self._task.done():
                        raise self._why_none()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise self._why_none() from None

    def _why_none(self) -> AgentShieldError:
        if self._last_error is not None:
            return self._last_error
        if self._context.svids:
            hints = ", ".join(ascii(svid.hint) for svid in self._context.svids)
            return NoIdentityError(f"none has hint {self._hint!a}; hints given: {hints}")
        return UnavailableError(f"no X509-SVID arrived within {self._wait:g}s")

    async def _follow(self) -> None:
        try:
            async for update in self._feed():
                self._take(update)
        except AgentShieldError as error:  # one that the feed does not retry
            self._last_error = error
            _log.error("identity is no longer kept current: %s", error)
        except Exception:
            self._last_error = UnavailableError("identity is no longer kept current: see the log for the fault")
            _log.exception("identity is no longer kept current")
        finally:
            self._news.set()

    def _take(self, update: X509Context | Outage) -> None:
        match update:
            case X509Context():
                self._last_error = None
                self._rotations += 1
                self._set(update)
            case Outage(error=error):
                if type(error) is not type(self._last_error):  # once an outage, not once a try
                    _log.warning("identity is not up to date: %s; hint: %s", error, error.hint)
                self._last_error = error
                if isinstance(error, NoIdentityError) and self._context.svids:
                    self._set(_NOTHING)
        self._news.set()

    def _set(self, context: X509Context) -> None:
        self._context = context
        self._verifier = X509SvidVerifier(context.bundles)
        for tls in list(self._tls):
            self._apply(tls)
        for subscriber in list(self._subscribers):
            try:
                subscriber(context)
            except Exception:  # one subscriber's fault must not keep the others stale
                _log.exception("subscriber of an X509Source failed")

    def _apply(self, tls: SpiffeContext) -> None:
        svid = self._context.find(self._hint)
        if svid is None:
            tls.withdraw()
        else:
            tls.update(svid, self._context.bundles)

    @property
    def spiffe_id(self) -> SpiffeId:
        """Our name.

        Raises:
            NoIdentityError, SourceClosedError: we have none.
        """
        return self.svid.spiffe_id
