"""Authorization requests in SQL. A step is an update of the row as it was read, so only one of many is taken."""

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from agentshield.database.engine import Database
from agentshield.oauth.authorize.request import AuthorizationRequest
from agentshield.oauth.authorize.store import moved_on
from agentshield.oauth.sql_schema import AUTHORIZATIONS

_DECODER: Final = msgspec.json.Decoder(AuthorizationRequest)


class SqlAuthorizationStore:
    """The table of authorization requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, request: AuthorizationRequest) -> None:
        """Keep a new request."""
        row = {"request_id": request.request_id, "expires_at": request.expires_at, "body": _encoded(request)}
        await self._database.write(lambda connection: connection.execute(insert(AUTHORIZATIONS).values(row)).rowcount)

    async def find(self, request_id: str) -> AuthorizationRequest | None:
        """Return a request, or None."""
        wanted = select(AUTHORIZATIONS.c.body).where(AUTHORIZATIONS.c.request_id == request_id)
        body = await self._database.read(lambda connection: connection.execute(wanted).scalar_one_or_none())
        return None if body is None else _DECODER.decode(body)

    async def replace(self, before: AuthorizationRequest, after: AuthorizationRequest) -> None:
        """Take one step. Raises: RequestMovedOnError."""
        step = (
            update(AUTHORIZATIONS)
            .where(AUTHORIZATIONS.c.request_id == before.request_id, AUTHORIZATIONS.c.body == _encoded(before))
            .values(body=_encoded(after), expires_at=after.expires_at)
        )

        def job(connection: Connection) -> None:
            if connection.execute(step).rowcount != 1:
                raise moved_on(before)

        await self._database.write(job)

    async def forget(self, *, before: datetime) -> None:
        """Drop old requests."""
        old = delete(AUTHORIZATIONS).where(AUTHORIZATIONS.c.expires_at < before)
        await self._database.write(lambda connection: connection.execute(old).rowcount)


def _encoded(request: AuthorizationRequest) -> bytes:
    return msgspec.json.encode(request, order="deterministic")  # one spelling: `replace` compares it
