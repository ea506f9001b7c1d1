"""The statements that every token needs, written by hand for speed, and how values stand in their rows."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.model import IssuedToken
from agentshield.oauth.sql_schema import TOKENS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_encode: Final = msgspec.json.Encoder().encode

_COLUMNS: Final = (
    "jti",
    "parents",
    "kind",
    "client_id",
    "agent",
    "subject",
    "audience",
    "issued_at",
    "expires_at",
    "claims",
    "opaque_sha256",
    "credential",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What an issuance runs. `insert` takes `token_values`; `lock_parent` a jti; `derive` parent and child."""

    insert: str
    lock_parent: str
    derive: str


def _statements(mark: str, *, share_lock: str) -> Statements:
    marks = ", ".join([mark] * len(_COLUMNS))
    return Statements(  # S608: values are marked, never written
        insert=f"INSERT INTO oauth_tokens ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608
        lock_parent=f"SELECT revocation FROM oauth_tokens WHERE jti = {mark}{share_lock}",  # noqa: S608
        derive=f"INSERT INTO oauth_derivations (parent, child) VALUES ({mark}, {mark})",  # noqa: S608
    )


#: By dialect. The share lock makes who revokes a parent wait for its new child and find it; SQLite writes one by one.
STATEMENTS: Final = {
    "sqlite": _statements("?", share_lock=""),
    "postgresql": _statements("%s", share_lock=" FOR SHARE"),
}

#: What `token_of` reads.
TOKEN_COLUMNS: Final = tuple(TOKENS.c[name] for name in _COLUMNS)


def microseconds(moment: datetime) -> int:
    """Return a time as `database.types.Instant` keeps it."""
    return (moment - _EPOCH) // _MICROSECOND


def token_values(token: IssuedToken) -> tuple[Any, ...]:
    """Return the values of a token's row, in the order of `Statements.insert`."""
    return (
        token.jti,
        _encode(token.parents).decode(),
        token.kind,
        token.client_id,
        str(token.agent),
        token.subject,
        token.audience,
        microseconds(token.issued_at),
        microseconds(token.expires_at),
        _encode(token.claims).decode(),
        token.opaque_sha256,
        token.credential,
    )


def token_of(row: sa.Row[Any]) -> IssuedToken:
    """Read a row of TOKEN_COLUMNS."""
    return IssuedToken(
        jti=row.jti,
        parents=tuple(msgspec.json.decode(row.parents)),
        kind=row.kind,
        client_id=row.client_id,
        agent=SpiffeId.parse(row.agent),
        subject=row.subject,
        audience=row.audience,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        claims=msgspec.json.decode(row.claims),
        opaque_sha256=row.opaque_sha256,
        credential=row.credential,
    )
