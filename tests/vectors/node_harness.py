"""A node agent on a socket of its own, with an authority in memory that really signs: for the tests of `node`."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from grpclib.client import Channel

from agentshield.clock import system_clock
from agentshield.errors import AgentShieldError, NotFoundError, UnavailableError
from agentshield.identity.bundle import JwtAuthority, TrustBundle, WitAuthority, X509Authority
from agentshield.identity.issue import JwtIssuer, WitIssuer, X509Issuer, parse_csr
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.wit_svid import IssuedWitSvid
from agentshield.node.entries import EntriesUpdate, Entry
from agentshield.node.selectors import Selector
from agentshield.node.service import NodeService
from agentshield.node.settings import NodeSettings
from agentshield.sdk.clients.values import CsrForEntry, EnforcementAck, EventReceipt, IssuedX509, Snapshot
from agentshield.sdk.wire import methods

TRUST_DOMAIN = TrustDomain("example.test")
SCRIPTS = Path(__file__).parent


@dataclass
class MemoryAuthority:
    """Plays the authority: a CA, entries, and a push to whoever watches. `is_down` makes every call fail."""

    ttl: timedelta = timedelta(minutes=10)
    jwt_ttl: timedelta = timedelta(minutes=5)
    is_down: bool = False
    foreign: dict[str, TrustBundle] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    recorded: list[bytes] = field(default_factory=list)
    acks: list[EnforcementAck] = field(default_factory=list)
    x509_calls: int = 0
    jwt_calls: int = 0
    wit_calls: int = 0
    wit_ttl: timedelta = timedelta(minutes=10)
    tainted_wit: str = ""

    def __post_init__(self) -> None:
        self._ids = count(1)
        self.version = 0
        self.issuer = new_issuer(TRUST_DOMAIN)
        self.jwt_issuer = JwtIssuer(trust_domain=TRUST_DOMAIN, key_id="jwt-1", private_key=generate_private_key())
        self.wit_issuers = [new_wit_issuer("wit-1")]  # the first signs
        self.old: list[X509Issuer] = []
        self.snapshot: Snapshot | None = None
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def bundle(self, *, tainted: X509Issuer | None = None) -> TrustBundle:
        issuers = [self.issuer, *self.old]
        return TrustBundle(
            trust_domain=TRUST_DOMAIN,
            x509_authorities=tuple(
                X509Authority(certificate=each.certificate, tainted=each is tainted) for each in issuers
            ),
            jwt_authorities=(JwtAuthority(key_id="jwt-1", public_key=self.jwt_issuer.private_key.public_key()),),
            wit_authorities=tuple(
                WitAuthority(
                    key_id=each.key_id,
                    public_key=each.private_key.public_key(),
                    tainted=each.key_id == self.tainted_wit,
                )
                for each in self.wit_issuers
            ),
        )

    async def add(self, path: str, *selectors: str, **more: object) -> Entry:
        number = next(self._ids)
        entry = Entry(
            id=str(more.pop("id", f"entry-{number}")),
            spiffe_id=SpiffeId.of(TRUST_DOMAIN, path),
            selectors=frozenset(map(Selector.parse, selectors)),
            created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
            **more,
        )
        await self.put(entry)
        return entry

    async def put(self, *entries: Entry) -> None:
        self.entries |= {entry.id: entry for entry in entries}
        self._bump()

    async def remove(self, *entries: Entry) -> None:
        for entry in entries:
            del self.entries[entry.id]
        self._bump()

    async def rotate_ca(self) -> None:
        """A new CA signs, and the old one is no longer trusted."""
        self.issuer = new_issuer(TRUST_DOMAIN)
        self._bump()

    async def taint_wit(self) -> None:
        """A new WIT authority signs, and what the old one signed is to be replaced."""
        self.tainted_wit = self.wit_issuers[0].key_id
        self.wit_issuers = [new_wit_issuer("wit-2"), *self.wit_issuers]
        self._bump()

    async def federate(self, bundle: TrustBundle) -> None:
        self.foreign[bundle.trust_domain.name] = bundle
        self._bump()

    async def publish(self, content: bytes) -> None:
        self.snapshot = Snapshot(version=(self.snapshot.version if self.snapshot else 0) + 1, content=content)
        self._bump()

    async def go_down(self) -> None:
        self.is_down = True
        self._bump()

    def come_back(self) -> None:
        self.is_down = False

    def _bump(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def _check_up(self) -> None:
        if self.is_down:
            raise UnavailableError("the authority is down")

    def _full(self) -> EntriesUpdate:
        return EntriesUpdate(
            full=True,
            version=self.version,
            upserts=tuple(self.entries.values()),
            bundles=(self.bundle(), *self.foreign.values()),
        )

    # The Upstream protocol.

    async def run(self) -> None:
        await asyncio.Event().wait()

    def reconnect(self) -> None:
        pass

    async def sync_entries(self) -> EntriesUpdate:
        self._check_up()
        return self._full()

    async def watch_entries(self) -> AsyncIterator[EntriesUpdate]:
        self._check_up()
        seen, known = self.version, dict(self.entries)
        yield self._full()
        while True:
            while self.version == seen:
                await asyncio.shield(self._changed)
            self._check_up()
            seen, before, known = self.version, known, dict(self.entries)
            yield EntriesUpdate(
                full=False,
                version=seen,
                upserts=tuple(entry for entry in known.values() if before.get(entry.id) != entry),
                removed_ids=tuple(before.keys() - known.keys()),
                bundles=(self.bundle(), *self.foreign.values()),
            )

    async def issue_x509_svids(self, requests: Sequence[CsrForEntry]) -> Sequence[IssuedX509 | AgentShieldError]:
        self._check_up()
        self.x509_calls += 1
        return [self._issue(each) for each in requests]

    def _issue(self, request: CsrForEntry) -> IssuedX509 | AgentShieldError:
        entry = self.entries.get(request.entry_id)
        if entry is None:
            return NotFoundError("no such entry")
        now = system_clock()
        chain = self.issuer.issue_x509_svid(
            entry.spiffe_id, parse_csr(request.csr), not_before=now, not_after=now + self.ttl
        )
        return IssuedX509(spiffe_id=entry.spiffe_id, chain=chain)

    async def issue_jwt_svid(self, entry_id: str, audience: Sequence[str]) -> JwtSvid:
        self._check_up()
        self.jwt_calls += 1
        entry, now = self.entries[entry_id], system_clock()
        return self.jwt_issuer.issue_jwt_svid(entry.spiffe_id, audience, issued_at=now, expires_at=now + self.jwt_ttl)

    async def issue_wit_svid(self, entry_id: str, csr: bytes) -> IssuedWitSvid:
        self._check_up()
        self.wit_calls += 1
        entry, now = self.entries[entry_id], system_clock()
        return self.wit_issuers[0].issue_wit_svid(
            entry.spiffe_id, parse_csr(csr), issued_at=now, not_before=now, expires_at=now + self.wit_ttl, jti="w"
        )

    async def watch_enforcement(self, acks: AsyncIterator[EnforcementAck]) -> AsyncIterator[Snapshot]:
        self._check_up()
        reading = asyncio.create_task(self._read_acks(acks))
        seen = 0
        try:
            while True:
                while not self.is_down and (self.snapshot is None or self.snapshot.version == seen):
                    await asyncio.shield(self._changed)
                self._check_up()
                seen = self.snapshot.version
                yield self.snapshot
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _read_acks(self, acks: AsyncIterator[EnforcementAck]) -> None:
        async for ack in acks:
            self.acks.append(ack)

    async def record_events(self, events: Sequence[bytes]) -> tuple[EventReceipt, ...]:
        self._check_up()
        first = len(self.recorded)
        self.recorded += events
        return tuple(EventReceipt(event_id=f"event-{first + i}", index=first + i) for i in range(len(events)))


def new_issuer(trust_domain: TrustDomain) -> X509Issuer:
    now = system_clock()
    return X509Issuer.self_signed(
        trust_domain, not_before=now - timedelta(minutes=1), not_after=now + timedelta(days=1)
    )


def new_wit_issuer(key_id: str) -> WitIssuer:
    return WitIssuer(trust_domain=TRUST_DOMAIN, key_id=key_id, private_key=generate_private_key())


def foreign_bundle(name: str = "partner.test") -> TrustBundle:
    trust_domain = TrustDomain(name)
    return TrustBundle(
        trust_domain=trust_domain,
        x509_authorities=(X509Authority(certificate=new_issuer(trust_domain).certificate),),
        jwt_authorities=(JwtAuthority(key_id=f"key-of-{name}", public_key=generate_private_key().public_key()),),
    )


@dataclass
class Node:
    """A node agent that serves, and its authority."""

    service: NodeService
    authority: MemoryAuthority
    socket: Path

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def me(self) -> str:
        """A selector that this very process has."""
        return f"unix:uid:{os.geteuid()}"

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        channel = Channel(path=str(self.socket))
        try:
            yield channel
        finally:
            channel.close()

    async def first(self, method: methods.Method, request: object) -> object:
        """Call a method with the right metadata and return the first answer."""
        async with self.channel() as channel:
            return await first_answer(channel, method, request)

    async def run(self, code: str, *arguments: str, timeout: float = 60) -> str:
        """Run Python code in a process of its own, so that the node sees another caller; return what it printed."""
        environment = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": self.endpoint}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()[-3000:]
        return out.decode()


async def first_answer(channel: Channel, method: methods.Method, request: object) -> object:
    async with method.open(channel, timeout=10, metadata=methods.WORKLOAD_METADATA) as stream:
        await stream.send_message(request, end=True)
        answer = await stream.recv_message()
        if answer is not None and method.cardinality.server_streaming:
            await stream.cancel()
        return answer


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_node(authority: MemoryAuthority | None = None, **settings: object) -> AsyncIterator[Node]:
    """A node agent on a socket in a short temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    directory.chmod(0o755)  # noqa: ASYNC240
    authority = authority or MemoryAuthority()
    values = {"trust_domain": TRUST_DOMAIN, "socket_path": directory / "api.sock", "data_dir": directory}
    service = NodeService(replace(NodeSettings(**values), **settings), authority)
    task = asyncio.create_task(service.run())
    try:
        listening = asyncio.create_task(service.listening.wait())
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if task.done():
            task.result()
        if not authority.is_down:
            async with asyncio.timeout(10):
                await service.ready.wait()
        yield Node(service, authority, directory / "api.sock")
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running_node() as running:
        yield running
