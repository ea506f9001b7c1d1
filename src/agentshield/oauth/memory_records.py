"""Registrations in memory."""

from typing import Generic

from agentshield.oauth.model import FederatedCredential, IssuerRecord
from agentshield.oauth.record_kinds import RecordKind, T


class MemoryRecords(Generic[T]):
    """One kind of record, in a dictionary."""

    def __init__(self, kind: RecordKind[T]) -> None:
        self._kind = kind
        self._records: dict[str, T] = {}

    async def find(self, key: str) -> T | None:
        """Return the record of this key, or None."""
        return self._records.get(key)

    async def all(self) -> tuple[T, ...]:
        """Return every record, by key."""
        return tuple(record for _, record in sorted(self._records.items()))

    async def put(self, record: T) -> None:
        """Keep a record. Raises: RegistrationConflictError."""
        key = self._kind.key(record)
        others = [other for other in self._same_issuer(self._kind.issuer(record)) if self._kind.key(other) != key]
        self._kind.check(record, others)
        self._records[key] = record

    async def delete(self, key: str) -> None:
        """Drop a record. Raises: RegistrationNotFoundError."""
        if self._records.pop(key, None) is None:
            raise self._kind.not_found(key)

    def _same_issuer(self, issuer: str) -> tuple[T, ...]:
        return tuple(record for _, record in sorted(self._records.items()) if self._kind.issuer(record) == issuer)


class MemoryIssuers(MemoryRecords[IssuerRecord]):
    """Foreign issuers."""

    async def find_by_issuer(self, issuer: str) -> IssuerRecord | None:
        """Return the record whose `iss` is exactly this one, or None."""
        return next(iter(self._same_issuer(issuer)), None)


class MemoryCredentials(MemoryRecords[FederatedCredential]):
    """Federated identity credentials."""

    async def of_issuer(self, issuer: str) -> tuple[FederatedCredential, ...]:
        """Return those whose issuer is exactly this one."""
        return self._same_issuer(issuer)
