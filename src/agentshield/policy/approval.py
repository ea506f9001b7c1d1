"""A human's agreement to one exact action: asked for, given or refused, used up.

What is agreed to is a digest over everything the answer could depend on, so an approval fits the action it was given
for and no other. Values only: each step returns the next state or raises. Whoever stores them makes the step from one
state to the next a conditional update, which is what makes an approval good for one use.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

import rfc8785

from agentshield.errors import AuthorizationError, ConflictError, InvalidInputError

DEFAULT_WAIT: Final = timedelta(minutes=5)
LONGEST_WAIT: Final = timedelta(minutes=10)  # of a request for an answer; silence is a no
VALIDITY: Final = timedelta(minutes=5)  # of an answer, once given
MAX_REASON: Final = 500  # characters


class ApprovalClosedError(ConflictError):
    """The request is not open any more: answered, expired, withdrawn or used."""

    code = "approval_closed"


class ApprovalMissingError(AuthorizationError):
    """There is no agreement to exactly this, now."""

    code = "approval_missing"


class ApproverExcludedError(AuthorizationError):
    """This human may not answer this request: it is their own, or they have answered it already."""

    code = "approver_excluded"


class ApprovalStatus(StrEnum):
    """Where a request stands. Only `APPROVED` lets anything happen, and only once."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    USED = "used"


class Verdict(StrEnum):
    """A human's answer."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactAction:
    """What is to be agreed to. `actors` are (issuer, subject) pairs, the one who asks first."""

    subject: tuple[str, str]
    actors: tuple[tuple[str, str], ...]
    resource: str
    action: str
    details: tuple[Mapping[str, Any], ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form (RFC 8785), hex.

        Raises:
            InvalidInputError: something in it has no canonical form.
        """
        members = {
            "subject": self.subject,
            "actors": self.actors,
            "resource": self.resource,
            "action": self.action,
            "details": self.details,
            "context": self.context,
        }
        try:
            return hashlib.sha256(rfc8785.dumps(members)).hexdigest()  # type: ignore[arg-type]  # tuples are lists to it
        except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
            raise InvalidInputError("the action to approve has no canonical JSON form") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One human's answer. `method` says how they were recognised: "cli", "passkey"."""

    approver: str
    verdict: Verdict
    method: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """One question to a human, and what became of it.

    `reason` is the agent's own text: shown as such, never believed. `excluded` may not answer: the owner of the agent,
    and whoever it acts for where the rule wants four eyes.

    Raises:
        InvalidInputError: it would wait too long, needs nobody, or explains itself at too great a length.
    """

    request_id: str
    agent: str
    approver: str | None = None  # who is asked; None: anybody who may approve
    action: ExactAction
    digest: str
    reason: str = ""
    needed: int = 1
    excluded: frozenset[str] = frozenset()
    created_at: datetime
    expires_at: datetime
    votes: tuple[Vote, ...] = ()
    withdrawn_at: datetime | None = None
    used_at: datetime | None = None

    def __post_init__(self) -> None:
        if not timedelta() < self.expires_at - self.created_at <= LONGEST_WAIT:
            raise InvalidInputError(f"an approval may be waited for {LONGEST_WAIT} at most")
        if self.needed < 1:
            raise InvalidInputError("an approval needs one human at least")
        if len(self.reason) > MAX_REASON:
            raise InvalidInputError(f"the reason has {len(self.reason)} characters, at most {MAX_REASON} are shown")
        if self.digest != self.action.digest:
            raise InvalidInputError("the digest is not that of the action")

    @classmethod
    def about(cls, action: ExactAction, **facts: Any) -> Self:
        """Ask about `action`; `facts` are the other fields."""
        return cls(action=action, digest=action.digest, **facts)

    @property
    def short_digest(self) -> str:
        """What a human compares between two screens: the first 64 bits, in groups of four characters."""
        return " ".join(self.digest[start : start + 4] for start in range(0, 16, 4))

    @property
    def approved_at(self) -> datetime | None:
        """When the last approval that was needed came, or None."""
        approvals = [vote.at for vote in self.votes if vote.verdict is Verdict.APPROVE]
        return approvals[self.needed - 1] if len(approvals) >= self.needed else None

    def status(self, at: datetime) -> ApprovalStatus:
        """Where it stands at `at`. One denial is a denial, however many agreed."""
        if self.used_at is not None:
            return ApprovalStatus.USED
        if self.withdrawn_at is not None:
            return ApprovalStatus.WITHDRAWN
        if any(vote.verdict is Verdict.DENY for vote in self.votes):
            return ApprovalStatus.DENIED
        if self.approved_at is None:
            return ApprovalStatus.PENDING if at < self.expires_at else ApprovalStatus.EXPIRED
        return ApprovalStatus.APPROVED if at < self.approved_at + VALIDITY else ApprovalStatus.EXPIRED

    def answered(self, vote: Vote, *, digest: str) -> Self:
        """Take a human's answer to what they were shown, `digest`.

        Raises:
            ApprovalClosedError: it is not pending any more, or they were shown something else.
            ApproverExcludedError: they may not answer it.
        """
        if (status := self.status(vote.at)) is not ApprovalStatus.PENDING:
            raise ApprovalClosedError(f"approval {self.request_id} is {status}, and takes no answer any more")
        if digest != self.digest:
            raise ApprovalClosedError(f"approval {self.request_id} is for another action than the one shown")
        if vote.approver in self.excluded or vote.approver == self.agent:
            raise ApproverExcludedError(f"{vote.approver} may not approve what is theirs")
        if self.approver is not None and vote.approver != self.approver:
            raise ApproverExcludedError(f"approval {self.request_id} asks {self.approver}, not {vote.approver}")
        if any(earlier.approver == vote.approver for earlier in self.votes):
            raise ApproverExcludedError(f"{vote.approver} has answered already")  # N of M are N humans
        return replace(self, votes=(*self.votes, vote))

    def used(self, action: ExactAction, *, at: datetime) -> Self:
        """Use it up for `action`.

        Raises:
            ApprovalMissingError: it is not approved now, or for another action.
        """
        if (status := self.status(at)) is not ApprovalStatus.APPROVED:
            raise ApprovalMissingError(f"approval {self.request_id} is {status}, not approved")
        if action.digest != self.digest:
            raise ApprovalMissingError(f"approval {self.request_id} was given for another action")
        return replace(self, used_at=at)

    def withdrawn(self, *, at: datetime) -> Self:
        """Take it back. Raises: ApprovalClosedError, it has been used or is over."""
        status = self.status(at)
        if status not in (ApprovalStatus.PENDING, ApprovalStatus.APPROVED):
            raise ApprovalClosedError(f"approval {self.request_id} is {status}, there is nothing to withdraw")
        return replace(self, withdrawn_at=at)
