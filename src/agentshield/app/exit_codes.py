"""What the command's exit code says, published as `agentshield help exit-codes`."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One number for each thing a script may want to do next."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    ANSWER_IS_NO = 3
    NOT_SIGNED_IN = 4
    UNAVAILABLE = 5
    NOT_FOUND_OR_CONFLICT = 6
    PARTIAL = 7
    INTERRUPTED = 130


MEANING: dict[ExitCode, tuple[str, str]] = {
    ExitCode.DONE: ("done, including nothing to do", "agent suspend, of an agent that is suspended already"),
    ExitCode.FAILED: ("failed", "the disk is full"),
    ExitCode.USAGE: ("usage", "an unknown flag, command, file key or malformed value"),
    ExitCode.ANSWER_IS_NO: ("the answer is no", "policy check says deny; audit verify finds tampering; diff differs"),
    ExitCode.NOT_SIGNED_IN: ("credential missing or refused", "this user may not use the admin socket"),
    ExitCode.UNAVAILABLE: ("cannot reach, or not ready: safe to try again", "agentshield up is not running"),
    ExitCode.NOT_FOUND_OR_CONFLICT: ("not found, or a conflict", "no such agent; a second up on the same state"),
    ExitCode.PARTIAL: ("partly done", "a suspension reached 9 of 10 enforcement points"),
    ExitCode.INTERRUPTED: ("interrupted", "Ctrl-C, after cleaning up"),
}
