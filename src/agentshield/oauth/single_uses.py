"""Identifiers good for one use: how they are compared, and how long a claim is kept."""

import hashlib
from datetime import datetime

from agentshield.oauth.errors import AlreadyUsedError
from agentshield.oauth.model import SingleUse
from agentshield.oauth.settings import MAX_CLOCK_SKEW


def digest_of(use: SingleUse) -> bytes:
    """Return SHA-256 over kind, scope and value: of one length, whatever was sent, and no secret (a code) in the rows.

    The lengths keep ("a", "bc") and ("ab", "c") apart.
    """
    text = f"{len(use.kind)}:{use.kind}{len(use.scope)}:{use.scope}{use.value}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def kept_until(use: SingleUse) -> datetime:
    """Return when the claim may be forgotten: the skew that is forgiven an expired proof must not make it new again."""
    return use.expires_at + MAX_CLOCK_SKEW


def digests_of(uses: tuple[SingleUse, ...], *, at: datetime) -> dict[bytes, SingleUse]:
    """Return the uses by digest.

    Raises:
        AlreadyUsedError: one stands there twice, or ended so long ago that nobody would remember its first use.
    """
    by_digest: dict[bytes, SingleUse] = {}
    for use in uses:
        digest = digest_of(use)
        if digest in by_digest or kept_until(use) <= at:
            raise AlreadyUsedError(use.kind)
        by_digest[digest] = use
    return by_digest
