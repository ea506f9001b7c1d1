"""What an open Workload API stream costs the node agent: memory, and the time until a rotation has reached all.

A node agent in a process of its own serves 1,000 connections with one `FetchX509SVID` stream each, opened by bare
sockets here, so that only the server's memory is measured. Then the CA rotates.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import hpack

STREAMS = int(os.environ.get("BENCH_STREAMS", "1000"))
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("workload.spiffe.io", "true"),
]
SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from node_harness import running_node

async def main():
    async with running_node() as node:
        await node.authority.add("/agent", node.me)
        print(node.socket, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            await node.authority.rotate_ca()

asyncio.run(main())
"""


def run():
    """Rows for memory and for the spread of a rotation."""
    return asyncio.run(measured())


def started():
    """The server, which says on its first line where it listens."""
    vectors = Path(__file__).parents[1] / "tests" / "vectors"
    command = [sys.executable, "-c", SERVER, str(vectors)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def measured():
    """Open, measure, rotate, measure."""
    server = started()
    try:
        socket = (await asyncio.to_thread(server.stdout.readline)).strip()
        await opened(socket, 10)  # what the first streams bring in is not theirs
        before = resident(server.pid)
        clients = await opened(socket, STREAMS)
        after = resident(server.pid)
        rotation = await rotated(server, clients)
    finally:
        server.stdin.close()  # the end of its input ends the server
        await asyncio.to_thread(server.wait)
    return [
        {
            "name": f"memory of a stream, {STREAMS} open",
            "value": (after - before) / STREAMS / 1024,
            "unit": "KB",
            "goal": "<= 100",
            "bound_by": "h2's connection and stream state",
        },
        {
            "name": f"a rotation reaches {STREAMS} streams",
            "value": rotation * 1000,
            "unit": "ms",
            "goal": None,
            "bound_by": "encoding and writing each message; one core",
        },
    ]


class Client(asyncio.Protocol):
    """One connection, one stream, and the number of bytes that came on it."""

    def __init__(self):
        self.received = 0
        self.has_news = asyncio.Event()

    def connection_made(self, transport):
        """Open the stream at once, with windows that never run out."""
        self.transport = transport
        settings, window = frame(4, 0, 0, b"\0\4" + (2**30).to_bytes(4)), frame(8, 0, 0, (2**30).to_bytes(4))
        call = frame(1, 4, 1, hpack.Encoder().encode(HEADERS)) + frame(0, 1, 1, b"\0" * 5)
        transport.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + window + call)

    def data_received(self, data):
        """An SVID takes more bytes than anything else that could come."""
        self.received += len(data)
        if self.received > 800:
            self.has_news.set()


def frame(kind, flags, stream, payload=b""):
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


async def opened(socket, count):
    """Open streams and wait for the first message on each."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_unix_connection(Client, socket))[1] for _ in range(count)]
    await news_of(clients)
    return clients


async def rotated(server, clients):
    """Seconds from the order to rotate until the last stream has its new SVID."""
    for client in clients:
        client.received = 0
        client.has_news.clear()
    begin = time.perf_counter()
    server.stdin.write("rotate\n")
    server.stdin.flush()
    await news_of(clients)
    return time.perf_counter() - begin


async def news_of(clients):
    """Wait until every client has had a message."""
    async with asyncio.timeout(60):
        for client in clients:
            await client.has_news.wait()


def resident(pid):
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
