"""What a peer is told when the answer is no: an RFC 9457 problem document, and almost nothing in it.

The class of the error gives status and title; the rest stays in our log, under the decision's id.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from agentshield.errors import (
    AgentShieldError,
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

CONTENT_TYPE: Final = "application/problem+json"
_TYPE_PREFIX: Final = "urn:agentshield:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal as the peer sees it."""

    status: int
    title: str
    kind: str
    decision_id: str | None = None
    retry_after: int | None = None
    challenge: str | None = None

    def body(self) -> bytes:
        """Write the document (RFC 9457, 3)."""
        members: dict[str, object] = {"type": _TYPE_PREFIX + self.kind, "title": self.title, "status": self.status}
        if self.decision_id is not None:
            members["decision_id"] = self.decision_id
        return json.dumps(members).encode()

    def headers(self) -> Mapping[str, str]:
        """The header fields that go with it."""
        headers = {"content-type": CONTENT_TYPE, "cache-control": "no-store"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.challenge is not None:
            headers["www-authenticate"] = self.challenge
        return headers


# The first class that matches counts; what is not listed is our own fault.
_TABLE: Final[tuple[tuple[type[AgentShieldError], int, str, str], ...]] = (
    (AuthenticationError, 401, "Caller not authenticated", "unauthenticated"),
    (AuthorizationError, 403, "Call not allowed", "not-allowed"),
    (InvalidInputError, 400, "Request not valid", "invalid"),
    (NotFoundError, 404, "Not found", "not-found"),
    (ConflictError, 409, "Conflict", "conflict"),
    (UnavailableError, 503, "Not available now", "unavailable"),
)


class Challenger(Protocol):
    """What says how to do better: `ProtectedResource` is one."""

    def challenge(self, refusal: AgentShieldError) -> str | None:
        """Write the `WWW-Authenticate` that goes with a refusal, if one does."""
        ...


def problem_for(error: Exception, resource: Challenger | None = None) -> Problem:
    """Choose what the peer may know about `error`: its class, and the id of the decision if it was one.

    A `resource` that takes access tokens adds its challenge.
    """
    decision_id = getattr(error, "decision_id", None)
    retry_after = max(1, round(error.retry_after)) if isinstance(error, UnavailableError) else None
    for kind, status, title, name in _TABLE:
        if isinstance(error, kind):
            return Problem(
                status=status,
                title=title,
                kind=name,
                decision_id=decision_id,
                retry_after=retry_after,
                challenge=resource.challenge(error) if resource is not None else None,
            )
    return Problem(status=500, title="Internal error", kind="internal")
