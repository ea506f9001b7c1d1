"""What can be wrong with the audit log; for each way of tampering an error of its own."""

from agentshield.errors import (
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)


class InvalidEventError(InvalidInputError):
    """Bytes or members that are not an audit event as docs/formats/audit-event.md defines it."""

    code = "invalid_event"


class MisattributedEventError(AuthorizationError):
    """An enforcement point reports what happened at another."""

    code = "misattributed_event"

    def __init__(self, *, told_of: str, enforcement_point: str) -> None:
        super().__init__(f"event tells of {told_of[:256]!a}, but was seen at {enforcement_point[:256]!a}")
        self.told_of = told_of
        self.enforcement_point = enforcement_point


class EventNotFoundError(NotFoundError):
    """The log holds no event of that id."""

    code = "event_not_found"

    def __init__(self, event_id: str) -> None:
        super().__init__(
            f"no event {event_id[:64]!a} in the audit log",
            hint="agentshield audit search lists event ids",
        )


class DuplicateEventError(ConflictError):
    """The log holds another event under this event's id."""

    code = "duplicate_event"

    def __init__(self, event_id: str, index: int) -> None:
        super().__init__(f"event {event_id} is in the log at index {index} with another content")
        self.event_id = event_id
        self.index = index


class EventNotLoggedError(UnavailableError):
    """The event is not durably logged, so what it is about must not happen ("no log, no act")."""

    code = "event_not_logged"


class PublicationError(UnavailableError):
    """Tiles or an export cannot be written; the log itself is not affected."""

    code = "publication_unavailable"


class SignerUnavailableError(UnavailableError):
    """The checkpoint signer does not answer; events are still logged, but not yet under a signature."""

    code = "signer_unavailable"


class TamperedLogError(IntegrityError):
    """The log is not what it was when its checkpoint was signed."""

    code = "tampered_log"


class AlteredEventError(TamperedLogError):
    """An event's body or salt does not open the commitment in its entry."""

    code = "altered_event"


class MissingEventError(TamperedLogError):
    """An index has no event, or one that another index should have."""

    code = "missing_event"


class RolledBackLogError(TamperedLogError):
    """The log holds fewer events than were signed for."""

    code = "rolled_back_log"


class RootMismatchError(TamperedLogError):
    """The entries do not hash to the signed root: some were altered, reordered, inserted or left out."""

    code = "root_mismatch"


class AlteredTileError(TamperedLogError):
    """A published tile or entry bundle is missing, or is not the one that the signed tree has."""

    code = "altered_tile"


class CheckpointError(IntegrityError):
    """A checkpoint that cannot be relied on."""

    code = "bad_checkpoint"


class MalformedCheckpointError(CheckpointError):
    """Text that is not a checkpoint (C2SP tlog-checkpoint)."""

    code = "malformed_checkpoint"


class UnsignedCheckpointError(CheckpointError):
    """No signature on the checkpoint is by the key we trust (same name and same key id)."""

    code = "unsigned_checkpoint"


class CheckpointSignatureError(CheckpointError):
    """The signature that claims to be by the trusted key is not."""

    code = "bad_checkpoint_signature"


class WrongOriginError(CheckpointError):
    """The checkpoint is of another log."""

    code = "wrong_origin"


class InvalidProofError(IntegrityError):
    """A Merkle proof that does not lead to the root it should."""

    code = "invalid_proof"


class ShrunkTreeError(IntegrityError):
    """The signer was asked to sign a smaller tree than it signed before."""

    code = "shrunk_tree"


class ForkedTreeError(IntegrityError):
    """The signer was asked to sign a tree that does not contain the one it signed before."""

    code = "forked_tree"


class SignerStateError(IntegrityError):
    """The signer's key is there, but its memory of what it signed is missing or unreadable."""

    code = "signer_state"
