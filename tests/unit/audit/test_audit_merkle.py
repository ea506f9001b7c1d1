"""The Merkle tree against RFC 6962 read word for word: a recursive version that nobody would ship."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentshield.audit.errors import InvalidProofError
from agentshield.audit.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    TreeHead,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = [b"entry %d" % number for number in range(70)]


def naive_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    middle = split(len(entries))
    return sha256(b"\x01" + naive_root(entries[:middle]) + naive_root(entries[middle:])).digest()


def naive_path(index: int, entries: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(entries) == 1:
        return []
    middle = split(len(entries))
    if index < middle:
        return [*naive_path(index, entries[:middle]), naive_root(entries[middle:])]
    return [*naive_path(index - middle, entries[middle:]), naive_root(entries[:middle])]


def naive_subproof(old: int, entries: list[bytes], complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    if old == len(entries):
        return [] if complete else [naive_root(entries)]
    middle = split(len(entries))
    if old <= middle:
        return [*naive_subproof(old, entries[:middle], complete), naive_root(entries[middle:])]
    return [*naive_subproof(old - middle, entries[middle:], False), naive_root(entries[:middle])]


def split(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_of(entries: list[bytes]) -> MerkleTree:
    return MerkleTree(leaf_hash(entry) for entry in entries)


TREE = tree_of(ENTRIES)


@pytest.mark.parametrize("size", range(len(ENTRIES) + 1))
def test_root_is_rfc_6962s_at_every_size(size: int):
    """A root that differs from everybody else's cannot be verified by anybody else."""
    assert TREE.head(size) == TreeHead(size, naive_root(ENTRIES[:size]))


def test_the_empty_trees_root_is_the_hash_of_nothing():
    """RFC 6962, 2.1: a known constant, so that "no events yet" can be signed too."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 64, 65, 70])
def test_inclusion_proofs_are_rfc_6962s_and_verify(size: int):
    """An auditor's own verifier expects exactly these hashes in this order."""
    for index in range(size):
        proof = TREE.inclusion_proof(index, size)
        assert list(proof) == naive_path(index, ENTRIES[:size])
        verify_inclusion(leaf_hash(ENTRIES[index]), index, TREE.head(size), proof)


@pytest.mark.parametrize("new", [1, 2, 3, 7, 8, 9, 64, 65, 70])
def test_consistency_proofs_are_rfc_6962s_and_verify(new: int):
    """A witness follows the log by these and nothing else."""
    for old in range(1, new + 1):
        proof = TREE.consistency_proof(old, new)
        assert list(proof) == naive_subproof(old, ENTRIES[:new], True)
        verify_consistency(TREE.head(old), TREE.head(new), proof)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=200), st.data())
def test_a_longer_log_never_loses_a_leaf(entries: list[bytes], data: st.DataObject):
    """What was provable once must stay provable, whatever is added: or evidence could be grown away."""
    old = data.draw(st.integers(1, len(entries)))
    index = data.draw(st.integers(0, old - 1))
    tree = tree_of(entries)
    verify_inclusion(leaf_hash(entries[index]), index, tree.head(), tree.inclusion_proof(index, len(entries)))
    verify_inclusion(leaf_hash(entries[index]), index, tree.head(old), tree.inclusion_proof(index, old))
    verify_consistency(tree.head(old), tree.head(), tree.consistency_proof(old, len(entries)))
    assert tree.head(old) == tree_of(entries[:old]).head()


@given(st.integers(2, 70), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject):
    """One changed, missing, added or moved hash lets somebody prove what was never logged."""
    index = data.draw(st.integers(0, size - 1))
    proof = list(TREE.inclusion_proof(index, size))
    at = data.draw(st.integers(0, len(proof) - 1))
    flipped = [*proof[:at], bytes(32), *proof[at + 1 :]]
    for bad in (flipped, proof[:at] + proof[at + 1 :], [*proof, bytes(32)], [bytes(32), *proof]):
        with pytest.raises(InvalidProofError):
            verify_inclusion(leaf_hash(ENTRIES[index]), index, TREE.head(size), bad)
    with pytest.raises(InvalidProofError):
        verify_inclusion(leaf_hash(b"never logged"), index, TREE.head(size), proof)


@given(st.integers(2, 70), st.data())
def test_a_proof_for_another_place_is_refused(size: int, data: st.DataObject):
    """The order of events is evidence, too."""
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    with pytest.raises(InvalidProofError):
        verify_inclusion(leaf_hash(ENTRIES[index]), other, TREE.head(size), TREE.inclusion_proof(index, size))


@pytest.mark.parametrize("index", [-1, 8, 2**70])
def test_a_proof_for_a_place_outside_the_tree_is_refused(index: int):
    """An index beyond the tree must not be folded into it by shifting."""
    with pytest.raises(InvalidProofError, match="8 leaves"):
        verify_inclusion(leaf_hash(ENTRIES[0]), index, TREE.head(8), TREE.inclusion_proof(0, 8))


@given(st.integers(1, 69), st.data())
def test_a_fork_has_no_consistency_proof(old: int, data: st.DataObject):
    """A log that shows two histories must not be able to connect them."""
    new = data.draw(st.integers(old, 70))
    changed = data.draw(st.integers(0, old - 1))
    fork = tree_of([*ENTRIES[:changed], b"forged", *ENTRIES[changed + 1 :]])
    for tree in (TREE, fork):
        with pytest.raises(InvalidProofError):
            verify_consistency(TREE.head(old), fork.head(new), tree.consistency_proof(old, new))


@given(st.integers(1, 69), st.data())
def test_a_changed_consistency_proof_is_refused(old: int, data: st.DataObject):
    """Each hash of the proof carries a part of the history."""
    new = data.draw(st.integers(old + 1, 70))
    proof = list(TREE.consistency_proof(old, new))
    at = data.draw(st.integers(0, len(proof) - 1))
    for bad in ([*proof[:at], bytes(32), *proof[at + 1 :]], proof[:at] + proof[at + 1 :], [*proof, bytes(32)], []):
        with pytest.raises(InvalidProofError):
            verify_consistency(TREE.head(old), TREE.head(new), bad)


def test_a_consistency_proof_never_goes_backwards():
    """Or a shortened log could be passed off as the next one."""
    with pytest.raises(InvalidProofError, match="backwards"):
        verify_consistency(TREE.head(9), TREE.head(8), ())


def test_equal_sizes_need_equal_roots_and_no_proof():
    """Two roots of one size are the plainest fork there is."""
    verify_consistency(TREE.head(8), TREE.head(8), ())
    with pytest.raises(InvalidProofError):
        verify_consistency(TREE.head(8), TreeHead(8, bytes(32)), ())
    with pytest.raises(InvalidProofError):
        verify_consistency(TREE.head(8), TREE.head(8), [bytes(32)])


def test_the_empty_tree_is_the_beginning_of_every_tree():
    """The first checkpoint has nothing before it; a "root" of an empty tree that is not the constant is forged."""
    verify_consistency(TREE.head(0), TREE.head(8), TREE.consistency_proof(0, 8))
    with pytest.raises(InvalidProofError):
        verify_consistency(TreeHead(0, bytes(32)), TREE.head(8), ())


@pytest.mark.parametrize(("index", "size"), [(-1, 8), (8, 8), (0, 71), (0, -1)])
def test_asking_the_tree_for_what_it_has_not_is_an_error(index: int, size: int):
    """Ours to call rightly: a wrong slice would silently prove nothing."""
    with pytest.raises(ValueError, match=r"leaves|not in a tree"):
        TREE.inclusion_proof(index, size)


def test_a_node_cannot_pose_as_a_leaf():
    """RFC 6962, 2.1: without the prefixes, an inner node's preimage would be a second entry with the same root."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != tree_of([b"a", b"b"]).head().root
