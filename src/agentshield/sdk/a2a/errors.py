"""What can be wrong with an A2A call. `wire_errors` says how each binding tells the caller."""

from agentshield.errors import AuthorizationError, ConflictError, InvalidInputError, NotFoundError, UnavailableError


class A2ACallError(InvalidInputError):
    """A request that is not one of A2A 1.0. `rpc_id` is its JSON-RPC id, as far as that could be read."""

    code = "a2a_invalid_request"
    rpc_id: str | int | None = None


class NotJsonError(A2ACallError):
    """The body is not JSON, or could be read in two ways."""

    code = "a2a_not_json"


class UnknownOperationError(A2ACallError):
    """There is no such operation."""

    code = "a2a_unknown_operation"


class InvalidParamsError(A2ACallError):
    """The operation is known; what it was given is not what it takes."""

    code = "a2a_invalid_params"


class VersionNotSupportedError(A2ACallError):
    """The caller speaks another version of A2A; one that names none speaks 0.3 (A2A 3.6.2)."""

    code = "a2a_version_not_supported"


class ContentTypeNotSupportedError(A2ACallError):
    """The body is of a media type that the binding does not have."""

    code = "a2a_content_type"


class ExtensionRequiredError(A2ACallError):
    """The card requires an extension, and the caller has not said that it speaks it."""

    code = "a2a_extension_required"


class UnsupportedOperationError(A2ACallError):
    """The agent's card does not offer this."""

    code = "a2a_unsupported_operation"


class PushNotSupportedError(A2ACallError):
    """The agent's card offers no push notifications."""

    code = "a2a_push_not_supported"


class ExtendedCardMissingError(A2ACallError):
    """The card promises an extended one, and there is none."""

    code = "a2a_extended_card_missing"


class TaskNotFoundError(NotFoundError):
    """There is no such task, or context, for this caller; whether there is one for others, nobody learns."""

    code = "a2a_task_not_found"


class MessageConflictError(ConflictError):
    """This `messageId` was used for another message."""

    code = "a2a_message_conflict"


class SkillNotAllowedError(AuthorizationError):
    """The caller's token names other skills than the one asked for."""

    code = "a2a_skill_not_allowed"


class TooManyCallsError(UnavailableError):
    """The caller is over one of its limits."""

    code = "a2a_too_many_calls"


class AgentUnreachableError(UnavailableError):
    """The agent behind the gateway does not answer."""

    code = "a2a_agent_unreachable"


class InvalidAgentAnswerError(UnavailableError):
    """The agent behind the gateway answered something that is not A2A 1.0."""

    code = "a2a_invalid_agent_answer"


class AgentFailedError(UnavailableError):
    """The agent behind the gateway says that it has failed."""

    code = "a2a_agent_failed"
