"""What a token says, claim by claim and with the clause that gives the claim its meaning. Believes none of it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentshield.app.durations import duration_text
from agentshield.errors import InvalidInputError
from agentshield.identity.errors import utc_text
from agentshield.identity.jws import MAX_TOKEN_BYTES, InvalidTokenError, decode_base64url
from agentshield.identity.strict_json import parse_json_object

NOT_VERIFIED: Final = "NOT VERIFIED: anybody can write a token that says this"
_SIGNED_PARTS: Final = 3
_ENCRYPTED_PARTS: Final = 5

_HEADER: Final[Mapping[str, tuple[str, str]]] = {
    "typ": ("what kind of token it is", "RFC 9068, 2.1; RFC 7515, 4.1.9"),
    "alg": ("how it is signed", "RFC 7515, 4.1.1"),
    "kid": ("which of its issuer's keys signed it", "RFC 7515, 4.1.4"),
}
_CLAIMS: Final[Mapping[str, tuple[str, str]]] = {
    "iss": ("who issued it", "RFC 7519, 4.1.1; RFC 9068, 2.2"),
    "sub": ("on whose behalf it speaks", "RFC 7519, 4.1.2; RFC 9068, 2.2"),
    "aud": ("whom it is for; everybody else must refuse it", "RFC 7519, 4.1.3; RFC 9068, 3"),
    "exp": ("when it ends", "RFC 7519, 4.1.4"),
    "nbf": ("when it begins", "RFC 7519, 4.1.5"),
    "iat": ("when it was issued", "RFC 7519, 4.1.6"),
    "jti": ("its own name, by which it is revoked and found in the audit log", "RFC 7519, 4.1.7"),
    "client_id": ("the client that it was issued to", "RFC 8693, 4.3"),
    "azp": ("the client that it was issued to, in OpenID's words", "OpenID Connect Core, 2"),
    "scope": ("what its bearer may ask for, at most", "RFC 8693, 4.2"),
    "cnf": ("the key that it is bound to: of no use without", "RFC 7800, 3.1"),
    "act": ("who acts for the subject, the present one outermost", "RFC 8693, 4.1"),
    "may_act": ("who may come to act for the subject", "RFC 8693, 4.4"),
    "authorization_details": ("exactly what it is good for", "RFC 9396, 9.1"),
    "auth_time": ("when its user last signed in", "OpenID Connect Core, 2"),
    "acr": ("how strongly its user signed in", "OpenID Connect Core, 2"),
    "amr": ("by what means its user signed in", "RFC 8176, 2"),
    "nonce": ("ties it to the request that it answers", "OpenID Connect Core, 2"),
    "sub_id": ("who the subject is, and who named it", "RFC 9493, 4.1"),
    "txn": ("the transaction that it belongs to", "RFC 8417, 2.2"),
    "sub_profile": ("what kind of subject it is: user or ai_agent", "AgentShield, docs/explain/oauth.md"),
    "blueprint": ("the kind of agent that it was issued to", "AgentShield, docs/explain/oauth.md"),
}
_CONFIRMATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "jkt": ("bound to a DPoP key, by its thumbprint", "RFC 9449, 6.1"),
    "x5t#S256": ("bound to a client certificate, by its thumbprint", "RFC 8705, 3.1"),
}
_UNKNOWN: Final = ("no claim that we know: it means what its issuer says", "-")
_TIMES: Final = frozenset({"exp", "nbf", "iat", "auth_time"})


def inspect_token(token: str, *, at: datetime) -> dict[str, Any]:
    """Read a signed token, of any issuer, without believing it.

    Raises:
        InvalidInputError: it cannot be read; opaque and encrypted tokens are only for whoever issued them.
    """
    header, claims = _parts_of(token)
    rows = [_row("signature", "not verified", NOT_VERIFIED, "RFC 7515, 5.2")]
    rows += [_row(name, value, *_HEADER.get(name, _UNKNOWN)) for name, value in header.items()]
    for name, value in claims.items():
        rows.append(_row(name, _shown(name, value, at), *_CLAIMS.get(name, _UNKNOWN)))
        if name == "cnf" and isinstance(value, Mapping):
            rows += [_row(f"cnf.{kind}", key, *_CONFIRMATIONS.get(kind, _UNKNOWN)) for kind, key in value.items()]
    return {"verified": False, "header": header, "claims": claims, "explained": rows}


def jti_in(token: str) -> str | None:
    """Return the name that a token gives itself, believed by nobody; None if it cannot be read, or has none."""
    try:
        jti = _parts_of(token)[1].get("jti")
    except InvalidInputError:
        return None
    return jti if isinstance(jti, str) else None


def _row(claim: str, value: object, meaning: str, clause: str) -> dict[str, Any]:
    return {"claim": claim, "value": value, "meaning": meaning, "clause": clause}


def _parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = token.encode("ascii", "replace").split(b".")
    if len(parts) == 1:
        raise InvalidInputError(
            "the token is opaque: what it stands for, its issuer alone knows",
            hint="agentshield token introspect --token-file FILE",
        )
    if len(parts) == _ENCRYPTED_PARTS:
        raise InvalidInputError("the token is encrypted (RFC 7516): only whom it is for can read it")
    if len(parts) != _SIGNED_PARTS or len(token) > MAX_TOKEN_BYTES:
        raise InvalidInputError(f"the input is no signed token: it has {len(parts)} parts, expected 3 (RFC 7515, 7.1)")
    header, claims = (
        parse_json_object(decode_base64url(part, what=what), what=f"token {what}", error=InvalidTokenError)
        for part, what in zip(parts[:2], ("header", "payload"), strict=True)
    )
    return header, claims


def _shown(name: str, value: object, at: datetime) -> object:
    """Give a time as a time, and how far away it is; anything else as it stands."""
    if name not in _TIMES or isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**35:
        return value
    moment = datetime.fromtimestamp(value, UTC)
    away = moment - at
    return f"{utc_text(moment)} ({_distance(away)})"


def _distance(away: timedelta) -> str:
    if abs(away) < timedelta(seconds=1):
        return "now"
    text = duration_text(abs(away))
    return f"in {text}" if away > timedelta(0) else f"{text} ago"
