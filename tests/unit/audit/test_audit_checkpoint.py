"""Checkpoints: signed notes, read strictly (C2SP signed-note, tlog-checkpoint)."""

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.checkpoint import CheckpointKey, sign_checkpoint, verify_checkpoint
from agentshield.audit.errors import (
    CheckpointError,
    CheckpointSignatureError,
    MalformedCheckpointError,
    UnsignedCheckpointError,
    WrongOriginError,
)
from agentshield.audit.merkle import TreeHead

PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "example.test/audit"
KEY = CheckpointKey.of(ORIGIN, PRIVATE_KEY)
HEAD = TreeHead(42, sha256(b"root").digest())
NOTE = sign_checkpoint(HEAD, PRIVATE_KEY, origin=ORIGIN).note


def signed_text(text: str, *, name: str = ORIGIN, key_id: bytes = KEY.key_id) -> str:
    """Sign any text as the note format wants it, right or wrong."""
    signature = base64.b64encode(key_id + PRIVATE_KEY.sign(text.encode())).decode()
    return f"{text}\n\u2014 {name} {signature}\n"


def test_a_checkpoint_is_three_lines_a_gap_and_a_signature():
    """Every tool of the tlog ecosystem reads these bytes."""
    root = base64.b64encode(HEAD.root).decode()
    text, signature = NOTE.split("\n\n")
    assert text == f"example.test/audit\n42\n{root}"
    assert signature.startswith("\u2014 example.test/audit ")
    assert signature.endswith("\n")


def test_the_key_id_is_the_hash_of_name_newline_type_and_key():
    """signed-note: another rule, and no other tool finds the signature that is by its key."""
    public = PRIVATE_KEY.public_key().public_bytes_raw()
    assert KEY.key_id == sha256(b"example.test/audit\n\x01" + public).digest()[:4]
    line = NOTE.splitlines()[-1].split(" ")[2]
    assert base64.b64decode(line)[:4] == KEY.key_id


def test_a_signed_checkpoint_verifies():
    """What we sign, we and others can read."""
    assert verify_checkpoint(NOTE, KEY).head == HEAD


def test_a_key_survives_its_text_form():
    """Operators hand the key on as one line of text."""
    assert CheckpointKey.parse(f"{KEY}\n") == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        f"{ORIGIN}+00000000+{str(KEY).split('+', 2)[2]}",
        str(KEY)[:-4],
        "a b+" + str(KEY),
    ],
)
def test_a_key_that_is_not_one_is_refused(text: str):
    """A truncated key, or one whose id is another's, must not quietly verify something else."""
    with pytest.raises(MalformedCheckpointError):
        CheckpointKey.parse(text)


def test_wrong_key_is_refused():
    """The attacker signs a perfect checkpoint of a forged log with a key of their own."""
    forged = sign_checkpoint(HEAD, Ed25519PrivateKey.generate(), origin=ORIGIN).note
    with pytest.raises(UnsignedCheckpointError, match=r"expected example\.test/audit\+"):
        verify_checkpoint(forged, KEY)


def test_wrong_key_with_our_key_id_is_refused():
    """Key ids have 32 bits: anybody can make a key that has ours. The signature must decide."""
    other = Ed25519PrivateKey.generate()
    text = NOTE.rpartition("\n\n")[0] + "\n"
    raw = base64.b64encode(KEY.key_id + other.sign(text.encode())).decode()
    with pytest.raises(CheckpointSignatureError):
        verify_checkpoint(f"{text}\n\u2014 {ORIGIN} {raw}\n", KEY)


def test_key_id_mismatch_is_refused():
    """Name and id name a key together; a signature under another id is another key's."""
    text = NOTE.rpartition("\n\n")[0] + "\n"
    with pytest.raises(UnsignedCheckpointError):
        verify_checkpoint(signed_text(text, key_id=b"\0\0\0\0"), KEY)


def test_another_name_is_refused():
    """The same key used for another log signs as another name."""
    text = NOTE.rpartition("\n\n")[0] + "\n"
    with pytest.raises(UnsignedCheckpointError):
        verify_checkpoint(signed_text(text, name="example.test/other"), KEY)


def test_another_logs_checkpoint_is_refused():
    """Signed by our key, but of another log: two logs under one key would be interchangeable."""
    text = NOTE.rpartition("\n\n")[0].replace(ORIGIN, "example.test/other") + "\n"
    with pytest.raises(WrongOriginError):
        verify_checkpoint(signed_text(text), KEY)


@pytest.mark.parametrize("position", range(0, len(NOTE), 7))
def test_a_flipped_character_is_refused(position: int):
    """No byte of a checkpoint is free to change."""
    flipped = NOTE[:position] + ("B" if NOTE[position] != "B" else "C") + NOTE[position + 1 :]
    with pytest.raises(CheckpointError):
        verify_checkpoint(flipped, KEY)


@pytest.mark.parametrize("cut", range(0, len(NOTE), 11))
def test_a_truncated_checkpoint_is_refused(cut: int):
    """Half a download is not a smaller checkpoint."""
    with pytest.raises(CheckpointError):
        verify_checkpoint(NOTE[:cut], KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n042\n{'A' * 43}=\n",
        f"{ORIGIN}\n-1\n{'A' * 43}=\n",
        f"{ORIGIN}\n+1\n{'A' * 43}=\n",
        f"{ORIGIN}\n1e3\n{'A' * 43}=\n",
        f"{ORIGIN}\n\u0661\n{'A' * 43}=\n",
        f"{ORIGIN}\n{'9' * 20}\n{'A' * 43}=\n",
        f"{ORIGIN}\n1\n{'A' * 42}B=\n",
        f"{ORIGIN}\n1\nAAAA\n",
        f"{ORIGIN}\n1\n",
        f"{ORIGIN}\n1\n{'A' * 43}=\nextension\n",
        f"\n1\n{'A' * 43}=\n",
    ],
    ids=["zeros", "minus", "plus", "float", "arabic", "huge", "loose-base64", "short", "no-root", "extra", "no-origin"],
)
def test_a_text_in_another_form_is_refused_though_signed(text: str):
    """One value, one spelling: two readers that see different numbers in one signed text are a fork."""
    with pytest.raises((MalformedCheckpointError, WrongOriginError)):
        verify_checkpoint(signed_text(text), KEY)


def test_signatures_by_others_are_passed_over():
    """Witnesses add theirs; a log that refuses them cannot be witnessed."""
    cosigned = NOTE + "\u2014 witness.example/w " + base64.b64encode(b"x" * 76).decode() + "\n"
    assert verify_checkpoint(cosigned, KEY).head == HEAD


def test_a_good_signature_does_not_cover_for_a_bad_one_by_the_same_key():
    """signed-note: a known key's signature that fails spoils the note."""
    bad = base64.b64encode(KEY.key_id + bytes(64)).decode()
    with pytest.raises(CheckpointSignatureError):
        verify_checkpoint(f"{NOTE}\u2014 {ORIGIN} {bad}\n", KEY)


@pytest.mark.parametrize(
    "note", [NOTE + NOTE.splitlines(keepends=True)[-1] * 17, "x" * 70_000, "a\r\n\n", "a\x1b[0m\n\n"]
)
def test_an_oversized_or_unclean_note_is_refused(note: str):
    """Notes are read by operators, and by us before anything is verified."""
    with pytest.raises(MalformedCheckpointError):
        verify_checkpoint(note, KEY)
