"""Who signs checkpoints, and the one rule that makes the signature worth something: never two histories.

The signer remembers the last tree it signed, durably, and signs only a tree that it was shown to contain that one. So
whoever can write to the store, but not to the signer, can neither shorten the log nor fork it unseen.
"""

from collections.abc import Sequence
from typing import Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentshield.audit.checkpoint import CheckpointKey, sign_checkpoint
from agentshield.audit.errors import ForkedTreeError, InvalidProofError, ShrunkTreeError
from agentshield.audit.merkle import EMPTY_TREE, TreeHead, verify_consistency


class SignerMemory(Protocol):
    """What a signer remembers. `save` returns only once the head will be remembered after a crash."""

    def load(self) -> TreeHead:
        """Return the last head that was signed; the empty tree's before the first."""
        ...

    def save(self, head: TreeHead) -> None:
        """Remember a head."""
        ...


class ForgetfulMemory:
    """A memory that lasts as long as the process: for tests and for logs in memory."""

    def __init__(self) -> None:
        self._head = EMPTY_TREE

    def load(self) -> TreeHead:
        """See SignerMemory."""
        return self._head

    def save(self, head: TreeHead) -> None:
        """See SignerMemory."""
        self._head = head


class CheckpointSigner:
    """The rule, without a process around it."""

    def __init__(self, *, origin: str, private_key: Ed25519PrivateKey, memory: SignerMemory) -> None:
        self.key = CheckpointKey.of(origin, private_key)
        self._private_key = private_key
        self._memory = memory

    @property
    def last_signed(self) -> TreeHead:
        """The last head signed."""
        return self._memory.load()

    def sign(self, head: TreeHead, proof: Sequence[bytes]) -> str:
        """Sign a head that `proof` shows to contain the last one, and return the note.

        Raises:
            ShrunkTreeError: the tree is smaller than the last.
            ForkedTreeError: the tree does not contain the last, as far as the proof shows.
        """
        last = self._memory.load()
        if head.size < last.size:
            raise ShrunkTreeError(
                f"refusing to sign a tree of {head.size}, a tree of {last.size} is signed already",
                hint="was an older copy of the database restored?",
            )
        try:
            verify_consistency(last, head, proof)
        except InvalidProofError as error:
            raise ForkedTreeError(
                f"refusing to sign a tree of {head.size} that does not contain the signed tree of {last.size}: {error}",
                hint="events that were signed for have been changed, reordered or removed",
            ) from error
        self._memory.save(head)  # before the signature exists: a crash must not make us forget it
        return sign_checkpoint(head, self._private_key, origin=self.key.name).note


class Signer(Protocol):
    """A signer somewhere: in this process, or in one of its own."""

    @property
    def key(self) -> CheckpointKey:
        """The key that verifies its signatures."""
        ...

    async def last_signed(self) -> TreeHead:
        """Return the last head signed.

        Raises:
            SignerUnavailableError: it does not answer.
        """
        ...

    async def sign(self, head: TreeHead, proof: Sequence[bytes]) -> str:
        """Sign a head, shown by `proof` to contain the last one, and return the checkpoint's note.

        Raises:
            ShrunkTreeError, ForkedTreeError: it refuses.
            SignerUnavailableError: it does not answer.
        """
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class InProcessSigner:
    """A signer in this process, whose key this process can read: for tests and embedded use."""

    def __init__(self, signer: CheckpointSigner) -> None:
        self._signer = signer

    @classmethod
    def generate(cls, *, origin: str) -> Self:
        """Make one with a new key and a memory that lasts as long as it does."""
        key = Ed25519PrivateKey.generate()
        return cls(CheckpointSigner(origin=origin, private_key=key, memory=ForgetfulMemory()))

    @property
    def key(self) -> CheckpointKey:
        """See Signer."""
        return self._signer.key

    async def last_signed(self) -> TreeHead:
        """See Signer."""
        return self._signer.last_signed

    async def sign(self, head: TreeHead, proof: Sequence[bytes]) -> str:
        """See Signer."""
        return self._signer.sign(head, proof)

    async def close(self) -> None:
        """See Signer."""
