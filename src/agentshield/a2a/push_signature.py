"""Signed webhooks: whose event it is, for which address, byte for byte, and once.

A JWT of a type of its own, beside the owner's credential and not instead of it (docs/adr/0016-signed-webhooks.md):

    {"alg": "ES256", "kid": …, "typ": "a2a-webhook+jwt"}
    {"iss": who sends, "aud": the URL, "jti": the event's id, "iat": …, "exp": …, "body_sha256": of the body}

The id stays the same when a delivery is tried again, so a receiver can tell an event it has had from a new one.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agentshield.errors import AuthenticationError, ConflictError, InvalidInputError, UnavailableError
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import UnverifiedJws, encode_base64url, sign_compact
from agentshield.identity.jwt_claims import CLOCK_SKEW, audience_claim, has_begun, text_claim, time_claim
from agentshield.identity.keys import PrivateKey, signing_algorithm
from agentshield.identity.strict_json import parse_json_object

WEBHOOK_TYPE: Final = "a2a-webhook+jwt"
SIGNATURE_HEADER: Final = "X-A2A-Webhook-Signature"
LIFETIME: Final = timedelta(minutes=2)
REMEMBERED: Final = timedelta(hours=1)  # longer than a sender tries, and than any signature is good
MOST_REMEMBERED: Final = 100_000

_ALG: Final = "ES256"
_EVENTS: Final = ("task", "message", "statusUpdate", "artifactUpdate")
_SEAL: Final = object()


class WebhookRefusedError(AuthenticationError):
    """The webhook is not one of its sender's, or not for this address, this body or this time."""

    code = "a2a_webhook_refused"


class WebhookBodyError(InvalidInputError):
    """The webhook is signed, and its body is no A2A event."""

    code = "a2a_webhook_body"


class WebhookReplayedError(ConflictError):
    """The event was received before. Answer 200 and do nothing: a sender whose answer was lost tries again."""

    code = "a2a_webhook_replayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSigner:
    """Signs as `issuer` with a P-256 key that its JWKS names `kid`.

    Raises:
        ValueError: the key is of another kind.
    """

    issuer: str
    kid: str
    key: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if signing_algorithm(self.key) != _ALG:
            raise ValueError("webhooks are signed with a key on P-256")

    def sign(self, body: bytes, *, url: str, event_id: str, at: datetime) -> str:
        """Return the signature of one delivery."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": url,
            "jti": event_id,
            "iat": int(at.timestamp()),
            "exp": int((at + LIFETIME).timestamp()),
            "body_sha256": _digest(body),
        }
        return sign_compact(claims, self.key, kid=self.kid, typ=WEBHOOK_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWebhook:
    """A webhook that holds. `event` is its `StreamResponse`; whether its task is one of yours is yours to check."""

    issuer: str
    event_id: str
    event: Mapping[str, Any] = field(repr=False)
    _seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedWebhook comes out of verify_webhook only")


class WebhookMemory:
    """The events that were received. It refuses everything rather than forget one too early."""

    def __init__(self, *, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._seen: dict[tuple[str, str], datetime] = {}

    def use(self, issuer: str, event_id: str, *, at: datetime) -> None:
        """Take note of an event.

        Raises:
            WebhookReplayedError: it was received within the last hour.
            UnavailableError: more were than are remembered.
        """
        until = self._seen.get((issuer, event_id))
        if until is not None and at < until:
            raise WebhookReplayedError(f"event {event_id[:64]!a} was received before")
        if len(self._seen) >= self._most:
            self._seen = {key: end for key, end in self._seen.items() if at < end}
            if len(self._seen) >= self._most:
                raise UnavailableError(f"more than {self._most} events were received within {REMEMBERED}")
        self._seen[issuer, event_id] = at + REMEMBERED


def verify_webhook(
    signature: str, body: bytes, *, url: str, issuer: str, keys: KeySet, memory: WebhookMemory, at: datetime
) -> VerifiedWebhook:
    """Check that `issuer` sent this body to this URL just now, and that it was not received before.

    `url` is the one that was registered, letter for letter; `keys` are the issuer's, from its own address, never from
    one that a token names.

    Raises:
        InvalidTokenError: not a webhook signature.
        UnknownKeyError, BadSignatureError: not signed with a key of the issuer's.
        WrongAudienceError: for another address.
        WebhookRefusedError: by another issuer, for another body, not ES256, expired or from the future.
        WebhookBodyError: the body is no `StreamResponse`.
        WebhookReplayedError: received before.
        UnavailableError: too much was received to remember more.
    """
    unverified = UnverifiedJws.parse(signature, types=frozenset({WEBHOOK_TYPE}))
    if unverified.header.alg != _ALG:
        raise WebhookRefusedError(f"webhook is signed with {unverified.header.alg}, expected {_ALG}")
    claims = unverified.verify(keys.find(unverified.header.kid, _ALG).public_key)
    if text_claim(claims, "iss") != issuer:
        raise WebhookRefusedError("webhook is another issuer's")
    if (actual := audience_claim(claims)) != (url,):
        raise WrongAudienceError(expected=f"{url} alone", actual=actual)
    _check_time(claims, at)
    if not hmac.compare_digest(text_claim(claims, "body_sha256").encode(), _digest(body).encode()):
        raise WebhookRefusedError("webhook's body is not the one that was signed")
    event_id = text_claim(claims, "jti")
    event = parse_json_object(body, what="webhook", error=WebhookBodyError)
    if sum(isinstance(event.get(name), dict) for name in _EVENTS) != 1:
        raise WebhookBodyError(f"webhook is not one of {', '.join(_EVENTS)}")
    memory.use(issuer, event_id, at=at)
    return VerifiedWebhook(issuer=issuer, event_id=event_id, event=event, _seal=_SEAL)


def _check_time(claims: Mapping[str, Any], at: datetime) -> None:
    expires_at = time_claim(claims, "exp")
    if at >= expires_at:
        raise WebhookRefusedError(f"webhook expired {(at - expires_at).total_seconds():.0f}s ago")
    if expires_at > at + LIFETIME + CLOCK_SKEW:
        raise WebhookRefusedError(f"webhook is good for over {LIFETIME.total_seconds():.0f}s")
    if "iat" not in claims or not has_begun(claims, at):
        raise WebhookRefusedError("webhook has no iat, or one in the future")


def _digest(body: bytes) -> str:
    return encode_base64url(hashlib.sha256(body).digest()).decode()
