"""What a protected resource says of itself: its metadata (RFC 9728), and the challenge that goes with a refusal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.errors import AgentShieldError, ConfigurationError
from agentshield.identity.dpop import ALGORITHMS as DPOP_ALGORITHMS
from agentshield.sdk.clients.oauth import checked_issuer, well_known
from agentshield.sdk.token_errors import InsufficientScopeError, TokenRefusedError

METADATA: Final = "oauth-protected-resource"
_ALGORITHMS: Final = " ".join(sorted(DPOP_ALGORITHMS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedResource:
    """A resource by its audience. `base_url` is where callers reach it; it comes from configuration, never from `Host`.

    Behind a proxy that strips a path prefix, `base_url` has that prefix.

    Raises:
        ConfigurationError: no base_url can be told from the audience, or one of them is no https URL.
    """

    audience: str
    issuer: str
    base_url: str = ""
    scopes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.audience:
            raise ConfigurationError("audience is empty; it is the name under which tokens are meant for this resource")
        checked_issuer(self.issuer)
        if not self.base_url:
            object.__setattr__(self, "base_url", _origin(self.audience))
        parts = urlsplit(self.base_url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
            raise ConfigurationError(
                f"base_url is {self.base_url[:200]!a}, expected https://HOST[:PORT][/PREFIX]",
                hint="DPoP proofs name the address that callers use; it is needed where the audience is no https URL",
            )

    @property
    def metadata_url(self) -> str | None:
        """Where its metadata is; None for an audience that is no URL, which RFC 9728 does not know."""
        return well_known(self.audience, METADATA) if self.audience.startswith("https://") else None

    @property
    def metadata_path(self) -> str | None:
        """The same, as a path of this application."""
        return urlsplit(self.metadata_url).path if self.metadata_url is not None else None

    def metadata(self) -> bytes:
        """Write the document (RFC 9728, 2)."""
        document: dict[str, Any] = {
            "resource": self.audience,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": sorted(DPOP_ALGORITHMS),
            "tls_client_certificate_bound_access_tokens": True,
        }
        if self.scopes:
            document["scopes_supported"] = sorted(self.scopes)
        return json.dumps(document).encode()

    def url_of(self, scope: Mapping[str, Any]) -> str:
        """Tell the address that a request was sent to, as its sender wrote it, without the query."""
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        return self.base_url.rstrip("/") + raw_path.partition(b"?")[0].decode("ascii", "replace")

    def challenge(self, refusal: AgentShieldError) -> str | None:
        """Write `WWW-Authenticate` (RFC 6750, 3; RFC 9449, 7.1; RFC 9728, 5.1), for both ways to present a token."""
        if not isinstance(refusal, TokenRefusedError | InsufficientScopeError):
            return None
        parameters = {} if refusal.error is None else {"error": refusal.error}
        if isinstance(refusal, InsufficientScopeError):
            parameters["scope"] = " ".join(sorted(refusal.scopes))
        if self.metadata_url is not None:
            parameters["resource_metadata"] = self.metadata_url
        dpop = _challenge("DPoP", {**parameters, "algs": _ALGORITHMS})
        if refusal.error == "invalid_dpop_proof":  # an error of that scheme alone
            return dpop
        return f"{dpop}, {_challenge('Bearer', parameters or {'realm': self.audience})}"


def _challenge(scheme: str, parameters: Mapping[str, str]) -> str:
    """Values are quoted strings of ours: scope tokens, URLs and error names have neither quote nor backslash."""
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
