"""Requests at the backchannel endpoint in SQL. A poll locks its row from the look to the step."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Update, delete, insert, select, update

from agentshield.database.engine import Database
from agentshield.oauth.backchannel.store import BackchannelRequest
from agentshield.oauth.sql_schema import BACKCHANNEL


class SqlBackchannelStore:
    """The table of backchannel requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, request: BackchannelRequest) -> None:
        """Keep a new request."""
        row = {column.name: getattr(request, column.name) for column in BACKCHANNEL.columns}
        await self._database.write(lambda connection: connection.execute(insert(BACKCHANNEL).values(row)).rowcount)

    async def find(self, request_id: str) -> BackchannelRequest | None:
        """Return a request, or None."""
        return await self._database.read(lambda connection: _find(connection, request_id))

    async def poll(self, request_id: str, *, at: datetime) -> bool:
        """Take a poll; the row is locked from the look to the step."""

        def job(connection: Connection) -> bool:
            request = _find(connection, request_id, is_locked=True)
            if request is None:
                return False
            after = request.polled(at)
            connection.execute(_step(request_id).values(polled_at=after.polled_at, interval=after.interval))
            return not request.is_too_soon(at)

        return await self._database.write(job)

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        old = delete(BACKCHANNEL).where(BACKCHANNEL.c.expires_at < before)
        await self._database.write(lambda connection: connection.execute(old).rowcount)


def _find(connection: Connection, request_id: str, *, is_locked: bool = False) -> BackchannelRequest | None:
    wanted = select(BACKCHANNEL).where(BACKCHANNEL.c.request_id == request_id)
    row = connection.execute(wanted.with_for_update() if is_locked else wanted).one_or_none()
    return None if row is None else _request(row)


def _request(row: Row[Any]) -> BackchannelRequest:
    return BackchannelRequest(
        request_id=row.request_id,
        client_id=row.client_id,
        binding=row.binding,
        interval=row.interval,
        polled_at=row.polled_at,
        expires_at=row.expires_at,
    )


def _step(request_id: str) -> Update:
    return update(BACKCHANNEL).where(BACKCHANNEL.c.request_id == request_id)
