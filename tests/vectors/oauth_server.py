"""The token service's endpoints on a real port, behind a service that only remembers what reached it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from agentshield.identity.dpop import DpopNonces
from agentshield.identity.keys import generate_private_key
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.metadata import metadata
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.server import OAuthServer, listen
from agentshield.oauth.settings import OAuthSettings
from agentshield.sdk.clients.oauth import SERVER_PATH
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.testing import FakeTrustDomain

HEAD = b"POST /oauth/token HTTP/1.1\r\nhost: localhost\r\n"
FORM = b"content-type: application/x-www-form-urlencoded\r\n"


@dataclass
class Doorkeeper:
    """The service behind the endpoints: refuses everybody, and remembers who came."""

    asked: list[OAuthRequest] = field(default_factory=list)

    async def token(self, request: OAuthRequest) -> None:
        self.asked.append(request)
        raise OAuthError(OAuthErrorCode.INVALID_CLIENT, "client authentication failed", rule="test")

    introspect = revoke = token

    def jwks(self) -> bytes:
        return b'{"keys":[]}'


@dataclass
class Door:
    """The port, and ways to knock."""

    port: int
    tls: ssl.SSLContext
    service: Doorkeeper

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname="localhost")

    async def send(self, request: bytes, *, seconds: float = 10) -> bytes:
        """Send these very bytes and return all that comes until the server hangs up, or has answered once."""
        reader, writer = await self.open()
        try:
            async with asyncio.timeout(seconds):
                writer.write(request)
                return await read_answer(reader)
        finally:
            writer.close()

    async def post(self, body: bytes, *more: bytes) -> bytes:
        """Post a form."""
        length = f"content-length: {len(body)}\r\n".encode()
        return await self.send(HEAD + FORM + length + b"".join(each + b"\r\n" for each in more) + b"\r\n" + body)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer, body and all; empty if the server hung up without one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        return b""
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(length)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    domain, key = FakeTrustDomain(), generate_private_key()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    settings = OAuthSettings(issuer=f"https://localhost:{port}", trust_domain=domain.trust_domain)
    service = Doorkeeper()
    app = OAuthApp(
        service,
        None,
        settings=settings,
        document=metadata(settings, grant_types=frozenset({"client_credentials"})),
        nonces=DpopNonces(secret=b"n" * 32),
        clock=domain.clock,
    )
    now = domain.clock()
    chain = domain.signing_issuer.issue_x509_svid(
        domain.id(SERVER_PATH),
        key.public_key(),
        not_before=now - timedelta(minutes=1),
        not_after=now + timedelta(hours=1),
        dns_names=("localhost",),
    )
    tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL)
    tls.update(X509Svid.of(chain, key), domain.bundles())
    client = ssl.create_default_context(cadata=domain.bundle.x509_pem().decode())
    async with OAuthServer(app, tls, listener=listener):
        yield Door(port=port, tls=client, service=service)
