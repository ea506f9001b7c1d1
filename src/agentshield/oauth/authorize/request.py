"""One authorization request, from the client that lodges it to the code that is spent: a row, and its steps.

Whoever holds the secret of a stage may take the next step, and only its digest is kept: first the `request_uri`, then
the cookie of the browser that came with it, last the code.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

REQUEST_LIFETIME: Final = timedelta(seconds=90)  # of a request_uri; RFC 9126, 2.2
BROWSER_TIME: Final = timedelta(minutes=10)  # for a human to sign in, read and decide
CODE_LIFETIME: Final = timedelta(seconds=60)  # RFC 6749, 4.1.2 allows ten minutes


class Stage(StrEnum):
    """How far a request has come. Each is left once; nothing leads back."""

    PUSHED = "pushed"  # the client has lodged it
    STARTED = "started"  # a browser came with it and was sent to sign in
    RETURNED = "returned"  # the browser came back, and its answer is being redeemed
    SIGNED_IN = "signed_in"  # we know who it is, and wait for their decision
    CONSENTED = "consented"  # they agreed: there is a code
    REDEEMED = "redeemed"  # the code was spent; who comes with it again has stolen it
    ENDED = "ended"  # denied, or failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the client asked for. `binding` is the key it showed, "jkt:…" or "x5t:…"; `issuer` a record's name."""

    client_id: str
    agent: str  # SPIFFE ID
    redirect_uri: str
    state: str | None
    code_challenge: str
    binding: str
    issuer: str
    audience: str
    scopes: tuple[str, ...]
    details: tuple[Mapping[str, Any], ...]
    is_lasting: bool  # whether the client asked to come back without the human (`offline_access`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """Who signed in. `name` is for the page alone; a human is the pair of `issuer` and `subject`."""

    issuer: str
    subject: str
    name: str
    auth_time: int | None = None
    acr: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request as it stands."""

    request_id: str
    secret_sha256: str
    stage: Stage
    asked: Asked
    human: Human | None = None
    created_at: datetime
    expires_at: datetime  # of this stage

    def is_at(self, stage: Stage, secret: str, *, at: datetime) -> bool:
        """Whether whoever shows `secret` may take the step that leads out of `stage`."""
        return self.stage is stage and self.is_secret(secret) and at < self.expires_at

    def is_secret(self, secret: str) -> bool:
        """Whether this is the secret of the stage, compared in constant time."""
        return hmac.compare_digest(secret_digest(secret), self.secret_sha256)

    def started(self, browser: str, *, at: datetime) -> "AuthorizationRequest":
        """A browser has come with the `request_uri`, and has it no longer: from now on it is its cookie's."""
        return replace(self, stage=Stage.STARTED, secret_sha256=secret_digest(browser), expires_at=at + BROWSER_TIME)

    def returned(self) -> "AuthorizationRequest":
        """The browser is back from the identity provider."""
        return replace(self, stage=Stage.RETURNED)

    def signed_in(self, human: Human) -> "AuthorizationRequest":
        """The identity provider has said who it is."""
        return replace(self, stage=Stage.SIGNED_IN, human=human)

    def consented(self, code: str, *, at: datetime) -> "AuthorizationRequest":
        """They agreed."""
        return replace(self, stage=Stage.CONSENTED, secret_sha256=secret_digest(code), expires_at=at + CODE_LIFETIME)

    def redeemed(self, *, until: datetime) -> "AuthorizationRequest":
        """The code was spent; it is remembered for as long as what came of it lives."""
        return replace(self, stage=Stage.REDEEMED, expires_at=until)

    def ended(self) -> "AuthorizationRequest":
        """Nothing comes of it."""
        return replace(self, stage=Stage.ENDED)


def secret_digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def handle(request_id: str, secret: str) -> str:
    """Return a request's id and a secret of it in one word: what a `request_uri` ends with, and what a code is."""
    return f"{request_id}.{secret}"


def parse_handle(text: str) -> tuple[str, str]:
    """Take a word apart into id and secret; of one that is none, both are somebody's who does not exist."""
    request_id, _, secret = text.partition(".")
    return request_id, secret
