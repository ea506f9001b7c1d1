"""Why a process got the identity it got, or none: the oldest question about workload identity."""

from collections.abc import Mapping
from typing import Any, Final

from agentshield.clock import Clock
from agentshield.node.attestation import Attestation, WorkloadAttestation
from agentshield.node.cache import IdentityCache
from agentshield.node.entries import Entry
from agentshield.node.errors import CallerGoneError, NotYourProcessError, ProcessGoneError
from agentshield.node.peer import Peer, PeerProof
from agentshield.node.process import Process

NEAREST: Final = 5


class Explainer:
    """Attests a process as the Workload API would, and tells every step of it."""

    def __init__(self, attestation: WorkloadAttestation, cache: IdentityCache, clock: Clock) -> None:
        self._attestation = attestation
        self._cache = cache
        self._clock = clock

    async def explain(self, caller: Peer, pid: int) -> Mapping[str, Any]:
        """Explain process `pid`, or the caller itself for 0, as plain JSON values.

        Raises:
            NotYourProcessError: the caller is not root, and the process another user's or not there: which of the
                two is not told.
        """
        if pid == 0:
            return self._report(caller, await self._attestation.attest(caller))
        try:
            with Process.open(pid) as process:
                subject = _as_peer(process)
                if caller.uid in (0, subject.uid):
                    return self._report(subject, await self._attestation.attest(subject))
        except (ProcessGoneError, CallerGoneError) as error:
            raise NotYourProcessError(_refusal(caller, pid)) from error
        raise NotYourProcessError(_refusal(caller, pid))

    def _report(self, subject: Peer, attestation: Attestation) -> Mapping[str, Any]:
        selectors = attestation.selectors
        nearest = self._cache.nearest(selectors, limit=NEAREST)
        return {
            "pid": subject.pid,
            "uid": subject.uid,
            "gid": subject.gid,
            "proof": subject.proof.value,
            "attestors": [
                {"name": each.name, "selectors": sorted(map(str, each.selectors)), "problem": each.problem}
                for each in attestation.results
            ],
            "selectors": sorted(map(str, selectors)),
            "matching": [self._matching(entry) for entry in self._cache.matching(selectors)],
            "nearest": [{**_named(entry), "missing": sorted(map(str, missing))} for entry, missing in nearest],
            "cache": self._cache_state(),
        }

    def _matching(self, entry: Entry) -> Mapping[str, Any]:
        held, problem = self._cache.find_svid(entry.id), self._cache.find_problem(entry.id)
        return {
            **_named(entry),
            "svid_expires_at": held.svid.not_after.isoformat() if held is not None else None,
            "problem": str(problem) if problem is not None else None,
        }

    def _cache_state(self) -> Mapping[str, Any]:
        synced_at = self._cache.synced_at
        return {
            "version": self._cache.version,
            "entries": len(self._cache),
            "changed_at": synced_at.isoformat() if synced_at is not None else None,
            "age_seconds": (self._clock() - synced_at).total_seconds() if synced_at is not None else None,
        }


def _as_peer(process: Process) -> Peer:
    status = process.status()
    return Peer(uid=status.uid, gid=status.gid, proof=PeerProof.PEER_PIDFD, process=process)


def _refusal(caller: Peer, pid: int) -> str:
    return f"no process {pid} that user {caller.uid} may have explained"


def _named(entry: Entry) -> Mapping[str, Any]:
    return {
        "entry_id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "selectors": sorted(map(str, entry.selectors)),
    }
