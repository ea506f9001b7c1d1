"""Real processes, as a user starts them: each test has a state directory and a port of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
PATIENCE = 60


@dataclass
class Terminal:
    """A directory, an environment, and the commands typed there."""

    directory: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __call__(self, line: str, *, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command as it stands in the documentation, and hold it to its exit code."""
        done = subprocess.run(
            line.split(),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == exit_code, f"$ {line}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def background(self, line: str, *, until: str) -> Path:
        """Start a command that stays, and wait until its output says that it is there."""
        log = self.directory / f"{len(self.running)}.log"
        with log.open("wb") as output:
            self.running.append(
                subprocess.Popen(
                    line.split(), cwd=self.directory, env=self.environment, stdout=output, stderr=subprocess.STDOUT
                )
            )
        deadline = time.monotonic() + PATIENCE
        while until not in log.read_text():
            assert time.monotonic() < deadline, f"$ {line}\n{log.read_text()}"
            assert self.running[-1].poll() is None, f"$ {line}\n{log.read_text()}"
            time.sleep(0.05)
        return log

    def close(self) -> None:
        """End what was started here, and nothing else."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            process.wait(PATIENCE)


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def terminal(tmp_path: Path, port: int) -> Iterator[Terminal]:
    """A new user's terminal, in an empty directory."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AGENTSHIELD_", "SPIFFE_"))},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "AGENTSHIELD_STATE_DIR": str(tmp_path / "state"),
        "UVICORN_PORT": str(port),
    }
    terminal = Terminal(tmp_path, environment)
    try:
        yield terminal
    finally:
        terminal.close()
        leftovers: Sequence[str] = (str(BIN / "agentshield"), "down", "--purge", "--yes")
        subprocess.run(leftovers, env=environment, capture_output=True, timeout=PATIENCE, check=False)
