"""The WIT-SVID of this process and its key, as the node agent has them now; followed once somebody has asked for it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

from agentshield.clock import Clock, system_clock
from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.wit_svid import WitSvid
from agentshield.sdk.errors import NoIdentityError, SourceClosedError
from agentshield.sdk.x509_context import Outage

DEFAULT_WAIT: Final = 10.0  # seconds

_log = logging.getLogger("agentshield.sdk.wit_source")


class WitAgent(Protocol):
    """What we need of a node agent: `WorkloadApiClient` has it."""

    def watch_wit_svids(self, *, subject: SpiffeId | None = None) -> AsyncGenerator[Sequence[WitSvid] | Outage]:
        """Follow our WIT-SVIDs."""
        ...


class WitSource:
    """The WIT-SVID of one of our names. `wait` is how many seconds a caller waits for it at most."""

    def __init__(
        self, agent: WitAgent, subject: SpiffeId, *, clock: Clock = system_clock, wait: float = DEFAULT_WAIT
    ) -> None:
        self._agent = agent
        self._subject = subject
        self._clock = clock
        self._wait = wait
        self._held: WitSvid | None = None
        self._fault: AgentShieldError | None = None
        self._news = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._is_closed = False

    async def current(self) -> WitSvid:
        """Return the WIT-SVID of now, with the key to sign proofs with.

        Raises:
            NoIdentityError, UnavailableError: the node agent gives none, or none in time.
            NotOfferedError: it has no WIT-SVIDs to give, as a spire-agent has not.
            SourceClosedError: this source was closed.
        """
        if self._is_closed:
            raise SourceClosedError("the source of WIT-SVIDs is closed")
        if self._follower is None or self._follower.done():
            self._fault = None
            self._follower = asyncio.create_task(self._follow(), name="agentshield-wit-svids")
        try:
            async with asyncio.timeout(self._wait):
                while (held := self._fresh()) is None:
                    if self._follower.done() or isinstance(self._fault, NoIdentityError):
                        raise self._why_none()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise self._why_none() from None
        return held

    def forget(self) -> None:
        """Drop token and key: our identity was taken away."""
        self._held = None

    async def aclose(self) -> None:
        """Stop following, and drop what is held."""
        self._is_closed = True
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
        self.forget()

    def _fresh(self) -> WitSvid | None:
        return self._held if self._held is not None and self._clock() < self._held.expires_at else None

    def _why_none(self) -> AgentShieldError:
        return self._fault or UnavailableError(f"no WIT-SVID of {self._subject} arrived within {self._wait:g}s")

    async def _follow(self) -> None:
        try:
            async for update in self._agent.watch_wit_svids(subject=self._subject):
                self._take(update)
        except AgentShieldError as error:  # one that the feed does not retry; the next caller begins anew
            self._fault = error
        except Exception:
            self._fault = UnavailableError("WIT-SVIDs are no longer followed: see the log for the fault")
            _log.exception("WIT-SVIDs are no longer followed")
        finally:
            self._news.set()

    def _take(self, update: Sequence[WitSvid] | Outage) -> None:
        if isinstance(update, Outage):
            self._fault = update.error
            if isinstance(update.error, NoIdentityError):
                self._held = None  # taken away, not merely out of reach
        else:
            self._fault = None
            self._held = next((each for each in update if each.spiffe_id == self._subject), None)
        self._news.set()
