"""The policy set (PAP): checked, then put on record, then published; every earlier one is kept."""

from datetime import UTC, datetime

from agentshield.audit.events import PolicyActivated
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.errors import PolicyNotFoundError
from agentshield.authority.model import PolicyVersion
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.store import PolicyStore
from agentshield.clock import Clock
from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.cedar import CedarEngine
from agentshield.sdk.enforcement_snapshot import EnforcementSnapshot

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Policies:
    """The policy sets of one trust domain."""

    def __init__(self, settings: AuthoritySettings, store: PolicyStore, sink: AuditSink, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._sink = sink
        self._clock = clock

    async def activate(self, bundle: PolicyBundle, *, by: str) -> PolicyVersion:
        """Check a policy set and make it the active one. Activating the active one again changes nothing.

        Raises:
            InvalidPolicyError: it does not load, so the one before stays active.
            RevisionConflictError: somebody else activated another at the same moment.
        """
        enforced = self._as_enforced(bundle)
        active = (await self._store.enforcement_facts()).policy
        if active is not None and active.digest == enforced.digest:
            return active
        at = self._clock()
        version = PolicyVersion(
            number=active.number + 1 if active is not None else 1,
            digest=enforced.digest,
            files=dict(enforced.files),
            activated_at=at,
            activated_by=by,
        )
        event = PolicyActivated(at=at, by=by, bundle_digest=version.digest, version=version.number)
        await record(self._sink, event)
        await self._store.activate(version, at=at)
        return version

    async def roll_back(self, number: int, *, by: str) -> PolicyVersion:
        """Activate an earlier policy set again, as a new version: history only grows. Raises: PolicyNotFoundError."""
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

    def _as_enforced(self, bundle: PolicyBundle) -> PolicyBundle:
        """Return the bundle as it will reach every enforcement point, having loaded it there and seen it work."""
        at_home = PolicyBundle.from_files(bundle.files, trust_domain=self._settings.trust_domain.name)
        lease = self._settings.enforcement_lease
        sent = EnforcementSnapshot(version=0, issued_at=_EPOCH, lease=lease, bundle=at_home).to_json()
        arrived = EnforcementSnapshot.from_json(sent).bundle
        CedarEngine().load(arrived)
        return arrived
