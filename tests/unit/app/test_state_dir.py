"""The state directory is private, ours, and held by one process."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agentshield.app.state_dir import MAX_SOCKET_PATH_BYTES, AlreadyRunningError, NotRunningError, StateDir
from agentshield.errors import ConfigurationError


@pytest.fixture
def state(tmp_path):
    directory = StateDir(tmp_path / "state")
    directory.prepare("example.test")
    return directory


def test_every_part_is_for_its_owner_only(state):
    """Keys and sockets that another user can open are everybody's identities."""
    for part in (state.path, state.keys, state.policy, state.audit, state.node, state.run):
        assert stat.S_IMODE(part.stat().st_mode) == 0o700, part


def test_flag_beats_environment_beats_default(monkeypatch, tmp_path):
    """An operator who names a directory must not act on another one."""
    monkeypatch.setenv("AGENTSHIELD_STATE_DIR", str(tmp_path / "env"))
    assert StateDir.locate(tmp_path / "flag").path == tmp_path / "flag"
    assert StateDir.locate(None).path == tmp_path / "env"
    monkeypatch.delenv("AGENTSHIELD_STATE_DIR")
    assert StateDir.locate(None).path.name == "agentshield"


def test_preparing_again_keeps_the_trust_domain(state):
    """A second start works on the same keys; another trust domain's name on them would be a lie."""
    state.prepare("example.test")
    with pytest.raises(ConfigurationError, match=r"holds trust domain example\.test, not other\.test"):
        state.prepare("other.test")


def test_a_directory_used_for_something_else_is_refused_and_left_as_it_was(tmp_path):
    """`--state-dir /home/me` must not change that directory's mode, and `down --purge` must not empty it."""
    (tmp_path / "thesis.txt").write_text("years of work")
    mode = tmp_path.stat().st_mode
    with pytest.raises(ConfigurationError, match=r"thesis\.txt"):
        StateDir(tmp_path).prepare("example.test")
    with pytest.raises(ConfigurationError, match="nothing was removed"):
        StateDir(tmp_path).purge()
    assert tmp_path.stat().st_mode == mode
    assert (tmp_path / "thesis.txt").exists()


def test_a_damaged_mark_is_refused(state):
    """A state directory that cannot say whose keys it holds must not be started on."""
    (state.path / "state.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        state.prepare("example.test")


@pytest.fixture
def short_tmp(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        yield


@pytest.mark.usefixtures("short_tmp")
def test_a_path_too_long_for_a_socket_gets_a_short_private_directory(tmp_path):
    """Deep home directories must work, and never through a directory that somebody else can enter."""
    directory = StateDir(tmp_path / ("d" * 60) / ("e" * 60))
    directory.prepare("example.test")
    assert len(os.fsencode(directory.workload_socket)) <= MAX_SOCKET_PATH_BYTES
    assert stat.S_IMODE(directory.run.stat().st_mode) == 0o700
    directory.purge()
    assert not directory.run.exists()


@pytest.mark.usefixtures("short_tmp")
def test_a_short_directory_that_others_can_enter_is_refused(tmp_path):
    """Whoever made /tmp/agentshield-… before us could otherwise serve our agents their SVIDs."""
    directory = StateDir(tmp_path / ("d" * 60) / ("e" * 60))
    directory.prepare("example.test")
    short = directory.run
    short.chmod(0o755)
    with pytest.raises(ConfigurationError, match="not a private directory"):
        directory.prepare("example.test")


def test_a_second_holder_is_told_the_pid_of_the_first(state):
    """Two writers on one state would hand out two histories; the error says whom to stop."""
    program = (
        "import sys; from pathlib import Path; from agentshield.app.state_dir import StateDir\n"
        "with StateDir(Path(sys.argv[1])).exclusively(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(state.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        assert state.running_pid() == holder.pid
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"), state.exclusively():
            pass
        with pytest.raises(AlreadyRunningError, match="in use"):
            state.purge()
    finally:
        holder.kill()
        holder.communicate()
    assert state.running_pid() is None  # the kernel let go, though the file still names the dead process
    with state.exclusively():
        assert state.running_pid() == os.getpid()


def test_nothing_runs_where_nothing_was_prepared(tmp_path):
    """Asking about a directory that is not there is an answer, not a crash."""
    assert StateDir(tmp_path / "none").running_pid() is None
    with pytest.raises(NotRunningError):
        StateDir(tmp_path / "none").require_pid()


def test_somebody_elses_directory_is_refused(tmp_path):
    """Keys in a directory that another user owns are that user's keys."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a directory of another user")
    other = tmp_path / "other"
    other.mkdir()
    os.chown(other, 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user id 12345"):
        StateDir(Path(other)).prepare("example.test")
