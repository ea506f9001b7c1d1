"""The `agentshield` command: reads the line, runs one command, turns every failure into four lines and an exit code.

`agentshield --help` must answer in 150 ms, so this module imports click and nothing that holds a rule.
"""

import os
import sys
from collections.abc import Sequence

import click

from agentshield.app.command import LazyCommand, LazyGroup
from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import Failure
from agentshield.app.invocation import Invocation

DAILY = {
    "up": LazyCommand("up", "start authority, node agent and audit log in one process"),
    "init": LazyCommand("init", "write two small agents that run"),
    "agent": LazyCommand("agent", "the agents: create, list, show, suspend, resume, delete"),
    "run": LazyCommand("run", "run a program under an agent's identity"),
    "call": LazyCommand("call", "one authenticated request; shows both identities and the decision"),
    "ping": LazyCommand("ping", "handshake only: who am I, who are they, how long left"),
    "whois": LazyCommand("whois", "explain a SPIFFE ID, certificate, token, bundle or decision id"),
    "lock": LazyCommand("lock", "cut an agent off now; waits until enforcement points confirm"),
    "policy": LazyCommand("policy", "who may call whom: check, explain, test, allow, diff, apply, history"),
    "audit": LazyCommand("audit", "what happened: tail, search, show, verify, prove, export"),
    "demo": LazyCommand("demo", "a guided, self-checking story on this machine"),
    "status": LazyCommand("status", "what runs, where, and what expires next"),
}
OPERATE = {
    "apply": LazyCommand("apply", "register what files say: blueprints, agents, resources, issuers, clients"),
    "down": LazyCommand("down", "stop what `up` started"),
    "entry": LazyCommand("entry", "registration entries: these selectors get this SPIFFE ID"),
    "blueprint": LazyCommand("blueprint", "kinds of agents: who sponsors them, what tokens they may have at most"),
    "resource": LazyCommand("resource", "audiences that tokens may be for, and their scopes"),
    "approve": LazyCommand("approve", "what agents ask humans for: list, show, grant, deny"),
    "issuer": LazyCommand("issuer", "external issuers we accept: add, list, show, test, remove"),
    "federated-credential": LazyCommand("federated_credential", "which foreign identity is which agent"),
    "client": LazyCommand("client", "what agents prove themselves by beside SVIDs: create, list, show, delete"),
    "export": LazyCommand("export", "what to tell Entra, AWS, GCP, OpenAI, Anthropic, Keycloak about an agent"),
    "token": LazyCommand("token", "access tokens: mint, exchange, inspect, verify, introspect, revoke"),
    "join-token": LazyCommand("join_token", "one-time admission of node agents"),
    "node": LazyCommand("node", "node agents: list, show, evict, ban, run"),
    "gateway": LazyCommand("gateway", "the enforcement point in front of A2A agents: run"),
    "task": LazyCommand("task", "tasks at A2A agents: send, show, watch, list, cancel"),
    "bundle": LazyCommand("bundle", "trust bundles: show, list, set, delete, watch"),
    "svid": LazyCommand("svid", "X509- and JWT-SVIDs: fetch, watch, inspect, verify"),
    "whoami": LazyCommand("whoami", "the identity that this process gets"),
    "unlock": LazyCommand("unlock", "undo a lock"),
    "locks": LazyCommand("locks", "list the locks in force"),
    "completion": LazyCommand("completion", "shell completion for bash, zsh and fish"),
    "version": LazyCommand("version", "the version of AgentShield, Python and OpenSSL"),
    "help": LazyCommand("help", "topics: exit-codes, environment, output, security"),
}

root = LazyGroup(
    name="agentshield",
    sections={"Daily": DAILY, "Operate": OPERATE},
    help="Every AI agent gets its own identity, every call gets a decision, and every decision can be proved later.",
    epilog="Start with: agentshield up",
    subcommand_metavar="COMMAND [ARGS]...",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing below this function ends the process."""
    invocation = Invocation()
    try:
        result = root.main(
            args=None if arguments is None else list(arguments),
            prog_name="agentshield",
            standalone_mode=False,
            obj=invocation,
        )
    except (click.exceptions.Exit, SystemExit) as stop:
        return _exit_number(stop)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception as error:
        return _report(error, invocation)
    return int(result) if isinstance(result, int) else ExitCode.DONE


def _report(error: Exception, invocation: Invocation) -> int:
    """Write the failure's four lines to stderr, the trace too if it was asked for."""
    failure = Failure.of(error)
    if invocation.verbosity > 0:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    print(failure.render(invocation.output_format), file=sys.stderr)
    return failure.exit_code


def _exit_number(stop: click.exceptions.Exit | SystemExit) -> int:
    code = stop.exit_code if isinstance(stop, click.exceptions.Exit) else stop.code
    return code if isinstance(code, int) else ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())
