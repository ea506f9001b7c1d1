"""Attack: somebody edits the published tiles, an export, or a proof file on its way to the auditor.

Both verifiers, ours and the stand-alone one that shares no code with it, must refuse every edit. The stand-alone one is
run as the auditor runs it: a file, a key, a Python without AgentShield.
"""

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit import verify_offline
from agentshield.audit.checkpoint import CheckpointKey, sign_checkpoint
from agentshield.audit.errors import AlteredTileError, CheckpointError, RootMismatchError
from agentshield.audit.events import CallDecided, Decision
from agentshield.audit.log import AuditLog
from agentshield.audit.merkle import MerkleTree, TreeHead, leaf_hash
from agentshield.audit.proof import InclusionProofFile
from agentshield.audit.signer import InProcessSigner
from agentshield.audit.store import MemoryAuditStore
from agentshield.errors import IntegrityError

START = datetime(2026, 3, 16, 9, 0, tzinfo=UTC)
COUNT = 600  # two full tiles and a partial one
VERIFIER = Path(verify_offline.__file__)


class Published:
    """A running log with published tiles, an export of it, and proofs of two events, one of them erased."""

    def __init__(self, path: Path, log: AuditLog) -> None:
        self.log = log
        self.tiles, self.export = path / "tiles", path / "export"
        self.proof, self.erased_proof = path / "proof.json", path / "erased.json"

    def offline(self, path: Path, key: CheckpointKey | None = None) -> int:
        """Run the verifier in this process (a hundred interpreters would take a minute)."""
        verify = verify_offline.verify_directory if path.is_dir() else verify_offline.verify_proof
        try:
            verify(path, verify_offline.read_key(str(key or self.log.key)))
        except (verify_offline.Tampered, ValueError, KeyError, TypeError, AttributeError):
            return 3
        return 0


@pytest.fixture
async def published(tmp_path: Path) -> AsyncIterator[Published]:
    """Six hundred calls, the third of them erased."""
    signer = InProcessSigner.generate(origin="example.test/audit")
    events = [
        CallDecided(
            at=START + timedelta(seconds=number),
            caller="spiffe://example.test/agents/planner",
            callee="spiffe://example.test/agents/analyst",
            action="invoke",
            skill=f"h\u00e9llo {number}",
            decision=Decision.DENY,
        )
        for number in range(COUNT - 1)
    ]
    async with await AuditLog.open(MemoryAuditStore(), signer=signer, tiles=tmp_path / "tiles") as log:
        await log.append_many(events)
        await log.erase(events[2].event_id, by="admin", at=START)
        await log.checkpoint()
        here = Published(tmp_path, log)
        here.proof.write_text((await log.prove(events[300].event_id)).to_json())
        here.erased_proof.write_text((await log.prove(events[2].event_id)).to_json())
        await log.export(here.export)
        yield here


async def test_untouched_all_of_it_verifies(published: Published):
    """The accepting half of every refusal below; both verifiers agree."""
    assert (await published.log.verify()).size == COUNT
    for path in (published.export, published.tiles, published.proof, published.erased_proof):
        assert published.offline(path) == 0
    for path in (published.proof, published.erased_proof):
        assert InclusionProofFile.from_json(path.read_text()).verify(published.log.key).size == COUNT


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the stand-alone verifier as a stranger does: isolated, no site packages."""
    command = [sys.executable, "-I", "-S", str(VERIFIER), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_stranger_gets_exit_codes_and_one_line(published: Published, tmp_path: Path):
    """0 verified, 3 tampered with, 2 usage: what a script in an audit department checks."""
    key = published.tiles / "checkpoint.pub"
    good = run("--key", key, published.proof)
    assert (good.returncode, good.stderr) == (0, "")
    assert "is in the log, at index 300 of 600" in good.stdout
    erased = run("--key", str(published.log.key), published.erased_proof)
    assert (erased.returncode, "holds no event" in erased.stdout) == (0, True)
    whole = run("--key", key, published.export)
    assert (whole.returncode, "600 entries verified, 599 with their event" in whole.stdout) == (0, True)
    (published.export / "tile/0/001").unlink()
    bad = run("--key", key, published.export)
    assert (bad.returncode, bad.stdout) == (3, "")
    assert bad.stderr.startswith("TAMPERED: tile/0/001 cannot be read")
    assert run(published.proof).returncode == 2
    assert run("--key", "nonsense", published.proof).returncode == 2
    assert run("--key", "a+b+c", published.proof).returncode == 2
    assert run("--key", key, tmp_path / "absent").returncode == 2
    other = CheckpointKey.of("example.test/audit", Ed25519PrivateKey.generate())
    assert run("--key", other, published.proof).returncode == 3


FILES = [
    "checkpoint",
    "tile/0/000",
    "tile/0/001",
    "tile/0/002.p/88",
    "tile/1/000.p/2",
    "tile/entries/000",
    "tile/entries/002.p/88",
]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("edit", [flip, truncate, lengthen, remove])
@pytest.mark.parametrize("name", FILES)
async def test_an_edited_tile_is_refused_by_both(published: Published, name: str, edit: Callable[[Path], None]):
    """Tiles are served to anybody by a plain web server; whoever can write there must not rewrite history."""
    for directory in (published.tiles, published.export):
        edit(directory / name)
    with pytest.raises((AlteredTileError, CheckpointError)):
        await published.log.verify()
    assert published.offline(published.export) == 3
    assert published.offline(published.tiles) == 3


Lines = Callable[[list[str]], object]
LINES: dict[str, Lines] = {
    "drop": lambda lines: lines.pop(5),
    "truncate": lambda lines: lines.pop(),
    "append": lambda lines: lines.append(lines[-1]),
    "reorder": lambda lines: lines.insert(5, lines.pop(6)),
    "insert": lambda lines: lines.insert(5, lines[5]),
    "change a word": lambda lines: lines.__setitem__(5, lines[5].replace('"deny"', '"allow"')),
    "change an index": lambda lines: lines.__setitem__(5, lines[5].replace('"index":5', '"index":6')),
    "another's body": lambda lines: lines.__setitem__(5, lines[6].replace('"index":6', '"index":5')),
    "no salt": lambda lines: lines.__setitem__(5, json.dumps({**json.loads(lines[5]), "salt": ""})),
    "no JSON": lambda lines: lines.__setitem__(5, "{"),
}


@pytest.mark.parametrize("edit", LINES.values(), ids=LINES)
def test_edited_events_of_an_export_are_refused(published: Published, edit: Lines):
    """The auditor reads events.jsonl; each line must be the one that was signed for."""
    path = published.export / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    edit(lines)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert published.offline(published.export) == 3


def test_a_forged_log_under_another_key_is_refused(published: Published, tmp_path: Path):
    """A perfect log, signed by the attacker, is somebody else's log."""
    other = Ed25519PrivateKey.generate()
    note = (published.export / "checkpoint").read_text()
    size = int(note.splitlines()[1])
    root = base64.b64decode(note.splitlines()[2])
    forged = sign_checkpoint(TreeHead(size, root), other, origin="example.test/audit").note
    (published.export / "checkpoint").write_text(forged)
    assert published.offline(published.export, CheckpointKey.of("example.test/audit", other)) == 0
    assert published.offline(published.export) == 3


async def test_a_published_checkpoint_of_another_tree_is_refused(published: Published):
    """Signed by the right key, over something else: only a broken signer makes one, and then we must know."""
    other = MerkleTree([leaf_hash(b"x")])
    key = published.log._signer._signer._private_key  # type: ignore[attr-defined]
    note = sign_checkpoint(other.head(), key, origin="example.test/audit").note
    (published.tiles / "checkpoint").write_text(note)
    with pytest.raises(RootMismatchError):
        await published.log.verify()


PROOF_EDITS: dict[str, Callable[[dict], object]] = {
    "event": lambda p: p["event"]["actor"]["user"].update(uid="spiffe://example.test/agents/other"),
    "event's decision": lambda p: p["event"].update(action_id=1),
    "event's time": lambda p: p["event"].update(time=0),
    "salt": lambda p: p.update(salt=base64.b64encode(bytes(16)).decode()),
    "short salt": lambda p: p.update(salt=base64.b64encode(bytes(15)).decode()),
    "id": lambda p: p.update(event_id="00000000-0000-7000-8000-000000000000"),
    "index": lambda p: p.update(index=p["index"] + 1),
    "negative index": lambda p: p.update(index=-1),
    "entry": lambda p: p.update(entry=base64.b64encode(b"\1" + bytes(44)).decode()),
    "path": lambda p: p["inclusion"].__setitem__(0, base64.b64encode(bytes(32)).decode()),
    "short path": lambda p: p["inclusion"].pop(),
    "long path": lambda p: p["inclusion"].append(base64.b64encode(bytes(32)).decode()),
    "no path": lambda p: p.update(inclusion=[]),
    "size": lambda p: p.update(checkpoint=p["checkpoint"].replace("\n600\n", "\n601\n")),
    "unsigned": lambda p: p.update(checkpoint=p["checkpoint"].partition("\u2014")[0]),
    "format": lambda p: p.update(format="agentshield/audit-proof/v2"),
    "null event": lambda p: p.update(event=[]),
    "no checkpoint": lambda p: p.pop("checkpoint"),
}


@pytest.mark.parametrize("edit", PROOF_EDITS.values(), ids=PROOF_EDITS)
def test_an_edited_proof_file_is_refused_by_both(published: Published, edit: Callable[[dict], object]):
    """The proof goes by mail through the hands of those it is about."""
    proof = json.loads(published.proof.read_text())
    edit(proof)
    published.proof.write_text(json.dumps(proof))
    assert published.offline(published.proof) == 3
    with pytest.raises(IntegrityError):
        InclusionProofFile.from_json(published.proof.read_text()).verify(published.log.key)


def test_the_stand_alone_signature_check_agrees_with_the_library():
    """Plain-Python Ed25519, against RFC 8032's own first vectors and a hundred spoiled ones."""
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    public, signature = key.public_key().public_bytes_raw(), key.sign(b"")
    assert public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032, 7.1
    verify_offline.verify_ed25519(public, signature, b"")
    for at in range(64):
        bad = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        with pytest.raises(verify_offline.Tampered):
            verify_offline.verify_ed25519(public, bad, b"")
    with pytest.raises(verify_offline.Tampered):
        verify_offline.verify_ed25519(public, signature, b"x")
    larger = (int.from_bytes(signature[32:], "little") + verify_offline.ORDER).to_bytes(32, "little")
    with pytest.raises(verify_offline.Tampered, match="S is out of range"):
        verify_offline.verify_ed25519(public, signature[:32] + larger, b"")
