"""Key files: whole or absent, ours alone, and never a path somebody else chose."""

import os
from pathlib import Path

import pytest

from agentshield.authority.key_store import FileKeyStore, KeyStoreError, MemoryKeyStore
from agentshield.errors import ConfigurationError
from agentshield.identity.errors import InvalidKeyError
from agentshield.identity.keys import generate_private_key


@pytest.fixture(params=["file", "memory"])
def key_store(request, tmp_path: Path):
    return FileKeyStore(tmp_path / "keys") if request.param == "file" else MemoryKeyStore()


def test_a_key_comes_back_as_it_went_in(key_store):
    """A key that cannot be found again is a trust domain that cannot sign."""
    key = generate_private_key()
    key_store.put("abc", key)
    assert key_store.find("abc").private_numbers() == key.private_numbers()
    assert key_store.names() == ("abc",)
    key_store.delete("abc")
    key_store.delete("abc")
    assert key_store.find("abc") is None
    assert key_store.names() == ()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a.b", "a\0b", "x" * 129])
def test_a_name_that_could_be_a_path_is_refused(key_store, name: str):
    """Key names come from a journal in a database; they must not reach outside the directory."""
    with pytest.raises(ValueError, match="key name"):
        key_store.put(name, generate_private_key())


def test_files_and_directory_are_ours_alone(tmp_path: Path):
    """Who reads the CA's key can be anybody in the trust domain."""
    old_umask = os.umask(0)
    try:
        FileKeyStore(tmp_path / "keys").put("abc", generate_private_key())
    finally:
        os.umask(old_umask)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()] == [0o600]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_directory_others_may_enter_is_refused(tmp_path: Path, mode: int):
    """Starting anyway would hide that the keys may have been copied."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(ConfigurationError, match="0700"):
        FileKeyStore(tmp_path / "keys")


def test_a_write_that_fails_leaves_the_old_key_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk in mid-write must not destroy the key that signs now."""
    store, key = FileKeyStore(tmp_path / "keys"), generate_private_key()
    store.put("abc", key)

    def no_room(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", no_room)
    with pytest.raises(KeyStoreError, match="No space left"):
        store.put("abc", generate_private_key())
    monkeypatch.undo()
    assert store.find("abc").private_numbers() == key.private_numbers()
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["abc.pk8"]


def test_what_a_power_cut_left_half_written_is_cleared_away(tmp_path: Path):
    """Half a key must neither be found nor stay."""
    FileKeyStore(tmp_path / "keys")
    (tmp_path / "keys" / ".abc.0123.new").write_bytes(b"half a ke")
    assert FileKeyStore(tmp_path / "keys").names() == ()
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_damaged_key_file_is_told_without_its_content(tmp_path: Path):
    """A damaged key is not an absent one, and error messages end up in logs."""
    store = FileKeyStore(tmp_path / "keys")
    (tmp_path / "keys" / "abc.pk8").write_bytes(b"hunter2")
    with pytest.raises(InvalidKeyError) as refusal:
        store.find("abc")
    assert "hunter2" not in str(refusal.value)
