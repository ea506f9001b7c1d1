"""Server-sent events (WHATWG HTML, 9.2) as A2A streams use them: one JSON object an event, bounded, nothing else."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final

from agentshield.sdk.a2a.errors import InvalidAgentAnswerError

CONTENT_TYPE: Final = "text/event-stream"
MAX_EVENT: Final = 16 * 1024 * 1024  # bytes


class EventReader:
    """Cuts a stream of bytes into the data of its events. Lines end with CR LF, LF or CR; comments are let go."""

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._is_after_cr = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take in bytes, and yield the data of each event that they complete.

        Raises:
            InvalidAgentAnswerError: an event is over the limit.
        """
        if self._is_after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._is_after_cr = chunk.endswith(b"\r") if chunk else self._is_after_cr
        pieces = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for index, piece in enumerate(pieces):
            self._line += piece
            if self._size + len(self._line) > self._max:
                raise InvalidAgentAnswerError(f"an event of the stream has more than {self._max} bytes")
            if index < len(pieces) - 1:
                line, self._line = bytes(self._line), bytearray()
                event = self._take(line)
                if event is not None:
                    yield event

    def _take(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            return data or None
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
        return None


async def events_in(chunks: AsyncIterator[bytes], *, max_event: int = MAX_EVENT) -> AsyncGenerator[bytes]:
    """Yield the data of each event of a stream; one that the end cuts short is not one. Raises as `EventReader`."""
    reader = EventReader(max_event=max_event)
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event


def write_event(data: bytes) -> bytes:
    """Write one event; JSON of one line."""
    return b"data: " + data + b"\n\n"
