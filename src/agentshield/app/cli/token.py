"""`agentshield token`: access tokens, from files and into files. None is ever an argument, or in an error."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentshield.app.cli.shapes import (
    ACCESS_TOKEN,
    INTROSPECTION,
    TOKEN_CHECK,
    TOKEN_CLAIM,
    TOKEN_INSPECTION,
    TOKEN_REVOCATION,
)
from agentshield.app.command import Command, Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import CommandError, failed
from agentshield.app.invocation import Invocation, current

if TYPE_CHECKING:
    from agentshield.app.token_requests import MintedToken

_AS = click.option("--as", "agent", metavar="AGENT", help="Ask as this agent; as this process unless named.")
_FILE = click.option(
    "--token-file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the token; - is standard input.",
)
_AUDIENCE = click.option("--audience", required=True, help="Whom the token is for.")
_SCOPES = click.option("--scope", "scopes", multiple=True, help="What it is to reach; repeat. NAME/.default is all.")
_OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the token here (0600), not to stdout."
)


class TokenCommand(Command):
    """A verb that takes no arguments, and repeats none: the most likely one is a token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let click read, and refuse what is left over without showing it."""
        rest = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise _in_arguments(ctx)
        return rest


class TokenNoun(Noun):
    """The noun; what follows it may be a token, too."""

    command_class = TokenCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; name no wrong one that may be a token."""
        from agentshield.app.token_text import is_like_token

        if is_like_token(args[0]) and not ctx.resilient_parsing:
            raise _in_arguments(ctx)
        return super().resolve_command(ctx, args)


def _in_arguments(ctx: click.Context) -> CommandError:
    return failed(
        "a token does not belong on the command line, where every user of this machine can read it",
        code="secret_in_arguments",
        family="invalid_input",
        next_step=f"{ctx.command_path} --token-file -   # and paste it"
        if isinstance(ctx.command, TokenCommand)
        else f"{ctx.command_path} --help",
    )


@click.group(name="token", cls=TokenNoun)
def command() -> None:
    """Access tokens of the token service: minutes long, for one audience, bound to the asking agent's X509-SVID."""


@command.command()
@_AUDIENCE
@_SCOPES
@_OUT
@_AS
def mint(audience: str, scopes: tuple[str, ...], out: Path | None, agent: str | None) -> None:
    """Get a token for this agent itself, by its SVID (client credentials).

    It is bound to the agent's X509-SVID: good on connections that show that certificate, and nowhere else.
    """
    from agentshield.app.token_requests import token_desk

    async def ask() -> "MintedToken":
        async with token_desk(invocation, agent) as desk:
            return await desk.mint(audience, scopes)

    invocation = current()
    _hand_out(invocation, asyncio.run(ask()), out)


@command.command()
@_FILE
@_AUDIENCE
@_SCOPES
@click.option(
    "--subject-token-type",
    "kind",
    type=click.Choice(("access_token", "jwt", "id_token")),
    help="What the token in the file is; seen from its header unless named.",
)
@_OUT
@_AS
def exchange(
    token_file: Path, audience: str, scopes: tuple[str, ...], kind: str | None, out: Path | None, agent: str | None
) -> None:
    """Get a token on behalf of whoever the token in FILE speaks for; this agent becomes the actor (RFC 8693).

    It is bound to this agent's X509-SVID, as with mint.
    """
    from agentshield.app.token_requests import token_desk
    from agentshield.app.token_text import read_token

    subject_token = read_token(token_file)

    async def ask() -> "MintedToken":
        async with token_desk(invocation, agent) as desk:
            return await desk.exchange(subject_token, kind, audience, scopes)

    invocation = current()
    _hand_out(invocation, asyncio.run(ask()), out)


@command.command()
@_FILE
def inspect(token_file: Path) -> None:
    """Show what a token says, claim by claim, of any issuer. Proves nothing."""
    from agentshield.app.token_claims import NOT_VERIFIED, inspect_token
    from agentshield.app.token_text import read_token
    from agentshield.clock import system_clock

    output = current().output
    shown = inspect_token(read_token(token_file), at=system_clock())
    if output.chosen in ("json", "jsonl", "yaml"):
        output.show(TOKEN_INSPECTION, shown)
    else:
        output.show_all(TOKEN_CLAIM, shown["explained"])
    output.say(f"{NOT_VERIFIED}; agentshield token verify --audience NAME decides")


@command.command()
@_FILE
@_AUDIENCE
@_AS
def verify(token_file: Path, audience: str, agent: str | None) -> None:
    """Check a token as a resource called AUDIENCE would, rule by rule. Exit code 3 is no.

    Whoever presents a token must also prove the key it is bound to; there is no request here, so that is not tried.
    """
    from agentshield.app.token_checks import TokenChecks
    from agentshield.app.token_requests import token_desk
    from agentshield.app.token_text import read_token

    token = read_token(token_file)

    async def ask() -> TokenChecks:
        async with token_desk(invocation, agent) as desk:
            return await desk.verify(token, audience)

    invocation = current()
    checks = asyncio.run(ask())
    invocation.output.show_all(TOKEN_CHECK, checks.items)
    if not checks.all_passed:
        faults = ", ".join(each["check"] for each in checks.items if each["result"] == "failed")
        invocation.output.say(f"a resource would refuse it: {faults}\nnext:  agentshield token mint --audience …")
        raise click.exceptions.Exit(ExitCode.ANSWER_IS_NO)


@command.command()
@_FILE
@_AS
def introspect(token_file: Path, agent: str | None) -> None:
    """Ask the token service what a token stands for, as the server of its audience. Exit code 3 is inactive."""
    from agentshield.app.token_requests import token_desk
    from agentshield.app.token_text import read_token

    token = read_token(token_file)

    async def ask() -> dict[str, Any]:
        async with token_desk(invocation, agent) as desk:
            return await desk.introspect(token)

    invocation = current()
    answer = asyncio.run(ask())
    invocation.output.show(INTROSPECTION, answer)
    if answer.get("active") is not True:
        invocation.output.say(
            "not active: ended, revoked, unknown, or for another server\n"
            "next:  agentshield resource show AUDIENCE names the agent that may ask: --as AGENT"
        )
        raise click.exceptions.Exit(ExitCode.ANSWER_IS_NO)


@command.command()
@click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help="Holds the token; - is stdin.")
@click.option("--jti", metavar="JTI", help="The token's name, as in the audit log: for the administrator.")
@_AS
def revoke(token_file: Path | None, jti: str | None, agent: str | None) -> None:
    """Take a token back, and all that was exchanged out of it: an agent its own, the administrator any by --jti."""
    invocation = current()
    if (token_file is None) == (jti is None):
        raise click.UsageError("name one of --token-file and --jti", click.get_current_context())
    if jti is not None:
        if agent is not None:
            raise click.UsageError("--jti is the administrator's: without --as", click.get_current_context())
        _revoke_by_name(invocation, jti)
        return
    from agentshield.app.token_claims import jti_in
    from agentshield.app.token_requests import token_desk
    from agentshield.app.token_text import read_token

    assert token_file is not None
    token = read_token(token_file)
    invocation.confirm("revoke this token and what was exchanged out of it?")

    async def ask() -> None:
        async with token_desk(invocation, agent) as desk:
            await desk.revoke(token)

    asyncio.run(ask())
    invocation.output.show(TOKEN_REVOCATION, {"jti": jti_in(token)})
    invocation.output.say("revoked, if it was good still; resources refuse it within seconds")


def _revoke_by_name(invocation: Invocation, jti: str) -> None:
    from agentshield.app.token_text import is_like_token

    if is_like_token(jti):
        raise _in_arguments(click.get_current_context())
    invocation.confirm(f"revoke token {jti} and what was exchanged out of it?")
    answer = invocation.admin.post("/v1/tokens/revoke", {"jti": jti})
    invocation.output.show(TOKEN_REVOCATION, answer)
    invocation.output.say(f"revoked {len(answer['revoked'])} in all; resources refuse them within seconds")


def _hand_out(invocation: Invocation, token: "MintedToken", out: Path | None) -> None:
    """To the file, and what it is to stdout; or to stdout itself, alone, for a pipe."""
    from agentshield.app.token_text import write_token

    output = invocation.output
    if out is not None:
        write_token(out, token.value)
        output.show(ACCESS_TOKEN, {**token.shown, "token_file": str(out)})
    elif output.chosen in ("json", "jsonl", "yaml"):
        output.show(ACCESS_TOKEN, {**token.shown, "access_token": token.value})
    else:
        print(token.value)
    output.say("bound to this agent's X509-SVID: good on connections that show it, until the SVID is renewed")
