"""A PostgreSQL of the tests' own: a whole cluster in a temporary directory, started when the first test asks for it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

_START_SECONDS = 30
_STOP_SECONDS = 20


@dataclass
class PostgresqlCluster:
    """A running cluster; each worker of pytest-xdist has one of its own."""

    programs: Path
    directory: Path
    port: int
    account: pwd.struct_passwd | None
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def start(self) -> None:
        log = (self.directory / "log").open("ab")
        data, sockets = str(self.directory / "data"), str(self.directory)
        command = [str(self.programs / "postgres"), "-D", data, "-k", sockets, "-h", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.run_as())
        log.close()
        deadline = time.monotonic() + _START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.execute("SELECT 1")
            except Exception:
                time.sleep(0.05)
            else:
                return
        pytest.skip("PostgreSQL did not start: " + (self.directory / "log").read_text()[-400:])

    def stop(self) -> None:
        """Stop at once: connections are cut, what was committed stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(_STOP_SECONDS)

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=2) as connection:
            connection.execute(statement)

    def url(self, database: str) -> str:
        return f"postgresql://agentshield@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def run_as(self) -> dict[str, object]:
        """PostgreSQL refuses to run as root; where we are root, it runs as somebody with fewer rights."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL server on a free port of loopback, or a skip that says why there is none."""
    pytest.importorskip("psycopg", reason="the extra `postgresql` is not installed")
    programs = _find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs (initdb, postgres) in /usr/lib/postgresql/*/bin or on the PATH")
    directory = Path(tempfile.mkdtemp(prefix="agentshield-pg-"))
    cluster = PostgresqlCluster(programs, directory, _free_port(), _unprivileged_account())
    try:
        if cluster.account is not None:
            os.chown(directory, cluster.account.pw_uid, cluster.account.pw_gid)
        initdb = [str(programs / "initdb"), "-D", str(directory / "data"), "-U", "agentshield"]
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            initdb + options, capture_output=True, text=True, cwd="/", check=False, **cluster.run_as()
        )
        if made.returncode != 0:
            pytest.skip(f"initdb failed: {made.stderr.strip()[-400:]}")
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql_cluster: PostgresqlCluster) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = postgresql_cluster.new_database()
    yield postgresql_cluster.url(name)
    postgresql_cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _find_programs() -> Path | None:
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    on_path = [Path(directory) for directory in os.environ.get("PATH", "").split(os.pathsep) if directory]
    for directory in [*packaged, *on_path]:
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory
    return None


def _unprivileged_account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("running as root, and there is no unprivileged account to run PostgreSQL as")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
