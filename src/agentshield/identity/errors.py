"""What can be wrong with a name, a credential or a bundle: one error a cause, whatever operation met it."""

from collections.abc import Iterable
from datetime import datetime

from agentshield.errors import AuthenticationError, AuthorizationError, InvalidInputError


def utc_text(moment: datetime) -> str:
    """Write a time as the messages of this package do, like 2026-03-16T09:59:19Z."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class InvalidSpiffeIdError(InvalidInputError):
    """Text that is not a SPIFFE ID or a trust domain name (SPIFFE-ID 2)."""

    code = "invalid_spiffe_id"


class InvalidSvidError(InvalidInputError):
    """A document that breaks the profile of the SVID it claims to be (X509-SVID 2 to 4; JWT-SVID, WIT-SVID 2 and 3)."""

    code = "invalid_svid"


class InvalidBundleError(InvalidInputError):
    """Bytes that are not a SPIFFE trust bundle (SPIFFE Trust Domain and Bundle 4)."""

    code = "invalid_bundle"


class InvalidKeyError(InvalidInputError):
    """A key of a kind or strength that we do not work with."""

    code = "invalid_key"


class SvidExpiredError(AuthenticationError):
    """The SVID was good once, but its validity period is over."""

    code = "svid_expired"

    def __init__(self, subject: object, *, expired_at: datetime, now: datetime) -> None:
        ago = (now - expired_at).total_seconds()
        super().__init__(
            f"SVID of {subject} expired at {utc_text(expired_at)}, {ago:.0f}s ago",
            hint="is the workload still connected to its node agent?",
        )
        self.subject = subject
        self.expired_at = expired_at


class SvidNotYetValidError(AuthenticationError):
    """The SVID's validity period has not begun."""

    code = "svid_not_yet_valid"

    def __init__(self, subject: object, *, valid_from: datetime, now: datetime) -> None:
        ahead = (valid_from - now).total_seconds()
        super().__init__(
            f"SVID of {subject} is valid from {utc_text(valid_from)}, {ahead:.0f}s from now",
            hint="compare the clocks of this machine and the authority",
        )
        self.subject = subject
        self.valid_from = valid_from


class UnknownTrustDomainError(AuthenticationError):
    """We hold no bundle for the trust domain that the credential names."""

    code = "unknown_trust_domain"

    def __init__(self, trust_domain: object, *, known: Iterable[object] = ()) -> None:
        names = ", ".join(sorted(str(name) for name in known)) or "none"
        super().__init__(
            f"no trust bundle for trust domain {trust_domain}; bundles held: {names}",
            hint=f"federate with {trust_domain} if its workloads are meant to be trusted",
        )
        self.trust_domain = trust_domain


class UntrustedSvidError(AuthenticationError):
    """No path from the SVID to an authority in the bundle of the trust domain that it names."""

    code = "untrusted_svid"


class BadSignatureError(AuthenticationError):
    """The signature does not verify with the key that the bundle has for it."""

    code = "bad_signature"


class WrongAudienceError(AuthenticationError):
    """The token is for somebody else."""

    code = "wrong_audience"

    def __init__(self, *, expected: str, actual: tuple[str, ...]) -> None:
        # Whoever asked for the token chose its audience: neither its length nor its line breaks reach a log.
        named = ", ".join(ascii(each[:60])[1:-1] for each in actual[:3]) + (", ..." if len(actual) > 3 else "")
        super().__init__(
            f"token is for {named or 'nobody'}, not for {expected}",
            hint="ask the Workload API for a JWT-SVID whose audience is the service that will verify it",
        )
        self.expected = expected
        self.actual = actual


class PeerNotAllowedError(AuthorizationError):
    """The peer proved who it is, and it is not one we talk to."""

    code = "peer_not_allowed"

    def __init__(self, *, expected: str, actual: object) -> None:
        super().__init__(
            f"peer is {actual}, expected {expected}",
            hint="check the address dialled, and the identity expected there",
        )
        self.expected = expected
        self.actual = actual
