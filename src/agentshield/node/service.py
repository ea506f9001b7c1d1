"""The node agent: its parts put together, started and stopped as one."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health

from agentshield.clock import Clock, system_clock
from agentshield.node.attestation import WorkloadAttestation
from agentshield.node.attestors.launch import LaunchAttestor
from agentshield.node.attestors.unix import UnixAttestor
from agentshield.node.cache import IdentityCache
from agentshield.node.enforcement import EnforcementHub
from agentshield.node.enforcement_api import EnforcementApi
from agentshield.node.explain import Explainer
from agentshield.node.explain_api import ExplainApi
from agentshield.node.feed import EntryFeed
from agentshield.node.file_measure import FileMeasurer
from agentshield.node.jwt_issuance import JwtIssuance
from agentshield.node.launch import LaunchTable
from agentshield.node.launch_api import LaunchApi
from agentshield.node.reflection import with_reflection
from agentshield.node.rotation import X509Rotation
from agentshield.node.settings import NodeSettings, raise_descriptor_limit
from agentshield.node.socket_server import Service, UnixServer
from agentshield.node.upstream import Upstream
from agentshield.node.wit_issuance import WitIssuance
from agentshield.node.workload_api import WorkloadApi
from agentshield.node.workloads import Workloads

log = logging.getLogger(__name__)

_CANCEL_AGAIN: Final = 0.1  # seconds


class NodeService:
    """Serves the Workload API and what AgentShield adds to it on one socket, out of what `upstream` gives.

    `listening` is set when the socket takes calls, `ready` when the first entries have come.
    """

    def __init__(self, settings: NodeSettings, upstream: Upstream, *, clock: Clock = system_clock) -> None:
        self._settings = settings
        self._upstream = upstream
        self.listening = asyncio.Event()
        self.ready = asyncio.Event()
        self.cache = IdentityCache(settings.trust_domain)
        self.hub = EnforcementHub(upstream)
        measurer = FileMeasurer()
        self._launches = LaunchTable(measurer, on_change=self.cache.wake_all)
        self._rotation = X509Rotation(self.cache, upstream, clock, on_clock_jump=upstream.reconnect)
        self._feed = EntryFeed(self.cache, upstream, clock, on_connected=self._connected)
        self._attestation = WorkloadAttestation(
            UnixAttestor(measurer, program=settings.program_selectors), LaunchAttestor(self._launches)
        )
        self._workloads = Workloads(
            self._attestation,
            self.cache,
            JwtIssuance(upstream, clock),
            WitIssuance(upstream, clock),
            clock,
            unidentified_verifiers=settings.unidentified_verifiers,
        )
        self._serving = ServiceStatus()
        self._server = self._make_server(Explainer(self._attestation, self.cache, clock))

    async def run(self) -> None:
        """Run until cancelled, then stop serving and give everything back.

        Raises:
            SocketInUseError: another node agent listens on the socket.
            AgentShieldError: the node cannot be attested, and trying again would not help.
        """
        self._server.start(self._settings.socket_path, mode=self._settings.socket_mode)
        self.listening.set()
        log.info("Workload API at unix://%s", self._settings.socket_path)
        parts = [self._upstream.run(), self._feed.run(), self._rotation.run(), self.hub.run()]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            # The first to end takes the others along: each is meant to run for ever.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            await self._server.stop()
            await _ended(tasks)
            self._launches.close()

    def _connected(self) -> None:
        self._rotation.authority_is_back()
        self._serving.set(True)
        self.ready.set()

    def _make_server(self, explainer: Explainer) -> UnixServer:
        services: list[Service] = [
            WorkloadApi(self._workloads, self._settings.trust_domain),
            EnforcementApi(self._workloads, self.hub, self._upstream),
            LaunchApi(self._launches, self._attestation, self.cache),
            ExplainApi(explainer),
            Health({OVERALL: [self._serving]}),
        ]
        return UnixServer(
            with_reflection(services),
            max_connections=raise_descriptor_limit(),
            max_connections_per_user=self._settings.max_connections_per_user,
        )


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they hear it: grpclib can turn a cancellation into an error of the call it interrupted."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # the first one's was raised already; a later one's is of the ending itself
