"""X509-SVIDs kept fresh: when to replace one, and the loop that does it.

An SVID is issued when a workload first asks for it, and replaced at half its life as long as somebody waits on it. A
key therefore exists only on nodes where its workload runs, and a cache of a thousand entries costs nothing at rest.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError, UnavailableError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.issue import authority_id, make_csr
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.x509_svid import X509Svid
from agentshield.node.backoff import Backoff
from agentshield.node.cache import HeldSvid, IdentityCache
from agentshield.node.upstream import Upstream
from agentshield.sdk.clients.values import CsrForEntry, IssuedX509

log = logging.getLogger(__name__)

BATCH: Final = 100  # small enough that a new workload does not wait long behind a mass rotation
JITTER: Final = 0.1  # of the half-life, so that SVIDs issued together are not replaced together
LONGEST_SLEEP: Final = 5.0  # seconds: timers stand still while a machine sleeps, so the wall clock is looked at often
JUMP: Final = timedelta(seconds=10)


def rotate_at(not_before: datetime, not_after: datetime, *, jitter: float) -> datetime:
    """Half-life, moved by `jitter` (from -1 to 1) times a tenth of it."""
    return not_before + (not_after - not_before) / 2 * (1 + JITTER * jitter)


def active_authorities(bundle: TrustBundle) -> frozenset[str] | None:
    """The ids of the X.509 authorities whose signatures are still worth having: there, and not tainted.

    None when one of them has no key identifier: then no SVID can be told to be another's.
    """
    try:
        return frozenset(authority_id(each.certificate) for each in bundle.x509_authorities if not each.tainted)
    except InvalidSvidError:
        return None


def must_replace(held: HeldSvid, active: frozenset[str] | None, *, at: datetime) -> bool:
    """Whether the SVID is past its time, or its authority past its own; `active` is None while that is not known."""
    return at >= held.rotate_at or (active is not None and held.issuer_id not in active)


class ClockJumpDetector:
    """Notices that the wall clock moved and the monotonic one did not: the machine slept, or its time was set."""

    def __init__(self, *, wall: datetime, monotonic: float) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def jump(self, *, wall: datetime, monotonic: float) -> timedelta | None:
        """How far the clocks drifted apart since the last call, if it is more than 10 s; None otherwise."""
        drift = (wall - self._wall) - timedelta(seconds=monotonic - self._monotonic)
        self._wall, self._monotonic = wall, monotonic
        return drift if abs(drift) > JUMP else None


class X509Rotation:
    """Gets and replaces the SVIDs that workloads wait for."""

    def __init__(
        self,
        cache: IdentityCache,
        upstream: Upstream,
        clock: Clock,
        *,
        on_clock_jump: Callable[[], None] = lambda: None,
    ) -> None:
        self._cache = cache
        self._upstream = upstream
        self._clock = clock
        self._on_clock_jump = on_clock_jump
        self._backoff = Backoff()
        self._retry_at: dict[str, float] = {}
        self._judged: tuple[TrustBundle | None, frozenset[str] | None] = (None, None)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        detector = ClockJumpDetector(wall=self._clock(), monotonic=loop.time())
        while True:
            self._cache.work_waits.clear()
            self._drop_expired()
            await self._replace(self._due(now=loop.time()))
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it can lose a cancellation that comes together with the event.
                async with asyncio.timeout(self._sleep(now=loop.time())):
                    await self._cache.work_waits.wait()
            if (drift := detector.jump(wall=self._clock(), monotonic=loop.time())) is not None:
                log.warning("clock moved by %.0f s; SVIDs are checked at once", drift.total_seconds())
                self._on_clock_jump()

    def authority_is_back(self) -> None:
        """Try again at once what failed while the authority could not be reached."""
        self._backoff.reset()
        self._retry_at.clear()
        self._cache.forget_problems()
        self._cache.work_waits.set()

    def _due(self, *, now: float) -> list[str]:
        at, active = self._clock(), self._active()
        due = []
        for entry_id in self._cache.take_wanted():
            held = self._cache.find_svid(entry_id)
            if (held is None or must_replace(held, active, at=at)) and self._retry_at.get(entry_id, 0) <= now:
                due.append(entry_id)
        due.sort(key=lambda each: self._cache.find_svid(each) is not None)  # those who have none first
        return due

    def _active(self) -> frozenset[str] | None:
        """The active authorities' ids, worked out once for each bundle."""
        bundle = self._cache.own_bundle
        if bundle is not self._judged[0]:
            self._judged = (bundle, active_authorities(bundle) if bundle is not None else None)
        return self._judged[1]

    def _drop_expired(self) -> None:
        at = self._clock()
        self._cache.expire(at=at)
        for entry_id in self._cache.held_ids:
            held = self._cache.find_svid(entry_id)
            if held is not None and held.svid.not_after <= at:
                self._cache.discard_svid(entry_id)
        for entry_id in [each for each in self._retry_at if self._cache.find_entry(each) is None]:
            del self._retry_at[entry_id]

    def _sleep(self, *, now: float) -> float:
        """Until the next SVID is due, or a retry may be made; always short enough to notice a clock jump."""
        at = self._clock()
        waits = [LONGEST_SLEEP]
        for entry_id in self._cache.used_ids:
            held = self._cache.find_svid(entry_id)
            until_due = (held.rotate_at - at).total_seconds() if held is not None else 0.0
            waits.append(max(until_due, self._retry_at.get(entry_id, 0) - now, 0.0))
        return min(waits)

    async def _replace(self, due: Sequence[str]) -> None:
        for start in range(0, len(due), BATCH):
            try:
                await self._replace_batch(due[start : start + BATCH])
            except AgentShieldError as error:
                log.warning("no X509-SVIDs from the authority: %s", error)
                self._failed(due[start:], error)
                return

    async def _replace_batch(self, entry_ids: Sequence[str]) -> None:
        keys = {entry_id: generate_private_key() for entry_id in entry_ids}
        requests = [CsrForEntry(entry_id=each, csr=make_csr(key)) for each, key in keys.items()]
        answers = await self._upstream.issue_x509_svids(requests)
        self._backoff.reset()
        for (entry_id, key), answer in zip(keys.items(), answers, strict=True):
            self._settle(entry_id, key, answer)

    def _settle(self, entry_id: str, key: PrivateKey, answer: IssuedX509 | AgentShieldError) -> None:
        if isinstance(answer, AgentShieldError):
            self._failed([entry_id], answer)
            return
        entry = self._cache.find_entry(entry_id)
        try:
            svid = X509Svid.of(answer.chain, key)
        except AgentShieldError as error:
            self._failed([entry_id], error)
            return
        if entry is None or entry.spiffe_id != svid.spiffe_id:
            return  # changed while it was being signed; the next round is for the entry as it is now
        self._retry_at.pop(entry_id, None)
        self._cache.store_svid(entry_id, held_svid(svid))

    def _failed(self, entry_ids: Iterable[str], error: AgentShieldError) -> None:
        retry_at = asyncio.get_running_loop().time() + self._backoff.next_delay()
        for entry_id in entry_ids:
            self._retry_at[entry_id] = retry_at
            problem = error if isinstance(error, UnavailableError) else UnavailableError(str(error), hint=error.hint)
            self._cache.store_problem(entry_id, problem)


def held_svid(svid: X509Svid) -> HeldSvid:
    """Encode an SVID for serving, and draw its time of replacement."""
    return HeldSvid(
        svid=svid,
        chain_der=svid.chain_der(),
        key_pkcs8=svid.key_pkcs8(),
        issuer_id=_issuer_id(svid),
        rotate_at=rotate_at(svid.not_before, svid.not_after, jitter=random.uniform(-1, 1)),  # noqa: S311
    )


def _issuer_id(svid: X509Svid) -> str | None:
    try:
        extension = svid.chain[-1].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    identifier = extension.value.key_identifier
    return identifier.hex() if identifier is not None else None
