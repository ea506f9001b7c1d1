"""The node agent's settings, checked when they are made."""

import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentshield.errors import ConfigurationError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.node.attestors.unix import ProgramSelectors
from agentshield.node.workloads import UnidentifiedVerifiers

_OWN_DESCRIPTORS: Final = 256  # for everything that is not a connection


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How one node agent runs.

    `socket_mode` lets every user connect: who gets what is decided by attestation, not by the file's permissions.
    `join_token` is used once, on the first start; `trust_bundle` is what the first connection is verified with, later
    ones use what the node has stored in `data_dir`.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    trust_domain: TrustDomain
    socket_path: Path
    data_dir: Path
    authority_host: str = "127.0.0.1"
    authority_port: int = 8081
    join_token: str | None = field(default=None, repr=False)
    trust_bundle: TrustBundle | None = None
    socket_mode: int = 0o777
    program_selectors: ProgramSelectors = ProgramSelectors.OFF
    unidentified_verifiers: UnidentifiedVerifiers = UnidentifiedVerifiers.REFUSED
    max_connections_per_user: int = 4096

    def __post_init__(self) -> None:
        if not self.socket_path.is_absolute():
            raise ConfigurationError(f"socket path {self.socket_path} is relative", hint="give an absolute path")
        if not 0 < self.authority_port < 65536:
            raise ConfigurationError(f"authority port is {self.authority_port}, 1 to 65535 are possible")
        if self.trust_bundle is not None and self.trust_bundle.trust_domain != self.trust_domain:
            raise ConfigurationError(
                f"trust bundle is of {self.trust_bundle.trust_domain}, the node agent is of {self.trust_domain}"
            )


def raise_descriptor_limit() -> int:
    """Ask for as many file descriptors as we may have, and return how many connections that is room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max((min(hard, 1_000_000) - _OWN_DESCRIPTORS) // 2, 16)  # a connection holds its socket and a pidfd
