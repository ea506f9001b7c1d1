"""A local user has the node agent, which may be root, open something that opening alone changes."""

import asyncio
import os
from pathlib import Path

import pytest

from agentshield.node.errors import UnreadableFileError
from agentshield.node.file_measure import FileMeasurer, Reader


async def test_a_fifo_is_refused_without_being_opened(tmp_path: Path):
    """Whoever owns the FIFO, or the device, is hurt: to open it lets a writer through, or starts a watchdog."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = asyncio.create_task(asyncio.to_thread(os.open, fifo, os.O_WRONLY))  # waits for somebody to read
    await asyncio.sleep(0.1)
    with pytest.raises(UnreadableFileError):
        await FileMeasurer().sha256_for(str(fifo), Reader(uid=os.geteuid(), gid=os.getegid()))
    await asyncio.sleep(0.1)
    got_through = writer.done()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.close(await writer)
    os.close(reader)
    assert not got_through
