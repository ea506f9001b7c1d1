"""Attested nodes in SQL."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError

from agentshield.authority.errors import (
    NodeBannedError,
    NodeNotAttestedError,
    NodeNotFoundError,
    RevisionConflictError,
)
from agentshield.authority.model import AttestedNode, alias_selector
from agentshield.authority.selectors import Selector
from agentshield.authority.sql_entries import remove_entries
from agentshield.authority.sql_events import note
from agentshield.authority.sql_schema import ENTRIES, NODES
from agentshield.authority.store import Noun
from agentshield.database.engine import Database
from agentshield.identity.spiffe_id import SpiffeId

_BANNED = ""  # the serial of a banned node


class SqlNodes:
    """The nodes table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, node: AttestedNode, *, at: datetime) -> None:
        """Add or replace a node, unless it is banned."""

        def job(connection: Connection) -> None:
            row = _locked(connection, node.spiffe_id)
            if row is not None and row.serial == _BANNED:
                raise NodeBannedError(f"node {node.spiffe_id} is banned")
            if row is None:
                connection.execute(insert(NODES).values(_columns(node)))
            else:
                connection.execute(update(NODES).where(_is(node.spiffe_id)).values(_columns(node)))
            note(connection, Noun.NODE, node.spiffe_id, at)

        try:
            await self._database.write(job)
        except ConstraintError as error:
            raise RevisionConflictError(f"node {node.spiffe_id} was attested elsewhere meanwhile") from error

    async def set_pending(self, node_id: SpiffeId, *, serial: str, expires_at: datetime, at: datetime) -> None:
        """Note the serial of a renewed SVID."""

        def job(connection: Connection) -> None:
            row = _locked(connection, node_id)
            if row is None:
                raise NodeNotAttestedError(f"node {node_id} is not attested")
            if row.serial == _BANNED:
                raise NodeBannedError(f"node {node_id} is banned")
            values = {"pending_serial": serial, "svid_expires_at": expires_at}
            connection.execute(update(NODES).where(_is(node_id)).values(values))
            note(connection, Noun.NODE, node_id, at)

        await self._database.write(job)

    async def activate_pending(self, node_id: SpiffeId, *, serial: str, at: datetime) -> None:
        """Make the pending serial current, if it is this one and the node is not banned."""
        pending = and_(_is(node_id), NODES.c.pending_serial == serial, NODES.c.serial != _BANNED)

        def job(connection: Connection) -> None:
            changed = connection.execute(update(NODES).where(pending).values(serial=serial, pending_serial=""))
            if changed.rowcount:
                note(connection, Noun.NODE, node_id, at)

        await self._database.write(job)

    async def set_version(self, node_id: SpiffeId, *, agent_version: str) -> None:
        """Note which software the node runs."""

        def job(connection: Connection) -> None:
            connection.execute(update(NODES).where(_is(node_id)).values(agent_version=agent_version))

        await self._database.write(job)

    async def ban(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Empty both serials."""

        def job(connection: Connection) -> None:
            changed = connection.execute(update(NODES).where(_is(node_id)).values(serial=_BANNED, pending_serial=""))
            if not changed.rowcount:
                raise NodeNotFoundError(f"there is no node {node_id}")
            note(connection, Noun.NODE, node_id, at)

        await self._database.write(job)

    async def delete(self, node_id: SpiffeId, *, at: datetime) -> None:
        """Forget the node and the alias entries its join token made."""

        def job(connection: Connection) -> None:
            if not connection.execute(delete(NODES).where(_is(node_id))).rowcount:
                raise NodeNotFoundError(f"there is no node {node_id}")
            note(connection, Noun.NODE, node_id, at)
            for entry_id in _alias_entries(connection, node_id):
                remove_entries(connection, ENTRIES.c.entry_id == entry_id, at)

        await self._database.write(job)

    async def find(self, node_id: SpiffeId) -> AttestedNode | None:
        """Return one node."""

        def job(connection: Connection) -> AttestedNode | None:
            row = connection.execute(select(NODES).where(_is(node_id))).one_or_none()
            return None if row is None else _node(row)

        return await self._database.read(job)

    async def all(self) -> tuple[AttestedNode, ...]:
        """Return every node, by ID."""
        nodes = await self._database.read(lambda c: [_node(row) for row in c.execute(select(NODES))])
        return tuple(sorted(nodes, key=lambda node: node.spiffe_id))  # the database's collation may differ


def _is(node_id: SpiffeId) -> Any:
    return NODES.c.spiffe_id == str(node_id)


def _locked(connection: Connection, node_id: SpiffeId) -> Row[Any] | None:
    """Read a row that nobody else can change before we are done (SQLite: nobody writes beside us anyway)."""
    return connection.execute(select(NODES).where(_is(node_id)).with_for_update()).one_or_none()


def _alias_entries(connection: Connection, node_id: SpiffeId) -> list[str]:
    query = select(ENTRIES.c.entry_id, ENTRIES.c.selectors).where(ENTRIES.c.parent_id == str(node_id))
    alias = [str(alias_selector(node_id))]
    return [row.entry_id for row in connection.execute(query) if row.selectors == alias]


def _columns(node: AttestedNode) -> dict[str, Any]:
    return {
        "spiffe_id": str(node.spiffe_id),
        "attestation_type": node.attestation_type,
        "serial": node.serial,
        "pending_serial": node.pending_serial,
        "svid_expires_at": node.svid_expires_at,
        "selectors": list(map(str, node.selectors)),
        "can_reattest": node.can_reattest,
        "agent_version": node.agent_version,
        "attested_at": node.attested_at,
    }


def _node(row: Row[Any]) -> AttestedNode:
    return AttestedNode(
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        attestation_type=row.attestation_type,
        serial=row.serial,
        pending_serial=row.pending_serial,
        svid_expires_at=row.svid_expires_at,
        selectors=tuple(map(Selector.parse, row.selectors)),
        can_reattest=row.can_reattest,
        agent_version=row.agent_version,
        attested_at=row.attested_at,
    )
