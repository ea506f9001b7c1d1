"""Join tokens in SQL, by digest: who reads the database cannot spend one."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.errors import JoinTokenNotFoundError, RevisionConflictError
from agentshield.authority.model import JoinToken, WaitingToken, token_digest
from agentshield.authority.sql_schema import JOIN_TOKENS
from agentshield.database.engine import Database
from agentshield.identity.spiffe_id import SpiffeId


class SqlJoinTokens:
    """The join_tokens table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, token: JoinToken) -> None:
        """Add a token."""
        agent_id = None if token.agent_id is None else str(token.agent_id)
        row = {"digest": token.digest, "agent_id": agent_id, "expires_at": token.expires_at}

        def job(connection: Connection) -> None:
            connection.execute(insert(JOIN_TOKENS).values(row))

        try:
            await self._database.write(job)
        except ConstraintError as error:
            raise RevisionConflictError("this join token exists already") from error

    async def take(self, value: str) -> JoinToken | None:
        """Delete the token and return it, in one statement: there is no moment at which two callers can have it."""
        taking = delete(JOIN_TOKENS).where(JOIN_TOKENS.c.digest == token_digest(value)).returning(JOIN_TOKENS)

        def job(connection: Connection) -> JoinToken | None:
            row = connection.execute(taking).one_or_none()
            if row is None:
                return None
            agent_id = None if row.agent_id is None else SpiffeId.parse(row.agent_id)
            return JoinToken(value=value, expires_at=row.expires_at, agent_id=agent_id)

        return await self._database.write(job)

    async def all(self) -> tuple[WaitingToken, ...]:
        """Return every token without its value."""

        def job(connection: Connection) -> tuple[WaitingToken, ...]:
            rows = connection.execute(select(JOIN_TOKENS).order_by(JOIN_TOKENS.c.expires_at, JOIN_TOKENS.c.digest))
            return tuple(
                WaitingToken(
                    digest=row.digest,
                    expires_at=row.expires_at,
                    agent_id=None if row.agent_id is None else SpiffeId.parse(row.agent_id),
                )
                for row in rows
            )

        return await self._database.read(job)

    async def delete(self, digest: str) -> None:
        """Forget a token."""

        def job(connection: Connection) -> int:
            return connection.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.digest == digest)).rowcount

        if not await self._database.write(job):
            raise JoinTokenNotFoundError(f"no join token {digest[:16]} can be used", hint="agentshield join-token list")

    async def prune(self, *, at: datetime) -> None:
        """Forget tokens that have expired."""

        def job(connection: Connection) -> None:
            connection.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.expires_at <= at))

        await self._database.write(job)
