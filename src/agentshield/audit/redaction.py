"""What may enter an event's text: bounded, without control characters, without credentials.

Credentials have no place in an event by design: members are allow-listed, and a token, key or certificate is named by
its fingerprint. This is the second line, for text that others wrote: an error's message, a reason.
"""

import re
from hashlib import sha256
from typing import Final

MAX_TEXT: Final = 256
MAX_NAME: Final = 2048  # a SPIFFE ID, SPIFFE-ID 2.3

# C0, DEL, C1; what reorders or hides text (bidi controls, zero-width, BOM); line separators; lone surrogates.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SECRET: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY.*"  # PEM, and whatever follows it
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # a JWS or JWE in compact form
    r"|\b(?:bearer|dpop|basic)\s+[\w.~+/=-]{8,}"  # an Authorization header's value
    r"|\b[\w-]*(?:secret|password|passwd|token|api[_-]?key)[\"']?\s*[=:]\s*[\"']?[^\s\"',;&]{4,}"
    r"|\b(?:sk|ghp|gho|xox[abps]|AKIA|AIza)[-_]?[A-Za-z0-9_-]{16,}"  # well-known key prefixes
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)",  # user and password in a URL
    re.IGNORECASE | re.DOTALL,
)
REMOVED: Final = "[removed]"


def neutral(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` with unseen characters spelled out as \\uXXXX and cut, visibly, at `limit` characters."""
    if len(text) > limit:  # first: the regular expression shall not run over megabytes of a stranger's text
        text = f"{text[: limit - 12]}…(+{len(text) - limit + 12})"[:limit]
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def scrubbed(text: str, limit: int = MAX_TEXT) -> str:
    """Return free text fit for an event: as `neutral`, and with what looks like a credential taken out."""
    return neutral(_SECRET.sub(REMOVED, text[: 16 * limit]), limit)


def fingerprint(public: bytes) -> str:
    """Name a certificate, a public key or a signed token without holding it: `sha256:` and 64 hex digits.

    Not for what can be guessed, such as a password: a hash of that is as good as the thing.
    """
    return f"sha256:{sha256(public).hexdigest()}"
