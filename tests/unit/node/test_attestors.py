"""What the attestors find out, and what they keep to themselves."""

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest

from agentshield.node.attestation import WorkloadAttestation
from agentshield.node.attestors.unix import ProgramSelectors, UnixAttestor
from agentshield.node.entries import Entry, unique_hints
from agentshield.node.errors import AttestationFailedError, InvalidSelectorError, UnreadableFileError
from agentshield.node.file_measure import FileMeasurer, Reader
from agentshield.node.peer import Peer, PeerProof
from agentshield.node.process import Process
from agentshield.node.selectors import Selector
from agentshield.node.storage import NodeStorage
from agentshield.node.unix_listener import UnixListener


@pytest.fixture
def me():
    with Process.open(os.getpid()) as process:
        yield Peer(uid=os.geteuid(), gid=os.getegid(), proof=PeerProof.PEER_PIDFD, process=process)


def values(selectors) -> set[str]:
    return {str(selector) for selector in selectors}


async def test_unix_selectors_are_spelled_as_spires(me: Peer):
    """Entries written for SPIRE must mean the same here."""
    found = values((await WorkloadAttestation(UnixAttestor(FileMeasurer())).attest(me)).selectors)
    assert {f"unix:uid:{os.geteuid()}", f"unix:gid:{os.getegid()}"} <= found
    assert {f"unix:supplementary_gid:{gid}" for gid in os.getgroups()} <= found
    if os.geteuid() == 0:
        assert {"unix:user:root", "unix:group:root"} <= found
    assert not [each for each in found if each.startswith(("unix:path", "unix:sha256"))]


async def test_the_program_file_is_attested_on_request_only(me: Peer):
    """For a Python agent it is the interpreter: useful to some, misleading to most, so it is asked for."""
    attestor = UnixAttestor(FileMeasurer(), program=ProgramSelectors.PATH_AND_SHA256)
    found = values((await WorkloadAttestation(attestor).attest(me)).selectors)
    program = Path(sys.executable).resolve()  # noqa: ASYNC240
    assert f"unix:path:{program}" in found
    assert f"unix:sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}" in found


async def test_one_attestor_may_fail_and_all_may_not(me: Peer):
    """A broken attestor costs its own selectors; when nothing is known at all, nothing is guessed."""

    class Broken(UnixAttestor):
        name = "broken"

        async def attest(self, workload):
            raise UnreadableFileError("no")

    attestation = await WorkloadAttestation(UnixAttestor(FileMeasurer()), Broken(FileMeasurer())).attest(me)
    assert [each.problem for each in attestation.results] == [None, "no"]
    with pytest.raises(AttestationFailedError, match="broken: no"):
        await WorkloadAttestation(Broken(FileMeasurer())).attest(me)


async def test_a_file_is_hashed_once_and_again_when_it_changed(tmp_path: Path, monkeypatch):
    """An owner can set a file's time back; the change time shows it all the same."""
    file = tmp_path / "script.py"
    file.write_text("one")
    before = file.stat()
    measurer, hashed = FileMeasurer(), []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(args) or digest(*args))
    first = await measurer.sha256(str(file))
    assert await measurer.sha256(str(file)) == first
    assert len(hashed) == 1
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await measurer.sha256(str(file)) != first


async def test_a_file_beyond_the_limit_is_not_hashed(tmp_path: Path):
    """Hashing is work that a caller must not be able to order by the terabyte."""
    file = tmp_path / "large"
    with file.open("wb") as sparse:
        sparse.truncate(10**12)
    with pytest.raises(UnreadableFileError):
        await FileMeasurer().sha256_for(str(file), Reader(uid=os.geteuid(), gid=os.getegid()))


@pytest.mark.parametrize("text", ["", "unix", "unix:", ":uid:0"])
def test_what_is_no_selector_is_refused(text: str):
    """A selector that matches nothing, or everything, by a slip."""
    with pytest.raises(InvalidSelectorError):
        Selector.parse(text)


def test_a_selector_keeps_the_colons_of_its_value():
    """Values have colons of their own."""
    assert Selector.parse("unix:user:a:b") == Selector("unix", "user:a:b")


def test_an_entry_without_selectors_is_nobodys():
    """The empty set is part of every set; such an entry would be everybody's."""
    entry = Entry(id="1", spiffe_id=None, selectors=frozenset(), created_at=None)
    assert not entry.applies_to(frozenset({Selector("unix", "uid:0")}))
    assert not entry.applies_to(frozenset())
    assert unique_hints([]) == {}


def test_a_dead_servers_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path):
    """A crash must not need a clean-up by hand; a second start must not steal the workloads of the first."""
    from agentshield.node.errors import SocketInUseError

    path = tmp_path / "s"
    first = UnixListener.bind(path, mode=0o777)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    with pytest.raises(SocketInUseError, match="listens on"):
        UnixListener.bind(path, mode=0o777)
    first.socket.close()  # as a crash does: the file stays
    second = UnixListener.bind(path, mode=0o700)
    first.close()
    assert path.exists()  # the first's late end must not take the second's socket away
    second.close()
    assert not path.exists()
    path.write_text("not a socket")
    with pytest.raises(SocketInUseError, match="not a socket"):
        UnixListener.bind(path, mode=0o777)
    with pytest.raises(SocketInUseError, match="bytes"):
        UnixListener.bind(tmp_path / ("x" * 120), mode=0o777)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch):
    """Half a file would cost the node its identity at the next start."""
    from node_harness import TRUST_DOMAIN, new_issuer

    from agentshield.clock import system_clock
    from agentshield.identity.bundle import TrustBundle
    from agentshield.identity.keys import generate_private_key
    from agentshield.identity.spiffe_id import SpiffeId
    from agentshield.identity.x509_svid import X509Svid
    from agentshield.node.storage import StoredNode

    issuer, key, now = new_issuer(TRUST_DOMAIN), generate_private_key(), system_clock()
    chain = issuer.issue_x509_svid(
        SpiffeId.of(TRUST_DOMAIN, "/spire/agent/x"), key.public_key(), not_before=now, not_after=now.replace(year=2027)
    )
    node = StoredNode(svid=X509Svid.of(chain, key), bundle=TrustBundle(trust_domain=TRUST_DOMAIN))
    storage = NodeStorage(tmp_path, TRUST_DOMAIN)
    storage.save(node)
    kept = (tmp_path / "node.json").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        storage.save(node)
    assert (tmp_path / "node.json").read_bytes() == kept
    assert [each.name for each in tmp_path.iterdir()] == ["node.json"]
    assert storage.load() == node or storage.load().svid.chain == node.svid.chain
