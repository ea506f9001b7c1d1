"""Asks a token endpoint over kept TLS connections, and measures. The benchmarks of tokens run it as another process.

`drive` in the benchmark's process gives the order and reads the server's CPU time; `main` in the other one asks.
"""

import asyncio
import itertools
import json
import os
import ssl
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """What one turn came to. `cpu` is the server's, in microseconds an answer; times are in milliseconds."""

    cpu: float
    p50: float
    p99: float
    refused: int
    answers: tuple[str, ...]


async def drive(server_pid, *, port, path, requests, connections, certificate=None, keep=False):
    """Let another process send `requests`, each a pair of headers and form, and return what was measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.token_load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**28,
    )
    order = {
        "port": port,
        "path": path,
        "requests": requests,
        "connections": connections,
        "certificate": certificate,
        "keep": keep,
    }
    process.stdin.write(json.dumps(order).encode() + b"\n")
    assert await process.stdout.readline() == b"ready\n", "the asking process did not connect"
    before = cpu_seconds(server_pid)
    process.stdin.write(b"go\n")
    told = json.loads(await process.stdout.readline())
    spent = cpu_seconds(server_pid) - before
    process.stdin.close()
    await process.wait()
    times = sorted(told["times"])
    return Measured(
        cpu=spent / max(1, len(times)) * 1e6,
        p50=statistics.median(times) * 1e3,
        p99=times[int(len(times) * 0.99)] * 1e3,
        refused=told["refused"],
        answers=tuple(told["answers"]),
    )


def cpu_seconds(pid):
    """CPU time of a process and its children, the audit log's signer among them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / TICK + sum(cpu_seconds(int(child)) for child in children)


async def main():
    """Connect, wait for the word, ask until nothing is left, tell."""
    order = json.loads(sys.stdin.readline())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # both ends are ours, and only the asking is measured
    if order["certificate"]:
        tls.load_cert_chain(order["certificate"])
    opened = [await asyncio.open_connection("127.0.0.1", order["port"], ssl=tls) for _ in range(order["connections"])]
    todo = iter([encoded(order["path"], order["port"], headers, form) for headers, form in order["requests"]])
    print("ready", flush=True)
    sys.stdin.readline()
    parts = await asyncio.gather(*(ask(*each, todo, keep=order["keep"]) for each in opened))
    times, refused, answers = (list(itertools.chain(*each)) for each in zip(*parts, strict=True))
    print(json.dumps({"times": times, "refused": len(refused), "answers": answers or refused[:3]}), flush=True)


def encoded(path, port, headers, form):
    """One request, as it travels."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: localhost:{port}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(form)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + form).encode()


async def ask(reader, writer, todo, *, keep):
    """Ask on one connection while there is something to ask; a server that goes away leaves the rest to others."""
    times, refused, answers = [], [], []
    for request in todo:
        begin = time.perf_counter()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            body = (await reader.readexactly(length)).decode()
        except (OSError, asyncio.IncompleteReadError):
            break
        if head.split(b" ", 2)[1] == b"200":
            times.append(time.perf_counter() - begin)
            answers.extend([body] if keep else [])
        else:
            refused.append(body[:300])
    writer.transport.abort()
    return times, refused, answers


if __name__ == "__main__":
    asyncio.run(main())
