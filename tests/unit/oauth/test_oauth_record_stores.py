"""Registrations: what every store promises, in memory, in a file (SQLite) and in a server (PostgreSQL)."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.errors import UnavailableError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import RegistrationConflictError, RegistrationNotFoundError
from agentshield.oauth.model import (
    ClientAuthMethod,
    ClientRegistration,
    FederatedCredential,
    IssuerRecord,
    Resource,
    TokenFormat,
)
from agentshield.oauth.sql_record_cache import LOOK_INTERVAL, RecordCache

NOW = datetime(2026, 11, 24, 2, 0, 0, 123456, tzinfo=UTC)
BILLING = SpiffeId.parse("spiffe://example.test/agents/billing")
PLANNER = SpiffeId.parse("spiffe://example.test/agents/planner")


def client(client_id: str = "billing", **fields) -> ClientRegistration:
    values = {
        "client_id": client_id,
        "spiffe_id": BILLING,
        "methods": frozenset({ClientAuthMethod.PRIVATE_KEY_JWT}),
        "created_at": NOW,
        "created_by": "ann",
    }
    return ClientRegistration(**(values | fields))


def resource(audience: str = "api://agent-b", **fields) -> Resource:
    values = {"audience": audience, "scopes": frozenset({"AI.Task.Execute"}), "created_at": NOW, "created_by": "ann"}
    return Resource(**(values | fields))


def issuer(name: str = "keycloak", iss: str = "https://idp.test/realms/a", **fields) -> IssuerRecord:
    values = {
        "name": name,
        "issuer": iss,
        "algorithms": frozenset({"RS256"}),
        "audiences": frozenset({"https://as.test"}),
        "created_at": NOW,
        "created_by": "ann",
    }
    return IssuerRecord(**(values | fields))


def credential(name: str = "ci", agent: SpiffeId = BILLING, **fields) -> FederatedCredential:
    values = {
        "name": name,
        "agent": agent,
        "issuer": "https://idp.test",
        "subject": "repo:org/x:ref:refs/heads/main",
        "audience": "https://as.test",
        "created_at": NOW,
        "created_by": "ann",
    }
    return FederatedCredential(**(values | fields))


@pytest.mark.parametrize(
    ("noun", "key", "record"),
    [
        ("clients", "billing", client()),
        (
            "clients",
            "Ünïcode ✓",
            client(
                "Ünïcode ✓",
                methods=frozenset({ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.TLS_CLIENT_AUTH}),
                jwks=b'{"keys":[]}',
                tls_san_dns="billing.example.test",
                tls_san_uri="https://billing.example.test/",
                tls_ca=b"\x30\x82\x00\xff",
                attester_jwks=b"{}",
                secret_sha256="ab" * 32,
                secret_expires_at=NOW + timedelta(days=30),
                redirect_uris=("https://app.test/cb", "http://127.0.0.1/cb"),
            ),
        ),
        ("resources", "api://agent-b", resource()),
        (
            "resources",
            "api://opaque",
            resource(
                "api://opaque",
                scopes=frozenset({"a", "b.c"}),
                server=PLANNER,
                token_format=TokenFormat.OPAQUE,
                algorithm="RS256",
                lifetime=timedelta(seconds=90.5),
            ),
        ),
        ("issuers", "keycloak", issuer()),
        (
            "issuers",
            "entra",
            issuer(
                "entra",
                preset="entra-v2",
                algorithms=frozenset({"RS256", "PS256"}),
                jwks_url="https://idp.test/keys",
                jwks=b'{"keys":[]}',
                ca_pem=b"-----BEGIN",
                subject_claim="oid",
                subject_profile="ai_agent",
                scopes=frozenset({"read"}),
                token_types=frozenset({None, "at+jwt"}),
                max_age=timedelta(hours=2),
                version=7,
            ),
        ),
        ("credentials", "ci", credential()),
        (
            "credentials",
            "k8s",
            credential("k8s", subject=None, claims={"kubernetes.io.namespace": "prod", "x": "y"}, description="why"),
        ),
    ],
)
async def test_a_record_comes_back_as_it_went_in(oauth_store, noun: str, key: str, record):
    """A field lost in storage is a client with other keys, or an issuer believed further than anybody said."""
    records = getattr(oauth_store, noun)
    assert await records.find(key) is None
    await records.put(record)
    assert await records.find(key) == record
    assert await records.all() == (record,)
    await records.delete(key)
    assert await records.find(key) is None
    assert await records.all() == ()


async def test_put_replaces_the_record_of_the_same_key_and_no_other(oauth_store):
    """An edit that leaves the old keys beside the new ones has revoked nothing."""
    await oauth_store.clients.put(client("b", jwks=b"old"))
    await oauth_store.clients.put(client("a"))
    await oauth_store.clients.put(client("b", jwks=b"new"))
    assert [each.client_id for each in await oauth_store.clients.all()] == ["a", "b"]
    assert (await oauth_store.clients.find("b")).jwks == b"new"


@pytest.mark.parametrize("noun", ["clients", "resources", "issuers", "credentials"])
async def test_deleting_what_is_not_there_is_told(oauth_store, noun: str):
    """Who misspells what they delete must not believe that it is gone."""
    with pytest.raises(RegistrationNotFoundError, match="absent"):
        await getattr(oauth_store, noun).delete("absent")


async def test_keys_are_compared_exactly(oauth_store):
    """RFC 3986 knows many spellings of one address; a store that folds them gives one audience another's tokens."""
    await oauth_store.resources.put(resource("api://Agent-B"))
    for other in ("api://agent-b", "api://Agent-B/", "api://Agent-B ", ""):
        assert await oauth_store.resources.find(other) is None


async def test_one_iss_is_believed_by_one_record(oauth_store):
    """Two records of one issuer would let the laxer one decide."""
    await oauth_store.issuers.put(issuer("first"))
    with pytest.raises(RegistrationConflictError, match="first"):
        await oauth_store.issuers.put(issuer("second"))
    await oauth_store.issuers.put(issuer("first", version=2))
    await oauth_store.issuers.put(issuer("second", "https://idp.test/realms/b"))
    with pytest.raises(RegistrationConflictError):
        await oauth_store.issuers.put(issuer("second"))
    assert (await oauth_store.issuers.find_by_issuer("https://idp.test/realms/a")).name == "first"
    assert (await oauth_store.issuers.find_by_issuer("https://idp.test/realms/b")).name == "second"
    for other in ("https://idp.test/realms/A", "https://idp.test/realms/a/", ""):
        assert await oauth_store.issuers.find_by_issuer(other) is None
    await oauth_store.issuers.delete("first")
    assert await oauth_store.issuers.find_by_issuer("https://idp.test/realms/a") is None


@pytest.mark.parametrize(
    ("other", "fits_both"),
    [
        ({}, True),
        ({"audience": "https://another.test"}, True),
        ({"claims": {"environment": "prod"}}, True),
        ({"subject": None, "claims": {"sub": "repo:org/x:ref:refs/heads/main"}}, True),
        ({"subject": "repo:org/y"}, False),
        ({"issuer": "https://other.test"}, False),
        ({"subject": None, "claims": {"repository": "org/y"}}, False),
    ],
)
async def test_one_foreign_identity_is_one_agent(oauth_store, other: dict, fits_both: bool):
    """A token that fits two agents is the rights of both, for whoever picks."""
    await oauth_store.credentials.put(credential("first", BILLING))
    second = credential("second", PLANNER, **other)
    if fits_both:
        with pytest.raises(RegistrationConflictError, match="first"):
            await oauth_store.credentials.put(second)
        await oauth_store.credentials.put(replace(second, agent=BILLING))
    else:
        await oauth_store.credentials.put(second)


async def test_a_credential_that_every_token_fits_is_refused(oauth_store):
    """Neither subject nor claim: anybody with an account at the issuer would be the agent."""
    with pytest.raises(RegistrationConflictError, match="every token"):
        await oauth_store.credentials.put(credential(subject=None))


async def test_credentials_are_found_by_issuer(oauth_store):
    """A credential of one issuer says nothing of another's tokens."""
    mine = [credential("b"), credential("a", subject="other")]
    for each in (*mine, credential("c", issuer="https://idp.test/")):
        await oauth_store.credentials.put(each)
    assert await oauth_store.credentials.of_issuer("https://idp.test") == (mine[1], mine[0])
    assert await oauth_store.credentials.of_issuer("https://absent.test") == ()


async def test_an_agents_spiffe_id_is_nobody_elses_client(oauth_store):
    """Each agent's SPIFFE ID is its own client; a registration of that name would put another's keys behind it."""
    for client_id in (str(PLANNER), "SPIFFE://example.test/agents/planner"):
        with pytest.raises(RegistrationConflictError, match="SPIFFE ID"):
            await oauth_store.clients.put(client(client_id))
    await oauth_store.clients.put(client(str(BILLING)))


async def test_a_secrets_digest_is_not_shown(oauth_store):
    """What is logged as a client must not help to guess its secret."""
    await oauth_store.clients.put(client(secret_sha256="5ec2e7" * 10))
    assert "5ec2e7" not in repr(await oauth_store.clients.find("billing"))


class Ticks:
    """A monotonic clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks(oauth_replicas) -> Ticks:
    clock = Ticks()
    for replica in oauth_replicas:
        cache: RecordCache = replica.resources._cache
        cache._monotonic = clock
    return clock


async def test_another_replicas_change_is_seen_within_the_interval(oauth_replicas, ticks: Ticks):
    """A resource that was narrowed on one replica must not stay wide on the other for longer than is promised."""
    ours, theirs = oauth_replicas
    await ours.resources.put(resource())
    assert (await theirs.resources.find("api://agent-b")).scopes == {"AI.Task.Execute"}
    await ours.resources.put(resource(scopes=frozenset()))
    assert (await ours.resources.find("api://agent-b")).scopes == frozenset()  # its own at once
    ticks.now += LOOK_INTERVAL
    assert (await theirs.resources.find("api://agent-b")).scopes == frozenset()
    await ours.resources.delete("api://agent-b")
    assert await ours.resources.find("api://agent-b") is None
    ticks.now += LOOK_INTERVAL
    assert await theirs.resources.find("api://agent-b") is None


async def test_what_was_read_is_not_used_when_nobody_can_say_whether_it_still_holds(oauth_replicas, ticks: Ticks):
    """A server cut off from its database must stop, not go by what it remembers."""
    ours, _ = oauth_replicas
    await ours.resources.put(resource())
    await ours.resources.find("api://agent-b")
    ours.resources._database.close()
    ticks.now += LOOK_INTERVAL
    with pytest.raises(UnavailableError):
        await ours.resources.find("api://agent-b")


async def test_a_read_that_a_change_overtook_is_not_kept(oauth_replicas, ticks: Ticks):
    """An answer from before the change, put away after it, would be given for ever."""
    ours, _ = oauth_replicas
    cache: RecordCache = ours.resources._cache
    has_begun, may_end = threading.Event(), threading.Event()

    def read(_connection: object) -> str:
        has_begun.set()
        may_end.wait(10)
        return "before"

    slow = asyncio.create_task(cache.get("resource", "api://agent-b", read))
    await asyncio.to_thread(has_begun.wait, 10)
    await ours.resources.put(resource())
    may_end.set()
    assert await slow == "before"
    assert await ours.resources.find("api://agent-b") == resource()


async def test_a_million_unknown_clients_do_not_fill_the_memory(oauth_replicas, ticks: Ticks):
    """Keys come from whoever sends a request; remembering them all is an outage to order."""
    ours, _ = oauth_replicas
    cache: RecordCache = ours.clients._cache
    await ours.clients.find("x" * 3000)
    assert cache._answers == {}
    for n in range(4096):
        cache._answers[("client", f"made up {n}")] = None
    await ours.clients.find("one more")
    assert len(cache._answers) == 4096
