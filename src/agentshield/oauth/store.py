"""What the authorization server keeps. Each noun a protocol; `memory_store` and `sql_store` keep them all."""

from datetime import datetime
from typing import Protocol, TypeVar

from agentshield.oauth.model import (
    ClientRegistration,
    FederatedCredential,
    IssuedToken,
    IssuerRecord,
    Resource,
    Revocation,
    SingleUse,
)

T = TypeVar("T")


class RecordStore(Protocol[T]):
    """One noun of what administrators register, each record by its own key."""

    async def find(self, key: str) -> T | None:
        """Return the record of this key, or None."""
        ...

    async def all(self) -> tuple[T, ...]:
        """Return every record, by key."""
        ...

    async def put(self, record: T) -> None:
        """Keep a record in place of the one with its key. Raises: RegistrationConflictError."""
        ...

    async def delete(self, key: str) -> None:
        """Drop a record. Raises: RegistrationNotFoundError."""
        ...


class ClientStore(RecordStore[ClientRegistration], Protocol):
    """Client registrations, by client_id."""


class ResourceStore(RecordStore[Resource], Protocol):
    """Resources, by audience."""


class IssuerStore(RecordStore[IssuerRecord], Protocol):
    """Foreign issuers, by name; `iss` is unique too."""

    async def find_by_issuer(self, issuer: str) -> IssuerRecord | None:
        """Return the record whose `iss` is exactly this one, or None."""
        ...


class FederatedCredentialStore(RecordStore[FederatedCredential], Protocol):
    """Federated identity credentials, by name; one foreign identity is one agent."""

    async def of_issuer(self, issuer: str) -> tuple[FederatedCredential, ...]:
        """Return those whose issuer is exactly this one."""
        ...


class TokenStore(Protocol):
    """Issuances, revocations and single-use identifiers: whatever must be one transaction."""

    async def issue(
        self,
        token: IssuedToken | None,
        *,
        uses: tuple[SingleUse, ...],
        at: datetime,
        beside: IssuedToken | None = None,
    ) -> None:
        """Claim every one of `uses` and record `token`, and one `beside` it, all or nothing, durably.

        Raises:
            AlreadyUsedError: one of them has been claimed; nothing was recorded.
            ParentRevokedError: a parent, or what it derives from, is revoked; nothing was recorded.
        """
        ...

    async def find(self, jti: str) -> IssuedToken | None:
        """Return the record of an issuance, or None."""
        ...

    async def find_opaque(self, digest: str) -> IssuedToken | None:
        """Return the record of the opaque token with this SHA-256 (hex), or None."""
        ...

    async def is_revoked(self, jti: str) -> bool:
        """Whether it, or anything it derives from, is revoked."""
        ...

    async def revoke(self, jti: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke a token and whatever derives from it; return what was newly revoked, itself first."""
        ...

    async def revoke_agent(self, agent: str, *, at: datetime) -> tuple[Revocation, ...]:
        """Revoke every live token issued to this agent (SPIFFE ID), and what derives from them."""
        ...

    async def revocations_after(self, epoch: int, *, at: datetime) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch and the revocations since `epoch` of tokens that would still be good `at`."""
        ...

    async def forget(self, *, before: datetime) -> int:
        """Drop what ended before `before`; return how many rows."""
        ...


class OAuthStore(Protocol):
    """All of it."""

    @property
    def clients(self) -> ClientStore:
        """Client registrations."""
        ...

    @property
    def resources(self) -> ResourceStore:
        """Resources."""
        ...

    @property
    def issuers(self) -> IssuerStore:
        """Foreign issuers."""
        ...

    @property
    def credentials(self) -> FederatedCredentialStore:
        """Federated identity credentials."""
        ...

    @property
    def tokens(self) -> TokenStore:
        """Issuances, revocations, single uses."""
        ...
