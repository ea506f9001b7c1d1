"""The launch attestor: what the measured launcher recorded about the process, or about the one it descends from."""

from agentshield.node.attestors.attestor import Workload
from agentshield.node.launch import LaunchTable
from agentshield.node.selectors import Selectors


class LaunchAttestor:
    """Gives a process the `launch:` selectors of the nearest recorded process it descends from."""

    name = "launch"

    def __init__(self, table: LaunchTable) -> None:
        self._table = table

    async def attest(self, workload: Workload) -> Selectors:
        """See `Attestor.attest`."""
        if workload.process is None:
            return frozenset()
        record = self._table.find(workload.process)
        return record.selectors if record is not None else frozenset()
