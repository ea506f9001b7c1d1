"""Where one `agentshield up` keeps everything: the layout of the state directory, and who may have it open.

state.json        the trust domain; marks the directory as ours
agentshield.db    registry, CA journal, audit rows
keys/             private keys of the authorities and of the checkpoint signer
policy/           rules.yaml, *.cedar, tests.yaml
audit/            checkpoint, checkpoint.pub, tile/…
node/             the node agent's cache
run/              admin.sock, workload.sock, up.lock, up.json, ca.pem
token-service.port  where the token service listens, which its issuer's name holds
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agentshield.errors import ConfigurationError, ConflictError, UnavailableError

VARIABLE = "AGENTSHIELD_STATE_DIR"
MAX_SOCKET_PATH_BYTES = 103  # sun_path: 108 on Linux, 104 on macOS, both with a closing NUL
_MARK = "state.json"
_PORT_FILE = "token-service.port"
_LONGEST_SOCKET = "workload.sock"


class AlreadyRunningError(ConflictError):
    """Another `up` holds this state directory."""

    code = "already_running"


class NotRunningError(UnavailableError):
    """No `up` runs on this state directory."""

    code = "not_running"


@dataclass(frozen=True, slots=True)
class StateDir:
    """A state directory by its absolute path. Making the value touches nothing on disk."""

    path: Path

    @classmethod
    def locate(cls, flag: Path | None) -> Self:
        """Choose by flag, then AGENTSHIELD_STATE_DIR, then the platform's data directory."""
        if flag is not None:
            return cls(flag.absolute())
        if named := os.environ.get(VARIABLE):
            return cls(Path(named).absolute())
        from platformdirs import user_data_path

        return cls(user_data_path("agentshield"))

    @classmethod
    def temporary(cls) -> Self:
        """Make a fresh directory that its user removes again, for `up --ephemeral` and `demo`."""
        return cls(Path(tempfile.mkdtemp(prefix="agentshield-")))

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "agentshield.db"

    @property
    def keys(self) -> Path:
        """Private keys, 0700."""
        return self.path / "keys"

    @property
    def policy(self) -> Path:
        """The policy files that a person edits."""
        return self.path / "policy"

    @property
    def audit(self) -> Path:
        """The published tiles and checkpoint."""
        return self.path / "audit"

    @property
    def node(self) -> Path:
        """The node agent's cache."""
        return self.path / "node"

    @property
    def run(self) -> Path:
        """Sockets and the lock; resolved, as `run` is a symbolic link where the path is too long for a socket."""
        return (self.path / "run").resolve()

    @property
    def admin_socket(self) -> Path:
        """Where the admin API listens."""
        return self.run / "admin.sock"

    @property
    def workload_socket(self) -> Path:
        """Where the Workload API listens."""
        return self.run / "workload.sock"

    @property
    def workload_api(self) -> str:
        """The Workload API's address as SPIFFE_ENDPOINT_SOCKET takes it."""
        return f"unix://{self.workload_socket}"

    @property
    def ca_file(self) -> Path:
        """The X.509 authorities of the trust domain, PEM: for clients of the token service that speak no SPIFFE."""
        return self.run / "ca.pem"

    @property
    def log(self) -> Path:
        """What a detached `up` prints."""
        return self.path / "up.log"

    def prepare(self, trust_domain: str) -> None:
        """Make the directory and its parts, 0700, or check those that are there.

        Raises:
            ConfigurationError: the directory is somebody else's, holds other things, or another trust domain.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_owner()
        self._check_or_write_mark(trust_domain)
        self.path.chmod(0o700)
        for part in (self.keys, self.policy, self.audit, self.node):
            part.mkdir(mode=0o700, exist_ok=True)
        self._prepare_run()

    def trust_domain(self) -> str | None:
        """Read which trust domain lives here; None when the directory is not in use yet.

        Raises:
            ConfigurationError: the mark is there and is not readable as one.
        """
        try:
            return str(json.loads((self.path / _MARK).read_text())["trust_domain"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self.path / _MARK} is damaged",
                hint="restore the directory from a backup, or remove it and begin anew",
            ) from error

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the directory as the one running `up`; the kernel lets go when the process ends, however it ends.

        Raises:
            AlreadyRunningError: another process holds it; the message names its pid.
        """
        descriptor = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadyRunningError(
                    f"agentshield up already runs on {self.path}, as process {_pid_in(descriptor) or 'unknown'}",
                    hint=f"agentshield down --state-dir {self.path}",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def running_pid(self) -> int | None:
        """Give the process id of the `up` that holds this directory, or None; a stale file is not mistaken for one."""
        try:
            descriptor = os.open(self.run / "up.lock", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid_in(descriptor)
        else:
            return None
        finally:
            os.close(descriptor)

    def require_pid(self) -> int:
        """Give the process id of the running `up`.

        Raises:
            NotRunningError: there is none.
        """
        if (pid := self.running_pid()) is None:
            raise NotRunningError(f"no agentshield up runs on {self.path}", hint="agentshield up --detach")
        return pid

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Leave for other commands what only the running process knows, such as the authority's port."""
        _replace(self.run / "up.json", json.dumps(facts).encode())

    def write_ca(self, pem: bytes) -> None:
        """Publish our X.509 authorities; who reads the file while it changes reads the old or the new."""
        _replace(self.ca_file, pem)

    def kept_port(self) -> int:
        """Give the port that the token service had the last time, or 0."""
        try:
            return int((self.path / _PORT_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def keep_port(self, port: int) -> None:
        """Keep the token service's port for the next time."""
        _replace(self.path / _PORT_FILE, f"{port}\n".encode())

    def read_facts(self) -> dict[str, Any]:
        """Give what the running process left, or nothing."""
        try:
            facts: dict[str, Any] = json.loads((self.run / "up.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return facts

    def purge(self) -> None:
        """Remove the directory with all keys, entries and the audit log.

        Raises:
            ConfigurationError: it is not a state directory of ours, so it is left alone.
            AlreadyRunningError: it is in use.
        """
        if self.trust_domain() is None:
            raise ConfigurationError(f"{self.path} is not an AgentShield state directory; nothing was removed")
        if (pid := self.running_pid()) is not None:
            raise AlreadyRunningError(f"{self.path} is in use by process {pid}", hint="agentshield down")
        run = self.run
        shutil.rmtree(self.path)
        if run.exists():  # the short directory that a symbolic link led to
            shutil.rmtree(run)

    def _check_owner(self) -> None:
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            raise ConfigurationError(
                f"state directory {self.path} belongs to user id {owner}, not to {os.geteuid()}",
                hint=f"choose another: --state-dir DIR, or {VARIABLE}",
            )

    def _check_or_write_mark(self, trust_domain: str) -> None:
        held = self.trust_domain()
        if held is None:
            # Never tighten, fill or later purge a directory that somebody uses for something else.
            if strangers := sorted({p.name for p in self.path.iterdir()} - {"policy", "run", "up.log"}):
                raise ConfigurationError(
                    f"{self.path} holds {strangers[0]!r} and is not an AgentShield state directory",
                    hint="choose an empty or new directory: --state-dir DIR",
                )
            (self.path / _MARK).write_text(json.dumps({"version": 1, "trust_domain": trust_domain}))
        elif held != trust_domain:
            raise ConfigurationError(
                f"{self.path} holds trust domain {held}, not {trust_domain}",
                hint=f"agentshield up --trust-domain {held}, or another --state-dir",
            )

    def _prepare_run(self) -> None:
        run = self.path / "run"
        if len(os.fsencode(run / _LONGEST_SOCKET)) <= MAX_SOCKET_PATH_BYTES:
            run.mkdir(mode=0o700, exist_ok=True)
            return
        short = Path(tempfile.gettempdir()) / f"agentshield-{os.geteuid()}-{_digest(self.path)}"
        if len(os.fsencode(short / _LONGEST_SOCKET)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigurationError(
                f"{self.path} is too long for a Unix socket, and so is {short}",
                hint="choose a --state-dir with a shorter path",
            )
        short.mkdir(mode=0o700, exist_ok=True)
        _check_private(short)
        if not run.is_symlink():
            run.symlink_to(short)


def _check_private(directory: Path) -> None:
    """A directory under /tmp may have been made by somebody else before us: refuse to put sockets there."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"{directory} exists and is not a private directory of user id {os.geteuid()}",
            hint="choose a --state-dir with a shorter path",
        )


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    return int(text) if text.isdigit() else None
