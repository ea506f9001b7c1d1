"""A join token was copied on its way to the node, and the thief tries it too: at the same moment, later, or late."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agentshield.audit.log import Receipt
from agentshield.authority.errors import JoinTokenError
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.authority.sql_store import sql_store
from agentshield.clock import system_clock
from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.identity.issue import make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import TrustDomain

SETTINGS = AuthoritySettings(trust_domain=TrustDomain("example.test"))


class Names:
    """The names of what was recorded."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def record(self, *events) -> tuple[Receipt, ...]:
        self.seen += [event.name.value for event in events]
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/authority.db"


@pytest.fixture
def recorded() -> Names:
    return Names()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def replicas(request, recorded) -> AsyncIterator[list[AuthorityService]]:
    """Two authorities on one store: on SQLite and PostgreSQL with a connection each, as two processes have."""
    databases = []
    stores = [memory_store()] * 2
    if request.param != "memory":
        url = request.getfixturevalue(f"{request.param}_url")
        databases = [open_database(url), open_database(url)]
        migrate(databases[0])
        stores = [sql_store(database) for database in databases]
    services = [
        AuthorityService(replace(SETTINGS, replica=name), store, MemoryKeyStore(), recorded, clock=system_clock)
        for name, store in zip("ab", stores, strict=True)
    ]
    async with services[0], services[1]:
        yield services
    for database in databases:
        database.close()


async def test_of_fifty_who_show_one_token_at_once_one_gets_in(replicas, recorded):
    """SPIRE 1.14.6 fixed two nodes joining with one token; the second would be the thief's."""
    token = await replicas[0].create_join_token()
    csr = make_csr(generate_private_key())
    attempts = [replicas[n % 2].attest_node("join_token", token.value.encode(), csr) for n in range(50)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    refused = [result for result in results if isinstance(result, JoinTokenError)]
    assert len(refused) == 49
    assert len(await replicas[0].list_nodes()) == 1
    assert recorded.seen.count("node.attested") == 1
    assert recorded.seen.count("node.refused") == 49


async def test_a_used_token_is_refused_on_every_replica(replicas):
    """What one replica has spent, another must not take."""
    token = await replicas[0].create_join_token()
    csr = make_csr(generate_private_key())
    await replicas[0].attest_node("join_token", token.value.encode(), csr)
    for replica in replicas:
        with pytest.raises(JoinTokenError):
            await replica.attest_node("join_token", token.value.encode(), csr)


async def test_an_expired_token_is_refused_and_gone(replicas):
    """A token that lay in a ticket for a month opens nothing; neither does setting the clock back afterwards."""
    token = await replicas[0].create_join_token(timedelta(microseconds=1))
    csr = make_csr(generate_private_key())
    with pytest.raises(JoinTokenError) as late:
        await replicas[0].attest_node("join_token", token.value.encode(), csr)
    replicas[1]._nodes._clock = lambda: token.expires_at - timedelta(microseconds=1)
    with pytest.raises(JoinTokenError) as again:
        await replicas[1].attest_node("join_token", token.value.encode(), csr)
    assert str(late.value) == str(again.value)  # the answer does not tell a guess from a near miss
    assert token.value not in str(late.value)
