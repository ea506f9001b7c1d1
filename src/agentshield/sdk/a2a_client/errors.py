"""What can go wrong between us and an agent that we call. What every A2A side shares is in `sdk.a2a.errors`."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentshield.errors import (
    AuthenticationError,
    AuthorizationError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)


class CardUnavailableError(UnavailableError):
    """Nobody answers at the card's address, or with something that is no answer to a request for a card."""

    code = "a2a_card_unavailable"


class CardRedirectedError(AuthorizationError):
    """The request for the card was sent on to another origin, or in a circle."""

    code = "a2a_card_redirected"


class CardRolledBackError(IntegrityError):
    """An older card than the one we have seen, or another of the same serial: somebody shows us the past."""

    code = "a2a_card_rolled_back"


class CardPeerError(AuthenticationError):
    """The connection proves another agent than the card is about, or cannot prove any."""

    code = "a2a_card_peer"


class NoInterfaceError(ConfigurationError):
    """The card has no interface that we speak: JSONRPC or HTTP+JSON, version 1.0, over https."""

    code = "a2a_no_interface"


class UnknownExtensionError(ConfigurationError):
    """The card requires an extension that we do not know, so we must not speak to the agent (A2A 4.6)."""

    code = "a2a_unknown_extension"


class UnknownSkillError(NotFoundError):
    """The card has no such skill."""

    code = "a2a_unknown_skill"


class NoUsableRequirementError(ConfigurationError):
    """Of what the card lets callers prove, we can prove nothing whole.

    `alternatives` says for each, as scheme names joined by " + ", what was lacking.
    """

    code = "a2a_no_usable_requirement"

    def __init__(self, alternatives: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        told = "; ".join(f"{name}: {', '.join(lacks)}" for name, lacks in alternatives)
        super().__init__(f"the agent asks for what we cannot show: {told}")
        self.alternatives = tuple(alternatives)


class ForeignOriginError(AuthorizationError):
    """A request would leave the origin that the card owns, and our credentials with it."""

    code = "a2a_foreign_origin"


class NotKnownToAgentError(AuthenticationError):
    """The agent does not know us, or not by what we showed (401)."""

    code = "a2a_not_known_to_agent"


class NotAllowedByAgentError(AuthorizationError):
    """The agent knows us, and says no (403)."""

    code = "a2a_not_allowed_by_agent"


class AnswerLostError(UnavailableError):
    """The request went out, and no whole answer came back: it may have been done, or not.

    `message_id` is that of the message, if it handed one over: sent again with the same, it is the same message.
    """

    code = "a2a_answer_lost"
    message_id: str | None = None


class TaskNotCancelableError(ConflictError):
    """The task is at a point where it cannot be canceled."""

    code = "a2a_task_not_cancelable"


class _TaskError(ConflictError):
    """A task that has no result. `task` is as the agent last told it; `asks_for` what it says, in its words."""

    code = "a2a_task"

    def __init__(self, message: str, *, task: Mapping[str, Any], asks_for: str) -> None:
        super().__init__(message)
        self.task = task
        self.asks_for = asks_for


class InputNeededError(_TaskError):
    """The task waits for another message."""

    code = "a2a_input_needed"


class AuthorizationNeededError(_TaskError):
    """The task waits until somebody authorises it, out of band (A2A 7.6)."""

    code = "a2a_authorization_needed"


class TaskEndedError(_TaskError):
    """The task failed, or was canceled or rejected."""

    code = "a2a_task_ended"
