"""The policy set (PAP): checked, then put on record, then published; every earlier one is kept."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentshield.audit.events import PolicyActivated
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.errors import PolicyNotFoundError
from agentshield.authority.model import PolicyVersion
from agentshield.authority.store import PolicyStore
from agentshield.clock import Clock

if TYPE_CHECKING:
    from agentshield.policy.bundle import PolicyBundle

Validate = Callable[["PolicyBundle"], object]


def load_as_enforced(bundle: "PolicyBundle") -> object:
    """Load the bundle as every enforcement point will: what would fail there is refused here."""
    from agentshield.policy.cedar import CedarEngine

    return CedarEngine().load(bundle)


class Policies:
    """The policy sets of one trust domain."""

    def __init__(
        self, store: PolicyStore, sink: AuditSink, clock: Clock, *, validate: Validate = load_as_enforced
    ) -> None:
        self._store = store
        self._sink = sink
        self._clock = clock
        self._validate = validate

    async def activate(self, bundle: "PolicyBundle", *, by: str) -> PolicyVersion:
        """Check a policy set and make it the active one. Activating the active one again changes nothing.

        Raises:
            InvalidInputError: it does not load, so the one before stays active.
        """
        self._validate(bundle)
        active = (await self._store.enforcement_facts()).policy
        if active is not None and active.digest == bundle.digest:
            return active
        at = self._clock()
        number = active.number + 1 if active is not None else 1
        await record(self._sink, PolicyActivated(at=at, by=by, bundle_digest=bundle.digest, version=number))
        version = PolicyVersion(
            number=number, digest=bundle.digest, files=dict(bundle.files), activated_at=at, activated_by=by
        )
        await self._store.activate(version, at=at)
        return version

    async def roll_back(self, number: int, *, by: str) -> PolicyVersion:
        """Activate an earlier policy set again, as a new version: history only grows. Raises: PolicyNotFoundError."""
        from agentshield.policy.bundle import PolicyBundle

        earlier = await self._store.find(number)
        if earlier is None:
            raise PolicyNotFoundError(f"there is no policy set number {number}")
        return await self.activate(PolicyBundle.from_files(earlier.files), by=by)

    async def active(self) -> PolicyVersion:
        """Return the active policy set. Raises: PolicyNotFoundError where none was ever activated."""
        active = (await self._store.enforcement_facts()).policy
        if active is None:
            raise PolicyNotFoundError("no policy set is active", hint="agentshield policy apply")
        return active

    async def history(self) -> tuple[PolicyVersion, ...]:
        """Return every policy set, newest first."""
        return await self._store.history()
