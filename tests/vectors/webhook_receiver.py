"""A receiver of webhooks on loopback, over TLS, that keeps what it was sent."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme

HOST = "hooks.example.test"


@dataclass
class Receiver:
    port: int
    ca_pem: bytes
    status: str = "204 No Content"
    headers: str = ""
    knocks: int = 0
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}/told"


@asynccontextmanager
async def webhook_receiver(*names: str):
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or (HOST,))).configure_cert(tls)
    receiver = Receiver(0, ca.cert_pem.bytes())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.knocks += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
            receiver.posted.append((headers, await reader.readexactly(int(headers.get("content-length", 0)))))
            answer = f"HTTP/1.1 {receiver.status}\r\nContent-Length: 0\r\nConnection: close\r\n{receiver.headers}\r\n"
            writer.write(answer.encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver


def leading_to(*answers: tuple[str, ...]):
    """A resolver that gives one answer after the other, and the last for ever; `asked` is what it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked
