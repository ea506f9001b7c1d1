"""What administrators register: created, listed, shown and deleted by noun, each change on record first.

Nothing is edited in place: a registration is replaced by deleting it and creating another, so that the log has both.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from agentshield.audit.log import AuditSink
from agentshield.audit.oauth_events import OAuthRegistrationChanged
from agentshield.clock import Clock
from agentshield.errors import InvalidInputError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.client_auth.client_secret import secret_digest
from agentshield.oauth.directory import AgentDirectory
from agentshield.oauth.errors import RegistrationConflictError, RegistrationNotFoundError
from agentshield.oauth.issuers.matching import may_overlap
from agentshield.oauth.model import ClientRegistration, FederatedCredential, IssuerRecord, Resource
from agentshield.oauth.record_kinds import CLIENTS, CREDENTIALS, ISSUERS, RESOURCES, RecordKind
from agentshield.oauth.registration_rules import (
    SECRET_METHODS,
    check_client,
    check_credential,
    check_issuer,
    check_resource,
)
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore, RecordStore

MAX_SECRET_LIFETIME: Final = timedelta(days=90)
MAX_CREDENTIALS: Final = 20  # of one agent, as Entra has it
_SECRET_BYTES: Final = 32
_MAX_REASON: Final = 180  # an audit event keeps 256 characters

T = TypeVar("T", ClientRegistration, Resource, IssuerRecord, FederatedCredential)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClientSecret:
    """A client secret, on the one occasion that anybody sees it."""

    client_id: str
    secret: str = field(repr=False)
    expires_at: datetime


class Register(Generic[T]):
    """One noun: clients, resources, issuers or federated credentials."""

    def __init__(
        self,
        kind: RecordKind[T],
        records: RecordStore[T],
        check: Callable[[T], Awaitable[None]],
        agent: Callable[[T], SpiffeId | None],
        recorder: "_Recorder",
    ) -> None:
        self._kind: RecordKind[T] = kind
        self._records: RecordStore[T] = records
        self._check: Callable[[T], Awaitable[None]] = check
        self._agent: Callable[[T], SpiffeId | None] = agent
        self._recorder = recorder

    async def create(self, record: T, *, by: str) -> T:
        """Keep a new record, which gives somebody rights: so it is on the audit log before it counts.

        Raises:
            InvalidInputError: it breaks a rule of its kind.
            RegistrationConflictError: there is one of this name, or another one that would answer to the same token.
            RegistrationNotFoundError: it names an agent or an issuer that does not exist.
        """
        key = self._kind.key(record)
        await self._check(record)
        if await self._records.find(key) is not None:
            raise RegistrationConflictError(f"there is a {self._kind.name} {key[:200]!a} already")
        await self._record(record, "created", by)
        await self._records.put(record)
        return record

    async def list(self) -> tuple[T, ...]:
        """Return every record, by name."""
        return await self._records.all()

    async def show(self, key: str) -> T:
        """Return one record. Raises: RegistrationNotFoundError."""
        record = await self._records.find(key)
        if record is None:
            raise self._kind.not_found(key)
        return record

    async def delete(self, key: str, *, by: str) -> None:
        """Drop a record, which takes rights away: so it is done first, whatever the audit log says to it.

        Raises:
            RegistrationNotFoundError: there is none.
        """
        record = await self.show(key)
        await self._records.delete(key)
        await self._record(record, "deleted", by)

    async def update(self, record: T, *, by: str, detail: str) -> None:
        """Keep a record in place of its former self, for a reason. For what cannot be deleted and created anew."""
        await self._record(record, "updated", by, detail)
        await self._records.put(record)

    async def replace(self, record: T, *, by: str) -> T:
        """Keep a record in place of the one of its name, by all the rules of a new one.

        Raises:
            InvalidInputError, RegistrationConflictError: as `create`.
            RegistrationNotFoundError: there is none of this name, or it names an agent or issuer that does not exist.
        """
        await self.show(self._kind.key(record))
        await self._check(record)
        await self._record(record, "updated", by)
        await self._records.put(record)
        return record

    async def _record(self, record: T, change: str, by: str, detail: str = "") -> None:
        agent = self._agent(record)
        await self._recorder.sink.record(
            OAuthRegistrationChanged(
                at=self._recorder.clock(),
                noun=self._kind.name.replace(" ", "_"),
                record=self._kind.key(record),
                change=change,
                by=by,
                detail=detail or (f"agent {agent}" if agent is not None else ""),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorder:
    sink: AuditSink
    clock: Clock


class Registrations:
    """All four nouns, and client secrets."""

    def __init__(
        self, settings: OAuthSettings, store: OAuthStore, directory: AgentDirectory, sink: AuditSink, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._directory = directory
        self._clock = clock
        recorder = _Recorder(sink=sink, clock=clock)
        self.clients: Register[ClientRegistration] = Register(
            CLIENTS, store.clients, self._check_client, lambda record: record.spiffe_id, recorder
        )
        self.resources: Register[Resource] = Register(
            RESOURCES, store.resources, self._check_resource, lambda record: record.server, recorder
        )
        self.issuers: Register[IssuerRecord] = Register(
            ISSUERS, store.issuers, self._check_issuer, lambda _record: None, recorder
        )
        self.credentials: Register[FederatedCredential] = Register(
            CREDENTIALS, store.credentials, self._check_credential, lambda record: record.agent, recorder
        )

    async def issue_client_secret(
        self, client_id: str, *, lifetime: timedelta, reason: str, by: str
    ) -> NewClientSecret:
        """Make a secret for a client that cannot do better yet, in place of its former one. It is shown this once.

        Raises:
            InvalidInputError: no reason, no end within 90 days, or a client that is not registered for secrets.
            RegistrationNotFoundError: there is no such client.
        """
        registration = await self.clients.show(client_id)
        if not registration.methods & SECRET_METHODS:
            raise InvalidInputError(f"client {client_id[:200]!a} is not registered for client secrets")
        if not timedelta(0) < lifetime <= MAX_SECRET_LIFETIME:
            raise InvalidInputError(f"lifetime is {lifetime}, expected more than 0 and at most {MAX_SECRET_LIFETIME}")
        if not 0 < len(reason.strip()) <= _MAX_REASON or not reason.isprintable():
            raise InvalidInputError(
                f"reason has {len(reason)} characters, expected 1 to {_MAX_REASON} on one line",
                hint="say why this client cannot use its SVID, for whoever reviews the exception",
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        expires_at = self._clock() + lifetime
        changed = replace(registration, secret_sha256=secret_digest(secret), secret_expires_at=expires_at)
        await self.clients.update(changed, by=by, detail=f"secret until {expires_at:%Y-%m-%dT%H:%M:%SZ}: {reason}")
        return NewClientSecret(client_id=client_id, secret=secret, expires_at=expires_at)

    async def _check_client(self, record: ClientRegistration) -> None:
        check_client(record)
        await self._require_agent(record.spiffe_id)

    async def _check_resource(self, record: Resource) -> None:
        check_resource(record, self._settings)
        if record.server is not None:
            await self._require_agent(record.server)

    async def _check_issuer(self, record: IssuerRecord) -> None:
        check_issuer(record, self._settings)

    async def _check_credential(self, record: FederatedCredential) -> None:
        issuer = await self._store.issuers.find_by_issuer(record.issuer)
        if issuer is None:
            raise RegistrationNotFoundError(
                f"there is no issuer {record.issuer[:200]!a}",
                hint="register it first, exactly as its tokens say",
            )
        check_credential(record, issuer)
        await self._require_agent(record.agent)
        for other in await self._store.credentials.of_issuer(record.issuer):
            if other.agent != record.agent and may_overlap(record, other, issuer):
                raise RegistrationConflictError(
                    f"one token could fit this credential and {other.name[:80]!a}, of agent {other.agent}",
                    hint="let the two ask for different values of one claim",
                )
        mine = [each for each in await self._store.credentials.all() if each.agent == record.agent]
        if len(mine) >= MAX_CREDENTIALS:
            raise RegistrationConflictError(f"agent {record.agent} has {len(mine)} federated credentials already")

    async def _require_agent(self, spiffe_id: SpiffeId) -> None:
        if await self._directory.find(spiffe_id) is None:
            raise RegistrationNotFoundError(f"there is no agent {spiffe_id}")
