"""SPIFFE IDs and trust domains: parsed once, compared as values (SPIFFE-ID 2).

We accept lower case only. SPIFFE-ID 2.1 lets a reader fold the case of scheme and trust domain; two spellings of one
name invite a check that compares text, so the second spelling is refused instead.
"""

import re
from dataclasses import dataclass
from typing import Self

from agentshield.identity.errors import InvalidSpiffeIdError

MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID 2.1
MAX_SPIFFE_ID_BYTES = 2048  # SPIFFE-ID 2.3

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of a trust domain, such as `example.org`.

    Raises:
        InvalidSpiffeIdError: the name is empty, too long or has characters that SPIFFE-ID 2.1 does not allow.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidSpiffeIdError("trust domain is empty")
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise InvalidSpiffeIdError(
                f"trust domain {_shown(self.name)} may hold only a-z, 0-9, '.', '-' and '_'",
                hint="SPIFFE trust domains are lower case, without port or percent-encoding",
            )
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:  # ASCII by now, so characters are bytes
            raise InvalidSpiffeIdError(
                f"trust domain has {len(self.name)} bytes, at most {MAX_TRUST_DOMAIN_BYTES} are allowed"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `example.org` or `spiffe://example.org`.

        Raises:
            InvalidSpiffeIdError: `text` is neither.
        """
        return cls(text.removeprefix(_SCHEME))

    @property
    def id_string(self) -> str:
        """The trust domain as a SPIFFE ID without a path, `spiffe://example.org`."""
        return _SCHEME + self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """The name of a workload, or of a trust domain when `path` is empty.

    Raises:
        InvalidSpiffeIdError: the path breaks SPIFFE-ID 2.2, or the whole is over 2,048 bytes (2.3).
    """

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        _check_path(self.path)
        size = len(_SCHEME) + len(self.trust_domain.name) + len(self.path)
        if size > MAX_SPIFFE_ID_BYTES:
            raise InvalidSpiffeIdError(f"SPIFFE ID has {size} bytes, at most {MAX_SPIFFE_ID_BYTES} are allowed")

    @classmethod
    def of(cls, trust_domain: TrustDomain, path: str) -> Self:
        """Name the workload at `path`, such as `/agents/planner`, in `trust_domain`.

        Raises:
            InvalidSpiffeIdError: the path is not one.
        """
        return cls(trust_domain, path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spiffe://example.org/agents/planner`.

        Raises:
            InvalidSpiffeIdError: `text` is not a SPIFFE ID in its one canonical spelling.
        """
        if len(text) > MAX_SPIFFE_ID_BYTES:  # before any other work on attacker-chosen text
            raise InvalidSpiffeIdError(f"SPIFFE ID has {len(text)} bytes, at most {MAX_SPIFFE_ID_BYTES} are allowed")
        if not text.startswith(_SCHEME):
            raise InvalidSpiffeIdError(
                f"SPIFFE ID {_shown(text)} does not start with {_SCHEME!r}",
                hint="a SPIFFE ID looks like spiffe://example.org/agents/planner",
            )
        name, slash, rest = text.removeprefix(_SCHEME).partition("/")
        return cls(TrustDomain(name), slash + rest)

    def member_of(self, trust_domain: TrustDomain) -> bool:
        """Tell whether this ID is in `trust_domain`."""
        return self.trust_domain == trust_domain

    @property
    def is_workload(self) -> bool:
        """Whether the ID has a path, as every leaf SVID's must (X509-SVID 5.2)."""
        return self.path != ""

    def __str__(self) -> str:
        return self.trust_domain.id_string + self.path


def _check_path(path: str) -> None:
    """SPIFFE-ID 2.2: segments of unreserved characters, none empty, none relative, no slash at the end."""
    if not path:
        return
    if not path.startswith("/"):
        raise InvalidSpiffeIdError(f"SPIFFE ID path {_shown(path)} does not start with '/'")
    for segment in path[1:].split("/"):
        if segment == "":
            raise InvalidSpiffeIdError(f"SPIFFE ID path {_shown(path)} has an empty segment or a trailing '/'")
        if segment in (".", ".."):
            raise InvalidSpiffeIdError(f"SPIFFE ID path {_shown(path)} has the relative segment {segment!r}")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidSpiffeIdError(
                f"SPIFFE ID path segment {_shown(segment)} may hold only a-z, A-Z, 0-9, '.', '-' and '_'"
            )


def _shown(text: str) -> str:
    """Quote text from outside, so that neither its length nor its control characters spoil the message."""
    return ascii(text) if len(text) <= 80 else ascii(text[:77]) + "..."
