"""A failure says what, why and what next, and its exit code says what a script may do."""

import click
import pytest

from agentshield import errors
from agentshield.app.exit_codes import MEANING, ExitCode
from agentshield.app.failure import Failure, failed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInputError("x"), ExitCode.USAGE),
        (errors.ConfigurationError("x"), ExitCode.USAGE),
        (errors.AuthenticationError("x"), ExitCode.NOT_SIGNED_IN),
        (errors.AuthorizationError("x"), ExitCode.ANSWER_IS_NO),
        (errors.IntegrityError("x"), ExitCode.ANSWER_IS_NO),
        (errors.NotFoundError("x"), ExitCode.NOT_FOUND_OR_CONFLICT),
        (errors.ConflictError("x"), ExitCode.NOT_FOUND_OR_CONFLICT),
        (errors.UnavailableError("x"), ExitCode.UNAVAILABLE),
        (click.UsageError("x"), ExitCode.USAGE),
        (OSError(28, "No space left on device"), ExitCode.FAILED),
        (ZeroDivisionError("x"), ExitCode.FAILED),
    ],
)
def test_each_family_has_its_exit_code(error, code):
    """A script that tries again on 5 must not try again on what will never succeed."""
    assert Failure.of(error).exit_code == code


def test_a_missing_extra_is_told_with_the_command_that_installs_it():
    """The SDK alone installs no server; who types `agentshield up` then must learn what to install."""
    failure = Failure.of(ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy.orm"))
    assert (failure.exit_code, failure.next) == (ExitCode.USAGE, "pip install 'agentshield-identity[server]'")
    assert Failure.of(ModuleNotFoundError("x", name="agentshield.nothing")).code == "internal"


def test_every_exit_code_is_explained():
    """A number that `help exit-codes` does not list is a riddle."""
    assert set(MEANING) == set(ExitCode)


def test_a_failure_crosses_the_admin_socket_whole():
    """What the authority knows about an error must reach the person at the terminal."""
    failure = Failure(what="no", code="no_such", family="not_found", why="because", next="agentshield agent list")
    assert Failure.from_json(failure.as_json()) == failure
    assert Failure.of(failed("no", code="no_such", family="not_found", why="because")).code == "no_such"


def test_the_cause_is_told_once():
    """`why` that repeats `what` is a line wasted."""

    def raised(message, cause):
        try:
            try:
                raise ValueError(cause)
            except ValueError as error:
                raise errors.UnavailableError(message) from error
        except errors.UnavailableError as error:
            return Failure.of(error).why

    assert raised("cannot connect", "port is closed") == "port is closed"
    assert raised("cannot connect: port is closed", "port is closed") is None


def test_text_has_what_why_next_and_code():
    """Four lines, in the order in which they are read."""
    text = Failure(what="no", code="c", why="w", next="n").as_text()
    assert text == "error: no\nwhy:   w\nnext:  n\ncode:  c"
