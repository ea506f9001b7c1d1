"""What asking a human works with, and the exact action that is asked about."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agentshield.identity.act_chain import Party
from agentshield.oauth.authorization_details import Detail
from agentshield.oauth.backchannel.notification import Notifications
from agentshield.oauth.backchannel.store import BackchannelStore
from agentshield.policy.approval import ExactAction
from agentshield.policy.approval_store import ApprovalStore

ISSUE_TOKEN: Final = "issue_token"  # noqa: S105  the action's name


class HumanDirectory(Protocol):
    """The humans who can be asked."""

    async def find(self, hint: str) -> Party | None:
        """Return whom a `login_hint` names, or None. Their `subject` is their name as an approver."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backchannel:
    """Where requests wait, who can be asked, and who wants to hear of the answer."""

    approvals: ApprovalStore
    requests: BackchannelStore
    humans: HumanDirectory
    notifications: Notifications


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelResponse:
    """What a client that asked is told (CIBA Core, 7.3). `auth_req_id` is a secret; its digest is all that we keep."""

    auth_req_id: str = field(repr=False)
    expires_in: int  # seconds
    interval: int  # seconds


def token_action(
    *, human: Party, agent: Party, audience: str, scopes: Iterable[str], details: tuple[Detail, ...]
) -> ExactAction:
    """Return what is agreed to: that `agent` gets a token to act for `human`, at `audience`, for exactly this.

    Neither the client's key nor its message is in it: by changing them, "denied a moment ago" would be got round.
    """
    context: dict[str, Any] = {"scope": sorted(scopes)}
    return ExactAction(
        subject=(human.issuer, human.subject),
        actors=((agent.issuer, agent.subject),),
        resource=audience,
        action=ISSUE_TOKEN,
        details=details,
        context=context,
    )
