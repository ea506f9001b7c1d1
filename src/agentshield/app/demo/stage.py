"""The demo's processes: a throw-away `agentshield up`, and agents started by `agentshield run`."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agentshield.app.admin_client import AdminClient
from agentshield.app.failure import failed
from agentshield.app.state_dir import StateDir

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 30.0


class Stage:
    """Everything that the demo starts; leaving it stops every process and removes every file."""

    def __init__(self, *, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._running = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="agentshield-demo-"))
        self._running.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.state = StateDir(self.directory / "state")
        self.admin = AdminClient(self.state.admin_socket, timeout=timedelta(seconds=10))
        ours = ("AGENTSHIELD_", "SPIFFE_", "UVICORN_", "PYTHONPATH")
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        self._environment |= {"AGENTSHIELD_STATE_DIR": str(self.state.path), "PYTHONUNBUFFERED": "1"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def start_up(self, trust_domain: str) -> dict[str, Any]:
        """Start `agentshield up`, and return what it says when it is ready."""
        up = self._start("up", ["up", "--trust-domain", trust_domain, "-o", "jsonl"])
        facts: dict[str, Any] = json.loads(up.read_line(_START_SECONDS))
        return facts

    def run(self, *arguments: str) -> str:
        """Run one `agentshield` command to its end and return its stdout.

        Raises:
            CommandError: it failed.
        """
        done = subprocess.run(  # noqa: S603 - our own commands
            [*_AGENTSHIELD, *arguments], env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise failed(
                f"agentshield {' '.join(arguments)} exited with {done.returncode}",
                code="demo_command_failed",
                family="internal",
                why=done.stderr.strip().replace("\n", "; "),
            )
        return done.stdout

    def start_analyst(self) -> int:
        """Start the analyst on a free port, and return the port when it listens."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        serve = ["-m", "uvicorn", "agentshield.app.demo.analyst:app", "--port", str(port), "--log-level", "warning"]
        analyst = self._start("analyst", ["run", "--as", "analyst", "--", sys.executable, *serve])
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and analyst.is_running:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.05)
        raise analyst.failure("is not listening")

    def start_planner(self) -> "Actor":
        """Start the planner, and return when it has its identity."""
        program = ["-m", "agentshield.app.demo.planner"]
        planner = self._start("planner", ["run", "--as", "planner", "--", sys.executable, *program])
        planner.read_line(_START_SECONDS)
        return planner

    def send_rogue(self, port: int, stolen_name: str) -> dict[str, Any]:
        """Run the rogue to its end, and return what it tells."""
        command = [sys.executable, "-m", "agentshield.app.demo.rogue", str(port), stolen_name]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def _start(self, name: str, arguments: list[str]) -> "Actor":
        self._tell(f"starting {name}")
        log = self._running.enter_context((self.directory / f"{name}.log").open("w+"))
        process = subprocess.Popen(  # noqa: S603 - our own commands
            [*_AGENTSHIELD, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us, and we stop them in order
        )
        actor = Actor(name, process, Path(log.name))
        self._running.callback(actor.stop)
        return actor


class Actor:
    """One process of the demo."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def is_running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Have the process do something, and return what it tells about it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.read_line(_ASK_SECONDS))
        return answer

    def read_line(self, seconds: float) -> str:
        """Read one line that the process prints.

        Raises:
            CommandError: none came; carries the end of its log.
        """
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise self.failure("said nothing")
        return line

    def failure(self, what: str) -> Exception:
        """Make the error that says what this process did not do, with the end of its log."""
        tail = "; ".join(self._log.read_text().strip().splitlines()[-3:])
        return failed(f"{self.name} {what}", code="demo_process_failed", family="internal", why=tail or None)

    def stop(self) -> None:
        """End the process, gently at first."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


_AGENTSHIELD: Final = [sys.executable, "-m", "agentshield.app.main"]
