"""The examples in docs/formats are what the code reads and writes, byte for byte."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.checkpoint import CheckpointKey, sign_checkpoint, verify_checkpoint
from agentshield.audit.entry import seal
from agentshield.audit.events import AuditLost, parse_event
from agentshield.audit.merkle import MerkleTree, leaf_hash
from agentshield.audit.proof import InclusionProofFile

FORMATS = Path(__file__).parents[3] / "docs/formats"
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = CheckpointKey.of("example.test/audit", PRIVATE_KEY)
EVENT = AuditLost(
    at=datetime(2026, 3, 16, 9, 59, 19, 123456, tzinfo=UTC), event_id="019cf621-3093-7000-8000-000000000001", count=12
)
SEALED = seal(EVENT, salt=bytes(range(16)))


def page(name: str) -> str:
    return (FORMATS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    """Return a page's indented blocks, without the indent."""
    return [
        re.sub("(?m)^    ", "", block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page(name), re.MULTILINE)
    ]


def test_the_event_page_shows_the_bytes_of_both_forms():
    """Whoever writes a client in another language starts from this page."""
    message, ocsf = re.findall(r"```json\n(.*?)\n```", page("audit-event"), re.DOTALL)
    assert parse_event(message.encode()) == EVENT
    assert message.encode() == EVENT.to_json()
    assert ocsf.encode() == SEALED.body


def test_the_entry_page_shows_the_entry_and_its_leaf():
    """Whoever writes a verifier checks it against these bytes first."""
    entry, leaf = (block.strip() for block in blocks("audit-entry"))
    assert bytes.fromhex(entry) == SEALED.entry
    assert bytes.fromhex(leaf) == leaf_hash(SEALED.entry)


def test_the_checkpoint_page_shows_a_checkpoint_and_its_key():
    """Ed25519 is deterministic: one key, one text, one checkpoint."""
    head = MerkleTree([leaf_hash(SEALED.entry)]).head()
    note = next(block for block in blocks("audit-checkpoint") if block.lstrip("\n").startswith("example.test/audit\n1"))
    assert note.lstrip("\n") == sign_checkpoint(head, PRIVATE_KEY, origin="example.test/audit").note
    assert verify_checkpoint(note.lstrip("\n"), KEY).head == head
    assert str(KEY) in page("audit-checkpoint")


def test_the_proof_page_shows_a_proof_that_verifies():
    """An example that does not verify teaches the wrong thing."""
    [text] = re.findall(r"```json\n(.*?)\n```", page("audit-proof"), re.DOTALL)
    proof = InclusionProofFile.from_json(text)
    assert proof.verify(KEY).size == 1
    assert proof.event == json.loads(SEALED.body)
