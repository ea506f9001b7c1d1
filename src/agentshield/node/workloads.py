"""What a workload gets: attested on every call, and again whenever something changes while it holds a stream open.

The rules of the Workload API without its encoding; `workload_api` is the encoding without the rules.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from agentshield.clock import Clock
from agentshield.identity.bundle import BundleSet
from agentshield.identity.errors import UnknownTrustDomainError
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity, verify_jwt_svid
from agentshield.node.attestation import WorkloadAttestation
from agentshield.node.cache import HeldSvid, IdentityCache, Subscription
from agentshield.node.entries import Entry, unique_hints
from agentshield.node.errors import AuthorityUnreachableError, NoIdentityIssuedError, NotSyncedError
from agentshield.node.jwt_issuance import JwtIssuance
from agentshield.node.peer import Peer
from agentshield.node.wit_issuance import HeldWit, WitIssuance

ISSUE_DEADLINE: Final = 10.0  # seconds that a first answer may wait for the authority
RETRY: Final = 5.0  # seconds until a WIT-SVID that could not be replaced is asked for again
LONGEST_SLEEP: Final = 30.0  # seconds: timers stand still while a machine sleeps, so the wall clock is looked at often


class UnidentifiedVerifiers(Enum):
    """Whether a caller without an identity may have bundles, to verify others with."""

    REFUSED = "refused"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedX509:
    """One identity as it is served: the SVID and the hint that is unique among its neighbours."""

    held: HeldSvid
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class X509State:
    """Everything a workload may have for X.509, the default identity first. Absence of something means it is gone."""

    svids: tuple[ServedX509, ...]
    bundles: BundleSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedJwt:
    """One JWT-SVID as it is served."""

    svid: JwtSvid
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedWit:
    """One WIT-SVID as it is served, with its key."""

    held: HeldWit
    hint: str


class Workloads:
    """Answers callers whom the kernel named."""

    def __init__(
        self,
        attestation: WorkloadAttestation,
        cache: IdentityCache,
        jwt_issuance: JwtIssuance,
        wit_issuance: WitIssuance,
        clock: Clock,
        *,
        unidentified_verifiers: UnidentifiedVerifiers = UnidentifiedVerifiers.REFUSED,
    ) -> None:
        self._attestation = attestation
        self._cache = cache
        self._jwt_issuance = jwt_issuance
        self._wit_issuance = wit_issuance
        self._clock = clock
        self._unidentified = unidentified_verifiers

    async def identities(self, peer: Peer) -> tuple[Entry, ...]:
        """Attest the caller and return its identities, the default one first.

        Raises:
            NoIdentityIssuedError: it has none.
            NotSyncedError: it is not known yet which it has.
        """
        entries = self._cache.matching((await self._attestation.attest(peer)).selectors)
        self._require(entries)
        return entries

    async def watch_x509(self, peer: Peer) -> AsyncGenerator[X509State, None]:
        """Yield the caller's X.509 state at once and on every change.

        Raises:
            NoIdentityIssuedError: it has no identity, or has lost the last one.
            AuthorityUnreachableError: it has one, and no valid SVID can be had for it.
            NotSyncedError: it is not known yet which it has.
        """
        with self._cache.subscribe((await self._attestation.attest(peer)).selectors) as subscription:
            self._require(self._entries_of(subscription))
            await self._first_svids(subscription)
            shown = None
            while True:
                state = self._x509_state(subscription)
                if state != shown:  # what is not news is not sent
                    yield state
                    shown = state
                await self._next_change(peer, subscription)

    async def watch_wit(
        self, peer: Peer, spiffe_id: SpiffeId | None = None
    ) -> AsyncGenerator[tuple[ServedWit, ...], None]:
        """Yield the caller's WIT-SVIDs, or the one that it names, at once, and all of them again whenever one is new.

        Raises:
            NoIdentityIssuedError: it has no identity, or has lost the last one, or the one named is not its own.
            NotOfferedError: the authority issues none.
            AuthorityUnreachableError: no valid one can be had.
            NotSyncedError: it is not known yet which it has.
        """
        with self._cache.subscribe((await self._attestation.attest(peer)).selectors) as subscription:
            shown = None
            while True:
                state = await self._wit_state(self._entries_of(subscription), spiffe_id)
                if state != shown:
                    yield state
                    shown = state
                await self._changed_or_due(subscription, min(each.held.refresh_at for each in state))
                # Also when one is due: who lost a selector meanwhile must not get the next token.
                self._cache.refresh(subscription, (await self._attestation.attest(peer)).selectors)

    async def watch_bundles(self, peer: Peer) -> AsyncGenerator[BundleSet, None]:
        """Yield the bundles that the caller may verify with, at once and on every change.

        Raises:
            NoIdentityIssuedError: it has no identity, and only those who have one are served.
            NotSyncedError: no bundle is known yet.
        """
        with self._cache.subscribe((await self._attestation.attest(peer)).selectors) as subscription:
            shown = None
            while True:
                bundles = self._bundles_for(self._entries_of(subscription))
                if bundles != shown:
                    yield bundles
                    shown = bundles
                await self._next_change(peer, subscription)

    async def jwt_svids(
        self, peer: Peer, audience: Sequence[str], spiffe_id: SpiffeId | None = None
    ) -> tuple[ServedJwt, ...]:
        """Issue a token for each identity of the caller, or for the one it names.

        Raises:
            NoIdentityIssuedError: it has no identity, or the one named is not its own.
            AuthorityUnreachableError: no token can be had.
        """
        entries = await self.identities(peer)
        hints = unique_hints(entries)
        wanted = [entry for entry in entries if spiffe_id in (None, entry.spiffe_id)]
        if not wanted:
            raise NoIdentityIssuedError
        tokens = [await self._jwt_issuance.get(entry, audience) for entry in wanted]
        return tuple(ServedJwt(svid=svid, hint=hints[entry.id]) for entry, svid in zip(wanted, tokens, strict=True))

    async def bundles(self, peer: Peer) -> BundleSet:
        """Return the bundles that the caller may verify with.

        Raises:
            NoIdentityIssuedError: it has no identity, and only those who have one are served.
            NotSyncedError: no bundle is known yet.
        """
        return self._bundles_for(self._cache.matching((await self._attestation.attest(peer)).selectors))

    def verify_jwt_svid(self, token: str, bundles: BundleSet, *, audience: str) -> VerifiedIdentity:
        """Verify a token for a caller, with that caller's bundles.

        Raises:
            AuthenticationError: the token does not prove who sent it.
            InvalidInputError: it is no JWT-SVID.
        """
        return verify_jwt_svid(token, bundles, audience=audience, at=self._clock())

    async def _first_svids(self, subscription: Subscription) -> None:
        """Wait until each identity has a fresh SVID, or the authority's answer why it has not."""
        try:
            async with asyncio.timeout(ISSUE_DEADLINE):
                while not all(self._is_settled(each) for each in subscription.entry_ids):
                    await subscription.changed()
        except TimeoutError:
            pass  # then with what there is

    def _is_settled(self, entry_id: str) -> bool:
        held = self._cache.find_svid(entry_id)
        return (held is not None and self._clock() < held.rotate_at) or self._cache.find_problem(entry_id) is not None

    async def _next_change(self, peer: Peer, subscription: Subscription) -> None:
        """Wait for a change, and look at the caller again: its selectors may have been part of what changed."""
        await subscription.changed()
        self._cache.refresh(subscription, (await self._attestation.attest(peer)).selectors)

    def _x509_state(self, subscription: Subscription) -> X509State:
        entries = self._entries_of(subscription)
        self._require(entries)
        hints, at = unique_hints(entries), self._clock()
        held = [(entry, self._cache.find_svid(entry.id)) for entry in entries]
        svids = tuple(
            ServedX509(held=each, hint=hints[entry.id])
            for entry, each in held
            if each is not None and at < each.svid.not_after
        )
        if not svids:
            problem = next(filter(None, (self._cache.find_problem(entry.id) for entry in entries)), "no answer in time")
            raise AuthorityUnreachableError(f"no X509-SVID from the authority: {problem}")
        return X509State(svids=svids, bundles=self._bundles_for(entries))

    async def _changed_or_due(self, subscription: Subscription, due: datetime) -> None:
        """Wait for a change, or for the time `due`; a time that is past, since replacing failed, for a while."""
        pause = RETRY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max((due - self._clock()).total_seconds(), pause), LONGEST_SLEEP)):
                    return await subscription.changed()
            pause = 0.0
            if self._clock() >= due:
                return None

    async def _wit_state(self, entries: tuple[Entry, ...], spiffe_id: SpiffeId | None) -> tuple[ServedWit, ...]:
        self._require(entries)
        own = self._cache.own_bundle
        if own is None:
            raise NotSyncedError("the node agent has no trust bundle yet")
        hints = unique_hints(entries)
        wanted = [entry for entry in entries if spiffe_id in (None, entry.spiffe_id)]
        self._require(tuple(wanted))
        return tuple(
            [ServedWit(held=await self._wit_issuance.get(entry, own), hint=hints[entry.id]) for entry in wanted]
        )

    def _entries_of(self, subscription: Subscription) -> tuple[Entry, ...]:
        return self._cache.matching(subscription.selectors)

    def _require(self, entries: tuple[Entry, ...]) -> None:
        if self._cache.synced_at is None:
            raise NotSyncedError("the node agent has not heard from the authority yet")
        if not entries:
            raise NoIdentityIssuedError

    def _bundles_for(self, entries: tuple[Entry, ...]) -> BundleSet:
        """The own trust domain's bundle, and those that the caller's entries federate with."""
        own = self._cache.own_bundle
        if self._cache.synced_at is None or own is None:
            raise NotSyncedError("the node agent has no trust bundle yet")
        if not entries and self._unidentified is UnidentifiedVerifiers.REFUSED:
            raise NoIdentityIssuedError
        bundles = BundleSet.of(own)
        for name in sorted({each for entry in entries for each in entry.federates_with}):
            with contextlib.suppress(UnknownTrustDomainError):  # federated with, and not fetched yet
                bundles = bundles.with_bundle(self._cache.bundles.bundle_for(name))
        return bundles
