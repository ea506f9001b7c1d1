"""What the node keeps on disk: its own SVID and its trust domain's bundle, so that a restart needs no new join token.

One file of one generation: key, certificate and bundle are read together or not at all. Workloads' keys are never here.
"""

import base64
import binascii
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentshield.errors import ConfigurationError, InvalidInputError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.identity.x509_svid import X509Svid

log = logging.getLogger(__name__)

_FILE: Final = "node.json"
_FORMAT: Final = 1
_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """The node's own SVID and what it verifies the authority with."""

    svid: X509Svid
    bundle: TrustBundle


class NodeStorage:
    """One directory of the node's own."""

    def __init__(self, directory: Path, trust_domain: TrustDomain) -> None:
        self._directory = directory
        self._trust_domain = trust_domain

    def load(self) -> StoredNode | None:
        """Return what was saved last; None when there is nothing, or nothing usable.

        Raises:
            ConfigurationError: others may read the file, so that the key in it is no longer ours alone.
        """
        path = self._directory / _FILE
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigurationError(
                    f"{path} may be read by others, and it holds the node agent's private key",
                    hint="evict the node, delete the file and attest anew with a join token",
                )
            return self._parsed(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, binascii.Error, InvalidInputError) as error:
            log.warning("%s is not usable (%s); the node attests anew", path, type(error).__name__)
            return None

    def save(self, node: StoredNode) -> None:
        """Write so that a crash at any moment leaves the old file or the new one whole.

        Raises:
            OSError: the disk does not take it.
        """
        self._directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        members = {
            "format": _FORMAT,
            "svid": base64.b64encode(node.svid.chain_der()).decode(),
            "key": base64.b64encode(node.svid.key_pkcs8()).decode(),
            "bundle": json.loads(node.bundle.to_json()),
        }
        draft = self._directory / f".{_FILE}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123  (it is a descriptor)
                file.write(json.dumps(members).encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._directory / _FILE)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def forget(self) -> None:
        """Delete what was saved: the authority does not know this node any more."""
        (self._directory / _FILE).unlink(missing_ok=True)

    def _parsed(self, members: dict[str, object]) -> StoredNode:
        if members["format"] != _FORMAT:
            raise ValueError("another format")
        chain, key = (base64.b64decode(str(members[name]), validate=True) for name in ("svid", "key"))
        bundle = TrustBundle.from_json(self._trust_domain, json.dumps(members["bundle"]).encode())
        svid = X509Svid.parse(chain, key)
        if not svid.spiffe_id.member_of(self._trust_domain):
            raise ValueError("another trust domain")
        return StoredNode(svid=svid, bundle=bundle)
