"""The launch service, `agentshield.node.v1.Launch`: a launcher says what the child that it holds back will be."""

import asyncio
from typing import Final

from grpclib.const import Handler
from grpclib.server import Stream

from agentshield.node.attestation import WorkloadAttestation
from agentshield.node.cache import IdentityCache
from agentshield.node.entries import Entry
from agentshield.node.grpc_status import answered
from agentshield.node.launch import LaunchRecord, LaunchRequest, LaunchTable
from agentshield.node.selectors import Selector, Selectors
from agentshield.node.socket_server import caller_of
from agentshield.sdk.wire import methods
from agentshield.sdk.wire import node_pb2 as messages
from agentshield.sdk.wire.guard import request_of

ENTRY_DEADLINE: Final = 1.0  # seconds: `agent create` just before `run` is usual, and its entry is on the way then


class LaunchApi:
    """Answers a launcher with the identity its child will have, or with why it will have none."""

    def __init__(self, table: LaunchTable, attestation: WorkloadAttestation, cache: IdentityCache) -> None:
        self._table = table
        self._attestation = attestation
        self._cache = cache

    def __mapping__(self) -> dict[str, Handler]:
        """See grpclib."""
        return dict([methods.REGISTER_LAUNCH.handled_by(answered(self.register))])

    async def register(self, stream: Stream[messages.LaunchRequest, messages.LaunchResponse]) -> None:
        """Record the launch. What it gives are selectors; the entries decide whether they make an identity."""
        caller = caller_of(stream)
        request = await request_of(stream)
        attested = await self._attestation.attest(caller)
        record = await self._table.register(caller, _launch(request))
        selectors = _replaced(attested.selectors, record)
        entry = await self._entry_for(selectors)
        await stream.send_message(
            messages.LaunchResponse(
                spiffe_id=str(entry.spiffe_id) if entry is not None else "",
                selectors=sorted(map(str, record.selectors)),
                problem="" if entry is not None else self._problem(record, selectors),
            )
        )

    async def _entry_for(self, selectors: Selectors) -> Entry | None:
        """The identity for these selectors, also if it is only just being registered."""
        with self._cache.subscribe(selectors) as subscription:
            try:
                async with asyncio.timeout(ENTRY_DEADLINE):
                    while not (entries := self._cache.matching(selectors)):
                        await subscription.changed()
            except TimeoutError:
                return None
        return entries[0]

    def _problem(self, record: LaunchRecord, selectors: Selectors) -> str:
        if self._cache.synced_at is None:
            return "the node agent has not heard from the authority yet"
        named = Selector("launch", f"agent:{record.agent}")
        for entry, missing in self._cache.nearest(selectors, limit=100):
            if named in entry.selectors:
                lacking = ", ".join(sorted(map(str, missing)))
                return f"entry {entry.id} of {entry.spiffe_id} wants {lacking}, which this launch does not have"
        return f"no registration entry for agent {record.agent}: it does not exist, or is suspended"


def _launch(request: messages.LaunchRequest) -> LaunchRequest:
    return LaunchRequest(
        agent=request.agent,
        pid=request.pid,
        script_path=request.script_path,
        lock_path=request.lock_path,
    )


def _replaced(caller: Selectors, record: LaunchRecord) -> Selectors:
    """The child's selectors: its launcher's user and groups, and its own launch instead of the launcher's."""
    return frozenset(each for each in caller if each.type != "launch") | record.selectors
