"""Our A2A extension: which SPIFFE ID a card is about, how fresh it is, and how callers prove themselves.

A card has no place for any of these. A card with this extension also promises that nothing in it is empty: so a
signature over it covers all of it, in the form of the specification and in that of the SDKs alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from agentshield.identity.agent_card.card import AgentCard, origin_of
from agentshield.identity.agent_card.errors import InvalidCardError
from agentshield.identity.errors import InvalidSpiffeIdError
from agentshield.identity.spiffe_id import SpiffeId

IDENTITY_EXTENSION: Final = "urn:agentshield:a2a:identity:1"
PROOFS: Final = frozenset({"x509-svid", "jwt-svid", "dpop", "mtls-token"})

_MEMBERS: Final = frozenset({"spiffeId", "issuedAt", "expiresAt", "serial", "proofs", "resourceMetadata"})
_MAX_SERIAL: Final = 2**53 - 1  # what every JSON reader holds exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBinding:
    """What the extension says. `serial` grows with each card of the agent; `proofs` are those it takes of callers.

    Raises:
        InvalidCardError: it ends before it begins, a serial out of range, or a proof nobody knows.
    """

    spiffe_id: SpiffeId
    issued_at: datetime
    expires_at: datetime
    serial: int
    proofs: frozenset[str] = frozenset()
    resource_metadata: str | None = None

    def __post_init__(self) -> None:
        if self.expires_at <= self.issued_at:
            raise InvalidCardError("identity extension ends before it begins")
        if not 0 < self.serial <= _MAX_SERIAL:
            raise InvalidCardError(f"identity extension has serial {self.serial}, expected 1 to 2**53 - 1")
        if unknown := self.proofs - PROOFS:
            raise InvalidCardError(f"identity extension names proof {min(unknown)[:40]!a}, which is unknown")
        if self.resource_metadata is not None and origin_of(self.resource_metadata) is None:
            raise InvalidCardError("identity extension's resourceMetadata is no https URL")

    @classmethod
    def of(cls, card: AgentCard) -> Self | None:
        """Return what `card` says, or None where it has no such extension.

        Raises:
            InvalidCardError: it is there twice, or not as it should be.
        """
        extension = card.extension(IDENTITY_EXTENSION)
        return None if extension is None else cls._read(extension.params)

    @classmethod
    def _read(cls, params: Mapping[str, Any]) -> Self:
        if unknown := params.keys() - _MEMBERS:
            raise InvalidCardError(f"identity extension has the unknown member {min(unknown)[:40]!a}")
        proofs, metadata, serial = params.get("proofs", []), params.get("resourceMetadata"), params.get("serial")
        if not isinstance(proofs, list) or not all(isinstance(each, str) for each in proofs):
            raise InvalidCardError("identity extension's proofs are no list of texts")
        if metadata is not None and not isinstance(metadata, str):
            raise InvalidCardError("identity extension's resourceMetadata is not text")
        # A protobuf Struct holds numbers as doubles: what was written as 7 may come back as 7.0.
        if isinstance(serial, float) and serial.is_integer():
            serial = int(serial)
        if type(serial) is not int:
            raise InvalidCardError("identity extension has no serial")
        try:
            return cls(
                spiffe_id=SpiffeId.parse(_text(params, "spiffeId")),
                issued_at=_moment(params, "issuedAt"),
                expires_at=_moment(params, "expiresAt"),
                serial=serial,
                proofs=frozenset(proofs),
                resource_metadata=metadata,
            )
        except InvalidSpiffeIdError as error:
            raise InvalidCardError(f"identity extension: {error}") from error

    def to_extension(self) -> dict[str, Any]:
        """Return the entry for `capabilities.extensions`."""
        params: dict[str, Any] = {
            "spiffeId": str(self.spiffe_id),
            "issuedAt": _written(self.issued_at),
            "expiresAt": _written(self.expires_at),
            "serial": self.serial,
        }
        if self.proofs:
            params["proofs"] = sorted(self.proofs)
        if self.resource_metadata is not None:
            params["resourceMetadata"] = self.resource_metadata
        return {
            "uri": IDENTITY_EXTENSION,
            "description": "Who this agent is, by SPIFFE, and until when",
            "params": params,
        }


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidCardError(f"identity extension has no {name}")
    return value


def _moment(params: Mapping[str, Any], name: str) -> datetime:
    text = _text(params, name)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidCardError(f"identity extension's {name} is {text[:40]!a}, expected 2026-11-24T10:00:00Z") from None


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
