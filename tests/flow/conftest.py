"""Real processes on this machine: `agentshield` as a user types it, in a directory of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def data(self):
        return json.loads(self.out)


@dataclass
class Desk:
    """A working directory, a state directory, and the processes started from them."""

    home: Path
    environment: dict[str, str]
    running: list[subprocess.Popen] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return Path(self.environment["AGENTSHIELD_STATE_DIR"])

    def type(self, line: str, *, stdin: str | None = None, timeout: float = 60) -> Result:
        """Run a command line as a shell would, and return what came of it."""
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.home,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, line: str, **environment: str) -> subprocess.Popen:
        """Start a command line that goes on running; its output is in `<first word after agentshield>.log`."""
        log = (self.home / f"{len(self.running)}.log").open("w")
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            cwd=self.home,
            env={**self.environment, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        log.close()
        self.running.append(process)
        return process

    def log_of(self, process: subprocess.Popen) -> str:
        return (self.home / f"{self.running.index(process)}.log").read_text()

    def wait_for(self, process: subprocess.Popen, text: str, *, seconds: float = 30) -> str:
        """Wait until a process has printed `text`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            if text in (log := self.log_of(process)):
                return log
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not printed; exit code {process.poll()}:\n{self.log_of(process)}")

    def up(self, options: str = "") -> subprocess.Popen:
        process = self.start(f"agentshield up {options}")
        self.wait_for(process, "AgentShield is up")
        return process

    def close(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def a_desk() -> Iterator[Desk]:
    # Not tmp_path: its name is nearly as long as a socket's path may be.
    home = Path(tempfile.mkdtemp(prefix="flow-"))
    inherited = ("AGENTSHIELD_", "SPIFFE_", "UVICORN_")
    outer = {key: value for key, value in os.environ.items() if not key.startswith(inherited)}
    ours = {
        "PATH": f"{BIN}{os.pathsep}{outer['PATH']}",
        "AGENTSHIELD_STATE_DIR": str(home / "state"),
        "PYTHONUNBUFFERED": "1",
    }
    desk = Desk(home, outer | ours)
    try:
        yield desk
    finally:
        desk.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with a_desk() as desk:
        yield desk


@pytest.fixture(scope="module")
def module_desk() -> Iterator[Desk]:
    with a_desk() as desk:
        yield desk


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
