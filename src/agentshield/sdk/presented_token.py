"""An access token as a request shows it: read strictly, and believed in nothing yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from agentshield.sdk.token_errors import TokenMissingError, TokenUnreadableError

_SCHEMES: Final[Mapping[str, Literal["DPoP", "Bearer"]]] = {"dpop": "DPoP", "bearer": "Bearer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedToken:
    """A token as a request shows it, with whatever came as its proof. Nothing of it is checked yet."""

    scheme: Literal["DPoP", "Bearer"]
    value: str = field(repr=False)
    proofs: tuple[str, ...] = field(default=(), repr=False)
    method: str
    url: str

    @classmethod
    def of_request(cls, scope: Mapping[str, Any], *, url: str) -> Self | None:
        """Read an ASGI request that was sent to `url`; None if it shows no credential at all.

        Raises:
            TokenUnreadableError: `Authorization` is there twice, or is not ASCII.
            TokenMissingError: it is there, and of another kind.
        """
        credentials = _header(scope, b"authorization")
        if not credentials:
            return None
        if len(credentials) > 1:
            raise TokenUnreadableError("request has more than one Authorization , expected one")
        name, _, value = credentials[0].strip().partition(" ")
        scheme = _SCHEMES.get(name.lower())
        if scheme is None or not value.strip():
            raise TokenMissingError("request has an Authorization that is neither DPoP nor Bearer")
        return cls(
            scheme=scheme,
            value=value.strip(),
            proofs=tuple(_header(scope, b"dpop")),
            method=scope["method"],
            url=url,
        )


def _header(scope: Mapping[str, Any], name: bytes) -> list[str]:
    try:
        return [value.decode("ascii") for each, value in scope["headers"] if each == name]
    except UnicodeDecodeError:
        raise TokenUnreadableError(f"request has a {name.decode()} header that is not ASCII") from None
