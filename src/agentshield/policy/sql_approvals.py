"""Approval requests in SQL. A step is an update of the version that was read, so two answers cannot both be taken."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, LargeBinary, MetaData, String, Table, Text, delete, insert, select, update

from agentshield.database.engine import Database
from agentshield.database.types import Instant
from agentshield.policy.approval import ApprovalRequest, ApprovalStatus
from agentshield.policy.approval_store import changed_meanwhile, superseded_by

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)

APPROVALS = Table(
    "approvals",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("agent", Text, nullable=False, index=True),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
)

_DECODER = msgspec.json.Decoder(ApprovalRequest)


class SqlApprovalStore:
    """The table of approvals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, request: ApprovalRequest, *, secret_sha256: str, at: datetime) -> None:
        """Keep a new request: looked at and written in one transaction."""
        row = {
            "request_id": request.request_id,
            "secret_sha256": secret_sha256,
            "agent": request.agent,
            "expires_at": request.expires_at,
            "body": _encoded(request),
        }

        def job(connection: Connection) -> None:
            # Another replica's look at the same rows waits; the very first of an agent has none, and needs none.
            mine = select(APPROVALS.c.body).where(APPROVALS.c.agent == request.agent).with_for_update()
            known = [_decoded(body) for (body,) in connection.execute(mine)]
            same = superseded_by(request, known, at=at)
            if same is not None:
                _step(connection, same, same.withdrawn(at=at))
            connection.execute(insert(APPROVALS).values(row))

        await self._database.write(job)

    async def find(self, request_id: str) -> ApprovalRequest | None:
        """Return a request, or None."""
        return await self._one(APPROVALS.c.request_id == request_id)

    async def find_by_secret(self, secret_sha256: str) -> ApprovalRequest | None:
        """Return the request whose client holds this secret, or None."""
        return await self._one(APPROVALS.c.secret_sha256 == secret_sha256)

    async def pending(self, *, at: datetime) -> tuple[ApprovalRequest, ...]:
        """Return what waits, oldest first."""
        waiting = select(APPROVALS.c.body).where(APPROVALS.c.expires_at > at)

        def job(connection: Connection) -> list[ApprovalRequest]:
            return [_decoded(body) for (body,) in connection.execute(waiting)]

        found = [request for request in await self._database.read(job) if request.status(at) is ApprovalStatus.PENDING]
        return tuple(sorted(found, key=lambda request: (request.created_at, request.request_id)))

    async def replace(self, before: ApprovalRequest, after: ApprovalRequest) -> None:
        """Take one step."""
        await self._database.write(lambda connection: _step(connection, before, after))

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        old = delete(APPROVALS).where(APPROVALS.c.expires_at < before)
        await self._database.write(lambda connection: connection.execute(old).rowcount)

    async def _one(self, which: Any) -> ApprovalRequest | None:
        wanted = select(APPROVALS.c.body).where(which)
        body = await self._database.read(lambda connection: connection.execute(wanted).scalar_one_or_none())
        return None if body is None else _decoded(body)


def _step(connection: Connection, before: ApprovalRequest, after: ApprovalRequest) -> None:
    step = (
        update(APPROVALS)
        .where(APPROVALS.c.request_id == before.request_id, APPROVALS.c.body == _encoded(before))
        .values(body=_encoded(after))
    )
    if connection.execute(step).rowcount != 1:
        raise changed_meanwhile(before)


def _encoded(request: ApprovalRequest) -> bytes:
    return msgspec.json.encode(request, order="deterministic")  # one spelling: `_step` compares it


def _decoded(body: bytes) -> ApprovalRequest:
    return _DECODER.decode(body)
