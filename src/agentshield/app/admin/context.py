"""What the admin API's handlers work with: the running services of one `up`."""

from dataclasses import dataclass

from agentshield.app.admin.waiting import EnforcementWatch
from agentshield.app.state_dir import StateDir
from agentshield.app.supervisor import Supervisor
from agentshield.app.token_service import TokenService
from agentshield.audit.log import AuditLog
from agentshield.audit.store import AuditStore
from agentshield.authority.service import AuthorityService
from agentshield.authority.store import Store
from agentshield.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminContext:
    """Everything is running when this is made."""

    authority: AuthorityService
    store: Store
    audit: AuditLog
    events: AuditStore
    supervisor: Supervisor
    state: StateDir
    authority_address: str
    issuer: str
    enforcement: EnforcementWatch
    clock: Clock
    tokens: TokenService
