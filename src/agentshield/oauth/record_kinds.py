"""What administrators register, by kind: what each record is called, and which two cannot stand side by side."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from agentshield.oauth.errors import RegistrationConflictError, RegistrationNotFoundError
from agentshield.oauth.model import ClientRegistration, FederatedCredential, IssuerRecord, Resource

T = TypeVar("T")

_SPIFFE: Final = "spiffe://"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordKind(Generic[T]):
    """A kind of record. `issuer` is the foreign issuer it is about, or empty; rivals share it.

    `check(record, others)` raises RegistrationConflictError; `others` are those of the same issuer but itself.
    """

    name: str
    type: type[T]
    key: Callable[[T], str]
    issuer: Callable[[T], str]
    check: Callable[[T, Iterable[T]], None]

    def not_found(self, key: str) -> RegistrationNotFoundError:
        """Return the error for a key that nobody has."""
        return RegistrationNotFoundError(f"there is no {self.name} {key[:200]!a}")


def _no_issuer(_record: object) -> str:
    return ""


def _check_client(record: ClientRegistration, _others: Iterable[ClientRegistration]) -> None:
    """A SPIFFE ID is the client of the agent that has it, and of nobody else."""
    if record.client_id.lower().startswith(_SPIFFE) and record.client_id != str(record.spiffe_id):
        raise RegistrationConflictError(
            f"client_id {record.client_id[:200]!a} is a SPIFFE ID, but not that of agent {record.spiffe_id}",
            hint="choose another name: each agent's SPIFFE ID is its own client already",
        )


def _check_resource(_record: Resource, _others: Iterable[Resource]) -> None:
    """Audiences are keys; beyond that resources do not meet."""


def _check_issuer(record: IssuerRecord, others: Iterable[IssuerRecord]) -> None:
    """One `iss` is believed by one record: two would differ in how far."""
    for other in others:
        raise RegistrationConflictError(
            f"issuer {record.issuer[:200]!a} is registered as {other.name[:80]!a} already",
            hint="change that record, or delete it first",
        )


def _check_credential(record: FederatedCredential, others: Iterable[FederatedCredential]) -> None:
    """One foreign identity is one agent: no token may fit two, whatever audience each asks for."""
    if record.subject is None and not record.claims:
        raise RegistrationConflictError(
            f"credential {record.name[:80]!a} asks for neither a subject nor a claim: every token would fit",
            hint="name the subject, or the claims that tell this identity from the issuer's others",
        )
    for other in others:
        if other.agent != record.agent and _is_within(record, other):
            raise RegistrationConflictError(
                f"credential {other.name[:80]!a} would answer to the same token, for agent {other.agent}",
                hint="make the two differ in a claim that both ask for",
            )


def _is_within(one: FederatedCredential, other: FederatedCredential) -> bool:
    """Whether what fits one of them always fits the other."""
    mine, theirs = _conditions(one).items(), _conditions(other).items()
    return mine <= theirs or theirs <= mine


def _conditions(credential: FederatedCredential) -> dict[str, str]:
    subject = {} if credential.subject is None else {"sub": credential.subject}
    return dict(credential.claims) | subject


CLIENTS: Final = RecordKind(
    name="client",
    type=ClientRegistration,
    key=lambda record: record.client_id,
    issuer=_no_issuer,
    check=_check_client,
)
RESOURCES: Final = RecordKind(
    name="resource", type=Resource, key=lambda record: record.audience, issuer=_no_issuer, check=_check_resource
)
ISSUERS: Final = RecordKind(
    name="issuer",
    type=IssuerRecord,
    key=lambda record: record.name,
    issuer=lambda record: record.issuer,
    check=_check_issuer,
)
CREDENTIALS: Final = RecordKind(
    name="federated credential",
    type=FederatedCredential,
    key=lambda record: record.name,
    issuer=lambda record: record.issuer,
    check=_check_credential,
)
