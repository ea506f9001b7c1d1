"""Push configurations in SQL, sealed: who reads the database, or a backup of it, reads no credential.

AES-256-GCM under a key that is not in the database. What is sealed is bound to its place, so that nobody who can write
rows but lacks the key can have one owner's credentials sent to another's receiver.
"""

import json
import os
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Connection, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects import postgresql, sqlite

from agentshield.a2a.push_config import MAX_PER_TASK, PushConfig, PushPlace, TooManyPushConfigsError
from agentshield.database.engine import Database
from agentshield.errors import ConfigurationError, IntegrityError

KEY_BYTES: Final = 32

_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2.2: random, for up to 2**32 configurations of one key
metadata = MetaData()

CONFIGS = Table(
    "a2a_push_configs",
    metadata,
    Column("agent", String(512), primary_key=True),
    Column("owner_key", String(64), primary_key=True),
    Column("task_id", String(256), primary_key=True),
    Column("config_id", String(256), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

_C: Final = CONFIGS.c
_PLACE: Final = (_C.agent, _C.owner_key, _C.task_id, _C.config_id)


class UnsealableConfigError(IntegrityError):
    """A push configuration was not sealed with our key for its place: another key, or somebody wrote the row."""

    code = "a2a_push_config_unsealable"


class SqlPushConfigStore:
    """See PushConfigStore. `key` is 32 random bytes, the same in every replica.

    Raises:
        ConfigurationError: the key has another length.
    """

    def __init__(self, database: Database, *, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigurationError(f"the key of push configurations has {len(key)} bytes, expected {KEY_BYTES}")
        self._database = database
        self._cipher = AESGCM(key)

    async def keep(self, config: PushConfig) -> None:
        """See PushConfigStore. Two replicas that keep one each at the same moment may keep one too many."""
        place = config.place
        row = {**_members(place), "sealed": self._seal(config)}
        others = sa.select(sa.func.count()).where(
            _C.agent == place.agent,
            _C.owner_key == place.owner_key,
            _C.task_id == place.task_id,
            _C.config_id != place.config_id,
        )

        def job(connection: Connection) -> None:
            if connection.execute(others).scalar_one() >= MAX_PER_TASK:
                raise TooManyPushConfigsError(f"the task has {MAX_PER_TASK} push configurations already")
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            put = dialect.insert(CONFIGS).values(row)
            connection.execute(
                put.on_conflict_do_update(index_elements=list(_PLACE), set_={"sealed": put.excluded.sealed})
            )

        await self._database.write(job)

    async def find(self, place: PushPlace) -> PushConfig | None:
        """See PushConfigStore. Raises: UnsealableConfigError."""
        found = await self._select(*(_C[name] == value for name, value in _members(place).items()))
        return found[0] if found else None

    async def of_task(self, agent: str, owner_key: str, task_id: str) -> tuple[PushConfig, ...]:
        """See PushConfigStore. Raises: UnsealableConfigError."""
        return await self._select(_C.agent == agent, _C.owner_key == owner_key, _C.task_id == task_id)

    async def drop(self, place: PushPlace) -> None:
        """See PushConfigStore."""
        await self._delete(*(_C[name] == value for name, value in _members(place).items()))

    async def drop_owner(self, owner_key: str) -> int:
        """See PushConfigStore."""
        return await self._delete(_C.owner_key == owner_key)

    async def _select(self, *where: sa.ColumnElement[bool]) -> tuple[PushConfig, ...]:
        wanted = sa.select(CONFIGS).where(*where).order_by(_C.config_id)
        rows = await self._database.read(lambda c: [row._asdict() for row in c.execute(wanted)])
        return tuple(self._unseal(row) for row in rows)

    async def _delete(self, *where: sa.ColumnElement[bool]) -> int:
        gone = sa.delete(CONFIGS).where(*where)
        return await self._database.write(lambda connection: connection.execute(gone).rowcount)

    def _seal(self, config: PushConfig) -> bytes:
        written = json.dumps([config.url, config.token, config.scheme, config.credentials]).encode()
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, written, _bound(config.place))

    def _unseal(self, row: dict[str, Any]) -> PushConfig:
        sealed = bytes(row.pop("sealed"))
        place = PushPlace(**row)
        try:
            written = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(place))
        except (InvalidTag, ValueError):
            raise UnsealableConfigError(
                f"push configuration {place.config_id[:64]!a} was not sealed with this key for this place",
                hint="has the key been changed? Then its owner must register it anew",
            ) from None
        url, token, scheme, credentials = json.loads(written)
        return PushConfig(place=place, url=url, token=token, scheme=scheme, credentials=credentials)


def _members(place: PushPlace) -> dict[str, str]:
    return {column.name: getattr(place, column.name) for column in _PLACE}


def _bound(place: PushPlace) -> bytes:
    return json.dumps(["a2a-push-config", *_members(place).values()]).encode()
