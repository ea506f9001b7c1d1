"""`agentshield down`: stop what `up` started."""

import os
import signal
import time

import click

from agentshield.app.command import Command
from agentshield.app.failure import failed
from agentshield.app.invocation import Invocation, current


@click.command(name="down", cls=Command)
@click.option("--purge", is_flag=True, help="Remove the state too: keys, entries, policy, audit log.")
def command(*, purge: bool) -> None:
    """Stop the running `up`; already stopped is fine."""
    invocation = current()
    state = invocation.state_dir
    if purge and state.trust_domain() is not None:
        invocation.confirm(f"remove {state.path} with all keys, entries and the audit log?")
    pid = state.running_pid()
    if pid is None:
        invocation.output.say(f"nothing runs on {state.path}")
    else:
        _stop(invocation, pid)
    if purge and state.trust_domain() is not None:
        state.purge()
        invocation.output.say(f"removed {state.path}")


def _stop(invocation: Invocation, pid: int) -> None:
    """Ask by SIGTERM and wait until the lock is free: the kernel frees it when the process is truly gone."""
    state = invocation.state_dir
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + max(20.0, invocation.timeout.total_seconds())
    while state.running_pid() is not None:
        if time.monotonic() > deadline:
            raise failed(
                f"process {pid} has not stopped",
                code="stop_timeout",
                family="unavailable",
                why="it may be finishing requests",
                next_step=f"kill {pid}  # a second signal forces it",
            )
        time.sleep(0.05)
    invocation.output.say(f"stopped process {pid}")
