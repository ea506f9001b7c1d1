"""How long things live, whose domain this is: checked once, here, and frozen."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from agentshield.errors import ConfigurationError
from agentshield.identity.keys import KeyType
from agentshield.identity.spiffe_id import TrustDomain

# The next authority takes over when one sixth of the current one's life is left (as in SPIRE): what it signed until
# then must have ended when it ends.
CA_SHARE: Final = 6
_REPLICA = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """What an operator may choose about the authority.

    Raises:
        ConfigurationError: a lifetime that is not positive, or an SVID lifetime beyond a sixth of `ca_ttl`.
    """

    trust_domain: TrustDomain
    x509_svid_ttl: timedelta = timedelta(hours=1)
    jwt_svid_ttl: timedelta = timedelta(minutes=5)
    wit_svid_ttl: timedelta = timedelta(hours=1)
    node_svid_ttl: timedelta = timedelta(hours=1)
    ca_ttl: timedelta = timedelta(hours=24)
    ca_key_type: KeyType = KeyType.EC_P256
    jwt_key_type: KeyType = KeyType.EC_P256
    jwt_issuer: str | None = None
    replica: str = "local"
    join_token_ttl: timedelta = timedelta(minutes=10)
    enforcement_lease: timedelta = timedelta(minutes=5)
    bundle_refresh_hint: timedelta = timedelta(minutes=5)
    look_interval: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        for name in (
            "x509_svid_ttl",
            "jwt_svid_ttl",
            "wit_svid_ttl",
            "node_svid_ttl",
            "ca_ttl",
            "join_token_ttl",
            "enforcement_lease",
            "bundle_refresh_hint",
            "look_interval",
        ):
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"{name} is {getattr(self, name)}, expected a positive duration")
        for name in ("x509_svid_ttl", "jwt_svid_ttl", "wit_svid_ttl", "node_svid_ttl"):
            if getattr(self, name) > self.longest_svid_ttl:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}, at most a sixth of ca_ttl ({self.longest_svid_ttl}) is allowed",
                    hint=f"raise ca_ttl to {getattr(self, name) * CA_SHARE}, or lower {name}",
                )
        if not _REPLICA.fullmatch(self.replica):
            raise ConfigurationError(
                f"replica is {self.replica[:64]!a}, expected 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
            )

    @property
    def longest_svid_ttl(self) -> timedelta:
        """How long an SVID may live at most, whatever its entry says, so that it ends before its authority."""
        return self.ca_ttl / CA_SHARE
