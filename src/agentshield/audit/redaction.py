"""What may enter an event's text: bounded, without control characters, without credentials.

Credentials have no place in an event by design: members are allow-listed, and a token, key or certificate is named by
its fingerprint. This is the second line, for text that others wrote: an error's message, a reason.
"""

import re
from hashlib import sha256
from typing import Final
from unicodedata import category

MAX_TEXT: Final = 256
MAX_NAME: Final = 2048  # a SPIFFE ID, SPIFFE-ID 2.3

# Control characters; what reorders, joins or hides text; surrogates without their half; line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode general categories
_SECRET: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY.*"  # PEM, and whatever follows it
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # a JWS or JWE in compact form
    r"|\b(?:bearer|dpop|basic)\s+[\w.~+/=-]{8,}"  # an Authorization header's value
    # Bounded, as everything here that repeats before a mismatch: text like a-a-a-… must not cost us a second.
    r"|\b[\w-]{0,32}(?:secret|password|passwd|token|api[_-]?key)[\"']?\s*[=:]\s*(?:\"[^\"]{4,}\"?|'[^']{4,}'?|[^\s\"',;&]{4,})"
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
    return "".join(f"\\u{ord(c):04x}" if category(c) in _UNSEEN else c for c in text)


def scrubbed(text: str, limit: int = MAX_TEXT) -> str:
    """Return free text fit for an event: as `neutral`, and with what looks like a credential taken out."""
    return neutral(_SECRET.sub(REMOVED, text[: 4 * limit]), limit)


def fingerprint(public: bytes) -> str:
    """Name a certificate, a public key or a signed token without holding it: `sha256:` and 64 hex digits.

    Not for what can be guessed, such as a password: a hash of that is as good as the thing.
    """
    return f"sha256:{sha256(public).hexdigest()}"
