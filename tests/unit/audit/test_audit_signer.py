"""The signer: one history only, a memory that survives, a key that stays where it is."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.checkpoint import verify_checkpoint
from agentshield.audit.errors import ForkedTreeError, ShrunkTreeError, SignerStateError, SignerUnavailableError
from agentshield.audit.merkle import EMPTY_TREE, MerkleTree, leaf_hash
from agentshield.audit.signer import CheckpointSigner, ForgetfulMemory
from agentshield.audit.signer_client import ChildSigner
from agentshield.audit.signer_directory import SignerDirectory

ORIGIN = "example.test/audit"
TREE = MerkleTree(leaf_hash(b"%d" % number) for number in range(20))


def new_signer() -> CheckpointSigner:
    return CheckpointSigner(origin=ORIGIN, private_key=Ed25519PrivateKey.generate(), memory=ForgetfulMemory())


def test_it_signs_a_tree_that_grows():
    """The accepting half of every refusal below."""
    signer = new_signer()
    for old, new in ((0, 5), (5, 5), (5, 6), (6, 20)):
        note = signer.sign(TREE.head(new), TREE.consistency_proof(old, new))
        assert verify_checkpoint(note, signer.key).head == TREE.head(new) == signer.last_signed


def test_it_refuses_a_smaller_tree():
    """Whoever restores an old database must not get a signature that makes it look current."""
    signer = new_signer()
    signer.sign(TREE.head(9), ())
    with pytest.raises(ShrunkTreeError, match="tree of 9 is signed"):
        signer.sign(TREE.head(8), ())
    assert signer.last_signed == TREE.head(9)


@pytest.mark.parametrize("size", [9, 10, 20])
def test_it_refuses_a_fork(size: int):
    """A second history, under the same signature, would make the first deniable."""
    signer = new_signer()
    signer.sign(TREE.head(9), ())
    fork = MerkleTree(leaf_hash(b"forged %d" % number) for number in range(20))
    for proof in (fork.consistency_proof(9, size), TREE.consistency_proof(9, size), ()):
        with pytest.raises(ForkedTreeError):
            signer.sign(fork.head(size), proof)
    assert signer.last_signed == TREE.head(9)


def test_it_refuses_growth_without_proof():
    """The caller must show consistency; the signer never takes its word."""
    signer = new_signer()
    signer.sign(TREE.head(9), ())
    for proof in ((), TREE.consistency_proof(8, 20), TREE.consistency_proof(9, 19)):
        with pytest.raises(ForkedTreeError):
            signer.sign(TREE.head(20), proof)


def test_its_repr_shows_no_key():
    """Objects end up in tracebacks."""
    key = Ed25519PrivateKey.generate()
    signer = CheckpointSigner(origin=ORIGIN, private_key=key, memory=ForgetfulMemory())
    assert key.private_bytes_raw().hex() not in repr(signer) + repr(vars(signer))


def test_the_directory_is_private_and_keeps_key_and_memory(tmp_path: Path):
    """The same key and the same memory after every restart; nobody else's to read."""
    directory = SignerDirectory(tmp_path / "signer")
    directory.save(TREE.head(7))
    directory.close()
    again = SignerDirectory(tmp_path / "signer")
    assert again.load() == TREE.head(7)
    assert again.private_key.private_bytes_raw() == directory.private_key.private_bytes_raw()
    again.close()
    again.close()
    assert stat.S_IMODE((tmp_path / "signer").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "signer/checkpoint.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "signer/signed.json").stat().st_mode) == 0o600


def test_a_start_cut_short_before_the_key_is_done_again(tmp_path: Path):
    """Memory is written first, so a key without one is always suspicious, and this is not."""
    first = SignerDirectory(tmp_path)
    first.close()
    (tmp_path / "checkpoint.key").unlink()
    second = SignerDirectory(tmp_path)
    assert second.load() == EMPTY_TREE
    second.close()


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b'{"size": -1, "root": ""}', b'{"size": 3, "root": "AAAA"}', b"\xff"]
)
def test_a_signer_that_has_forgotten_does_not_sign(tmp_path: Path, content: bytes | None):
    """Delete its memory, and it could be made to sign another history from the start."""
    SignerDirectory(tmp_path).close()
    memory = tmp_path / "signed.json"
    memory.unlink() if content is None else memory.write_bytes(content)
    with pytest.raises(SignerStateError):
        SignerDirectory(tmp_path)


def test_a_memory_without_its_key_is_refused(tmp_path: Path):
    """A new key in the old one's place would orphan every checkpoint, silently."""
    directory = SignerDirectory(tmp_path)
    directory.save(TREE.head(7))
    directory.close()
    (tmp_path / "checkpoint.key").unlink()
    with pytest.raises(SignerStateError, match="gone"):
        SignerDirectory(tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int):
    """A key that was readable has to be taken for stolen."""
    SignerDirectory(tmp_path).close()
    (tmp_path / "checkpoint.key").chmod(mode)
    with pytest.raises(SignerStateError, match="0600 expected"):
        SignerDirectory(tmp_path)


def test_a_key_file_that_is_no_key_is_refused(tmp_path: Path):
    """Never replaced by a new key: that would be the attack."""
    SignerDirectory(tmp_path).close()
    (tmp_path / "checkpoint.key").write_bytes(b"not a key")
    with pytest.raises(SignerStateError, match="not a private key"):
        SignerDirectory(tmp_path)


def test_two_signers_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two memories of one file: each would sign what the other has not seen."""
    monkeypatch.setattr("agentshield.audit.signer_directory._LOCK_WAIT", 0.05)
    first = SignerDirectory(tmp_path)
    with pytest.raises(SignerUnavailableError, match="another checkpoint signer"):
        SignerDirectory(tmp_path)
    first.close()


async def test_a_child_process_signs_and_refuses(tmp_path: Path):
    """The same rule across the process boundary, each refusal as itself."""
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    try:
        assert await signer.last_signed() == EMPTY_TREE
        note = await signer.sign(TREE.head(9), ())
        assert verify_checkpoint(note, signer.key).head == TREE.head(9)
        with pytest.raises(ShrunkTreeError):
            await signer.sign(TREE.head(8), ())
        with pytest.raises(ForkedTreeError):
            await signer.sign(TREE.head(10), ())
        assert await signer.last_signed() == TREE.head(9)
    finally:
        await signer.close()
    await signer.close()


async def test_a_child_that_was_killed_comes_back_with_its_memory(tmp_path: Path):
    """The out-of-memory killer must not open the door to a fork."""
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    try:
        await signer.sign(TREE.head(9), ())
        assert signer.pid is not None
        os.kill(signer.pid, signal.SIGKILL)
        with pytest.raises(SignerUnavailableError):
            await signer.last_signed()
        assert await signer.last_signed() == TREE.head(9)
        with pytest.raises(ShrunkTreeError):
            await signer.sign(TREE.head(8), ())
    finally:
        await signer.close()


async def test_another_key_in_its_place_is_noticed(tmp_path: Path):
    """Whoever can write to its directory must not swap the key while we run."""
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    try:
        assert signer.pid is not None
        os.kill(signer.pid, signal.SIGKILL)
        with pytest.raises(SignerUnavailableError):
            await signer.last_signed()
        for file in (tmp_path / "signer").iterdir():
            file.unlink()
        with pytest.raises(SignerStateError, match="came back with key"):
            await signer.last_signed()
    finally:
        await signer.close()


async def test_a_child_that_cannot_start_says_why(tmp_path: Path):
    """An operator reads the reason, not a broken pipe."""
    SignerDirectory(tmp_path).close()
    (tmp_path / "signed.json").unlink()
    with pytest.raises(SignerStateError, match="signed last"):
        await ChildSigner.start(tmp_path, origin=ORIGIN)


async def test_no_secret_is_in_the_childs_arguments_or_environment(tmp_path: Path):
    """Anybody on the machine can read a command line."""
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    try:
        process = Path(f"/proc/{signer.pid}")
        arguments, environment = await asyncio.to_thread(
            lambda: [(process / n).read_bytes() for n in ("cmdline", "environ")]
        )
        pem = (tmp_path / "signer/checkpoint.key").read_bytes()
        assert b"agentshield.audit.signer_process" in arguments
        assert pem.splitlines()[1] not in arguments + environment
    finally:
        await signer.close()


async def test_the_private_key_never_crosses_the_line(tmp_path: Path):
    """There is no question that the key answers, whatever the parent asks."""
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    try:
        answers = []
        for ask in ("key", "private_key", "export", "last", None):
            try:
                answers.append(await signer._ask({"ask": ask}))
            except SignerUnavailableError as error:
                answers.append({"error": str(error)})
        pem = (tmp_path / "signer/checkpoint.key").read_text().splitlines()[1]
        assert len(answers) == 5
        assert pem not in json.dumps(answers)
        assert all(set(answer) <= {"key", "size", "root", "error"} for answer in answers)
    finally:
        await signer.close()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_the_child_dies_with_its_parent(tmp_path: Path):
    """A signer without a master would hold the lock of the next one."""
    program = (
        "import asyncio, pathlib, sys\n"
        "from agentshield.audit.signer_client import ChildSigner\n"
        "async def main():\n"
        f"    signer = await ChildSigner.start(pathlib.Path(sys.argv[1]), origin={ORIGIN!r})\n"
        "    print(signer.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline, "the signer outlives its parent"
        time.sleep(0.02)
    SignerDirectory(tmp_path).close()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_module_in_the_working_directory_does_not_get_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`python -m` would import from there first; people run `up` in directories that others wrote."""
    (tmp_path / "cryptography.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "agentshield.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    signer = await ChildSigner.start(tmp_path / "signer", origin=ORIGIN)
    await signer.close()
