"""Attesting a workload: from a caller whom the kernel named to selectors that may decide over an identity."""

from dataclasses import dataclass

from agentshield.errors import AgentShieldError
from agentshield.node.attestors.attestor import Attestor, Workload
from agentshield.node.errors import (
    AttestationFailedError,
    CallerChangedError,
    CallerGoneError,
    ForeignProcessError,
    ProcessGoneError,
)
from agentshield.node.peer import Peer, PeerProof
from agentshield.node.selectors import Selectors


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestorResult:
    """What one attestor said, or why it could not."""

    name: str
    selectors: Selectors = frozenset()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A caller's selectors, and how each attestor came to its part of them."""

    results: tuple[AttestorResult, ...]

    @property
    def selectors(self) -> Selectors:
        """Everything that is known about the caller."""
        return frozenset().union(*(result.selectors for result in self.results))


class WorkloadAttestation:
    """Runs every attestor over a caller."""

    def __init__(self, *attestors: Attestor) -> None:
        self._attestors = attestors

    async def attest(self, peer: Peer) -> Attestation:
        """Attest the caller as it is now.

        Raises:
            ForeignProcessError: its process cannot be seen from here.
            CallerGoneError: it exited; what was read may be about another process.
            CallerChangedError: it runs as another user or group than it connected as.
            AttestationFailedError: every attestor failed.
        """
        workload = self._look_at(peer)  # (1) the kernel's facts
        results = [await self._ask(attestor, workload) for attestor in self._attestors]  # (2) each attestor's
        if not peer.is_alive():  # (3) only now is it certain that all of (2) was about the caller
            raise CallerGoneError(f"process {peer.pid} exited while it was attested")
        if all(result.problem is not None for result in results):
            raise AttestationFailedError("; ".join(f"{each.name}: {each.problem}" for each in results))
        return Attestation(results=tuple(results))

    def _look_at(self, peer: Peer) -> Workload:
        if peer.proof is PeerProof.FOREIGN:
            raise ForeignProcessError(
                "the calling process is in a pid namespace that this node agent cannot see",
                hint="run the node agent in the host's pid namespace",
            )
        if peer.process is None:
            return Workload(uid=peer.uid, gid=peer.gid, groups=peer.groups, process=None)
        try:
            status = peer.process.status()
        except ProcessGoneError as error:
            raise CallerGoneError(f"the process that connected, {peer.pid}, has exited") from error
        if (status.uid, status.gid) != (peer.uid, peer.gid):
            raise CallerChangedError(
                f"process {peer.pid} connected as {peer.uid}:{peer.gid} and now runs as {status.uid}:{status.gid}",
                hint="connect to the Workload API after changing the user",
            )
        return Workload(uid=status.uid, gid=status.gid, groups=status.groups, process=peer.process)

    async def _ask(self, attestor: Attestor, workload: Workload) -> AttestorResult:
        try:
            return AttestorResult(name=attestor.name, selectors=await attestor.attest(workload))
        except AgentShieldError as error:
            return AttestorResult(name=attestor.name, problem=str(error))
