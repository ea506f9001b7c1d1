"""Two token services on one PostgreSQL, one of them killed in the midst: nothing is lost, nothing spent twice."""

import asyncio
import json
import os
import random
import signal
import ssl
from collections import Counter
from contextlib import AsyncExitStack

import pytest
import sqlalchemy as sa
from bench.token_endpoint import our_server
from bench.token_load import encoded
from bench.token_requests import AUDIENCE, SCOPE, Clients

from agentshield.audit.sql_log import SqlAuditStore
from agentshield.database.engine import open_database
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.sql_schema import TOKENS

pytestmark = pytest.mark.postgresql

REQUESTS = 240
WORKERS = 8  # a replica
KILLED_AFTER = 60  # answers


class Replica:
    """One server, as its clients see it."""

    def __init__(self, pid: int, port: int, path: str) -> None:
        self.pid, self.port, self.path = pid, port, path
        self.is_dead = False

    def kill(self) -> None:
        self.is_dead = True
        os.kill(self.pid, signal.SIGKILL)


class Connection:
    """A kept connection, which a killed server takes with it."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.opened = None

    async def ask(self, headers, form):
        """Return status and answer, or None where the server died before it answered."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # who it is, is not what this is about
        try:
            if self.opened is None:
                self.opened = await asyncio.open_connection("127.0.0.1", self.replica.port, ssl=tls)
            reader, writer = self.opened
            writer.write(encoded(self.replica.path, self.replica.port, headers, form))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            return int(head.split(b" ", 2)[1]), json.loads(await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return None

    def close(self):
        opened, self.opened = self.opened, None
        if opened is not None:
            opened[1].transport.abort()


@pytest.fixture
async def replicas(postgresql_url, tmp_path):
    clients = Clients()
    issuer = "https://as.example.test"
    async with AsyncExitStack() as stack:
        found = []
        for is_replica in (False, True):
            server = our_server(
                clients.jwks(), database=postgresql_url, directory=tmp_path, issuer=issuer, is_replica=is_replica
            )
            found.append(Replica(*await stack.enter_async_context(server)))
        yield found, clients.credentials(issuer, count=REQUESTS, scope=SCOPE, resource=AUDIENCE)


async def work(replica, todo, answers, on_answer):
    connection = Connection(replica)
    try:
        while todo and not replica.is_dead:
            number, request = todo.pop()
            answer = await connection.ask(*request)
            answers.append((number, answer))
            on_answer()
    finally:
        connection.close()


async def test_one_replica_killed_loses_no_token_and_none_is_spent_twice(replicas, postgresql_url):
    """Each request goes to both at the same time: its assertion and its proof are good for one token in all."""
    (first, second), requests = replicas
    answers: list[tuple[int, tuple[int, dict] | None]] = []

    def kill_when_due():
        if len(answers) == KILLED_AFTER:
            first.kill()

    def shuffled():
        numbered = list(enumerate(requests))
        random.Random(7).shuffle(numbered)
        return numbered

    todo = {first: shuffled(), second: shuffled()}
    jobs = [work(replica, todo[replica], answers, kill_when_due) for replica in (first, second) for _ in range(WORKERS)]
    async with asyncio.timeout(90):
        await asyncio.gather(*jobs)

    assert first.is_dead
    granted = {}
    spent = Counter()
    for number, answer in answers:
        if answer is not None and answer[0] == 200:
            spent[number] += 1
            token = UnverifiedJws.parse(answer[1]["access_token"], types=frozenset({"at+jwt"}))
            granted[token.unverified_claims()["jti"]] = number
    assert max(spent.values()) == 1  # none spent twice
    refused = [answer for _, answer in answers if answer is not None and answer[0] != 200]
    assert {answer[1]["error"] for answer in refused} <= {"invalid_client", "invalid_dpop_proof"}
    assert not todo[second]  # who lives has answered everything

    database = open_database(postgresql_url)
    try:
        rows = set(await database.read(lambda c: c.execute(sa.select(TOKENS.c.jti)).scalars().all()))
        events = await logged(database, rows)
    finally:
        database.close()
    assert granted.keys() <= rows  # no token lost: each that was handed out is on record,
    assert granted.keys() <= events  # and was in the log before it was
    # A request that nobody was granted a token for went down with the server: once, and on record, or not at all.
    lost = REQUESTS - len(granted)
    assert len(rows) - len(granted) <= lost
    assert lost <= WORKERS


async def logged(database, tokens):
    """Which of `tokens` the log says were issued."""
    found, start, store = set(), 0, SqlAuditStore(database)
    while page := await store.read(start, 200):
        start += len(page)
        told = [json.dumps(each.ocsf) for each in page if each.ocsf is not None]
        issued = [each for each in told if '"token.issued"' in each]
        found |= {jti for jti in tokens if any(f'"{jti}"' in each for each in issued)}
    return found
