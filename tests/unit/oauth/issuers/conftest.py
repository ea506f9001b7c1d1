"""A foreign issuer of the tests' own: a real HTTPS server on loopback, with keys, a discovery document and manners."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import trustme

from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.model import IssuerRecord
from agentshield.oauth.settings import OAuthSettings
from agentshield.testing.clock import FakeClock

AUDIENCE = "https://as.example.test"


@dataclass
class ForeignIssuer:
    """What it publishes can be changed at any time; `asked` is what it was asked for."""

    ca_pem: bytes
    tls: ssl.SSLContext
    url: str = ""
    keys: dict[str, PrivateKey] = field(default_factory=lambda: {"k1": generate_private_key()})
    asked: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)  # path -> whole HTTP answer, instead of the usual one
    is_down: bool = False
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def discovery(self, **changes) -> bytes:
        return json.dumps({"issuer": self.url, "jwks_uri": self.url + "/keys", **changes}).encode()

    def jwks(self) -> bytes:
        return json.dumps({"keys": [jwk_of(key.public_key(), kid=kid) for kid, key in self.keys.items()]}).encode()

    def token(self, at: datetime, *, kid: str = "k1", key: PrivateKey | None = None, **changes) -> str:
        now = int(at.timestamp())
        claims = {"iss": self.url, "sub": "job-7", "aud": AUDIENCE, "iat": now, "exp": now + 300, **changes}
        kept = {name: value for name, value in claims.items() if value is not None}
        return sign_compact(kept, key or self.keys[kid], kid=kid)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            if not self.is_down:
                writer.write(self.answers.get(path) or self._usual(path))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client thought better of it
        finally:
            writer.close()

    def _usual(self, path: str) -> bytes:
        documents = {"/.well-known/openid-configuration": self.discovery(), "/keys": self.jwks()}
        return http_answer(documents[path]) if path in documents else http_answer(b"", status="404 Not Found")


def http_answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body


@pytest.fixture(scope="session")
def web_ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def foreign(web_ca: trustme.CA) -> AsyncIterator[ForeignIssuer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    web_ca.issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    issuer = ForeignIssuer(ca_pem=web_ca.cert_pem.bytes(), tls=tls)
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0, ssl=tls)
    issuer.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield issuer
        for writer in issuer._writers:
            writer.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 24, 3, 0, tzinfo=UTC))


@pytest.fixture
def settings() -> OAuthSettings:
    return OAuthSettings(issuer=AUDIENCE, trust_domain=TrustDomain.parse("example.test"), allow_loopback_issuers=True)


@pytest.fixture
def store() -> MemoryOAuthStore:
    return MemoryOAuthStore()


@pytest.fixture
def record(foreign: ForeignIssuer, clock: FakeClock) -> IssuerRecord:
    return IssuerRecord(
        name="foreign",
        issuer=foreign.url,
        algorithms=frozenset({"ES256"}),
        audiences=frozenset({AUDIENCE}),
        ca_pem=foreign.ca_pem,
        created_at=clock(),
        created_by="ann",
    )


@pytest.fixture
def federation(store: MemoryOAuthStore, clock: FakeClock, settings: OAuthSettings) -> Federation:
    return Federation(store, IssuerFetch(settings), clock, settings)
