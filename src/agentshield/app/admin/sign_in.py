"""The part of an issuer's registration by which humans sign in there, as the admin API reads and shows it."""

from collections.abc import Mapping
from typing import Any, Final

from agentshield.app.admin.oauth_members import texts_in
from agentshield.app.admin.request import required
from agentshield.app.command import nearest
from agentshield.errors import InvalidInputError
from agentshield.oauth.model import SignIn, SignInMethod

MEMBERS: Final = {"client_id": str, "method": str, "scopes": list, "name_claim": str}


def sign_in_of(body: Mapping[str, Any]) -> SignIn | None:
    """Return what an issuer's `sign_in` says, or None where there is none. Raises: InvalidInputError."""
    if "sign_in" not in body:
        return None
    given = {name: value for name, value in body["sign_in"].items() if value is not None}
    for name, value in given.items():
        if name not in MEMBERS:
            raise InvalidInputError(f"unknown member of sign_in {str(name)[:64]!a}{nearest(str(name), list(MEMBERS))}")
        if not isinstance(value, MEMBERS[name]):
            raise InvalidInputError(f"member {name!r} of sign_in has type {type(value).__name__}")
    return SignIn(
        client_id=required(given, "client_id"),
        method=_method(given.get("method", SignInMethod.PRIVATE_KEY_JWT.value)),
        scopes=texts_in(given, "scopes") | {"openid"},
        name_claim=given.get("name_claim"),
    )


def sign_in_json(sign_in: SignIn | None) -> dict[str, Any] | None:
    """Give it back; there is no secret in it."""
    if sign_in is None:
        return None
    return {
        "client_id": sign_in.client_id,
        "method": sign_in.method.value,
        "scopes": sorted(sign_in.scopes),
        "name_claim": sign_in.name_claim,
    }


def _method(name: str) -> SignInMethod:
    try:
        return SignInMethod(name)
    except ValueError:
        known = ", ".join(SignInMethod)
        raise InvalidInputError(
            f"method of sign_in is {name[:40]!a}, expected one of {known}",
            hint="no secret of ours is kept: register us there with our JWKS, or as a public client with PKCE",
        ) from None
