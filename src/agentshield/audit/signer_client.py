"""A signer in a process of its own, so that the process that writes the log cannot read the key that signs it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from agentshield.audit.checkpoint import CheckpointKey
from agentshield.audit.errors import SignerStateError, SignerUnavailableError
from agentshield.audit.merkle import TreeHead
from agentshield.audit.signer_messages import MAX_LINE, from_line, raise_error, read_head, sign_question, to_line

_ANSWER_WITHIN: Final = 15.0  # seconds; starting includes waiting for the lock of a signer that is just ending
_END_WITHIN: Final = 5.0


class ChildSigner:
    """Starts the signer process, and again should it end. `start` makes one."""

    def __init__(self, directory: Path, *, origin: str) -> None:
        self._directory = directory
        self._origin = origin
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._key: CheckpointKey | None = None

    @classmethod
    async def start(cls, directory: Path, *, origin: str) -> Self:
        """Start a signer whose key and memory are in `directory`, made on first use; `origin` is the log's name.

        Raises:
            SignerUnavailableError: it does not start, or another signer uses the directory.
            SignerStateError: what is in the directory cannot be relied on.
        """
        signer = cls(directory, origin=origin)
        async with signer._turn:
            await signer._connect()
        return signer

    @property
    def key(self) -> CheckpointKey:
        """See Signer."""
        assert self._key is not None, "start() sets it"
        return self._key

    @property
    def pid(self) -> int | None:
        """The process's id; None while it is not running."""
        return None if self._process is None else self._process.pid

    async def last_signed(self) -> TreeHead:
        """See Signer."""
        return read_head(await self._ask({"ask": "last"}))

    async def sign(self, head: TreeHead, proof: Sequence[bytes]) -> str:
        """See Signer."""
        answer = await self._ask(sign_question(head, proof))
        return str(answer["note"])

    async def close(self) -> None:
        """End the process. May be called twice."""
        async with self._turn:
            await self._disconnect()

    async def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            if self._writer is None:
                await self._connect()
            assert self._writer is not None, "_connect() sets it"
            try:
                self._writer.write(to_line(question))
                return await self._answer()
            except (OSError, asyncio.CancelledError):  # cancelled: the answer would meet the next question
                await self._disconnect()
                raise

    async def _connect(self) -> None:
        ours, self._process = _spawn(self._directory, self._origin)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
        try:
            key = CheckpointKey.parse((await self._answer())["key"])
            if self._key not in (None, key):
                raise SignerStateError(f"signer came back with key {key}, {self._key} expected")
        except BaseException:
            await self._disconnect()
            raise
        self._key = key

    async def _answer(self) -> dict[str, Any]:
        """Read one answer; whatever goes wrong with the channel itself ends the process."""
        assert self._reader is not None, "_connect() sets it"
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                answer = from_line(await self._reader.readuntil(b"\n"))
        except (TimeoutError, OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            await self._disconnect()
            raise SignerUnavailableError(f"checkpoint signer gave no answer ({type(error).__name__})") from error
        raise_error(answer)
        return answer

    async def _disconnect(self) -> None:
        writer, process = self._writer, self._process
        self._reader = self._writer = self._process = None
        if writer is not None:
            writer.close()  # the process ends when its line does
            with suppress(OSError):
                await writer.wait_closed()
        if process is not None:
            await asyncio.to_thread(_reap, process)


def _spawn(directory: Path, origin: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable,
                "-P",  # or a file of the name of a module, in the directory we are run from, would get the key
                "-m",
                "agentshield.audit.signer_process",
                f"--fd={theirs.fileno()}",
                f"--directory={directory}",
                f"--origin={origin}",
            ],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's signals are for the parent
        )
    return ours, process


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
