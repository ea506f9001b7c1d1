"""SVIDs from a directory that somebody else keeps up to date: systemd, Kubernetes' podCertificate, spiffe-helper, us.

The three files change one after the other. So a set is taken only when nothing changed while it was read and the key
is the leaf's; until then the last good set stays in use.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentshield.errors import AgentShieldError, ConfigurationError, UnavailableError
from agentshield.identity.bundle import BundleSet, TrustBundle
from agentshield.identity.keys import private_key_from_pem
from agentshield.identity.x509_svid import X509Svid, load_pem_certificates
from agentshield.sdk.x509_context import Outage, X509Context

POLL_SECONDS: Final = 1.0
FEDERATED_BUNDLES: Final = "bundles.json"  # optional: a SPIFFE bundle map, `{"trust_domains": {…}}`


@dataclass(frozen=True, slots=True)
class FileLayout:
    """The names under which a tool writes chain, key and bundle."""

    chain: str
    key: str
    bundle: str


LAYOUTS: Final = (
    FileLayout("svid.pem", "svid.key", "bundle.pem"),  # ours, also for systemd's LoadCredential=
    FileLayout("svid.pem", "svid_key.pem", "svid_bundle.pem"),  # spiffe-helper
    FileLayout("tls.crt", "tls.key", "ca.crt"),  # cert-manager's csi-driver-spiffe
    FileLayout("credentialbundle.pem", "credentialbundle.pem", "trust-bundle.pem"),  # podCertificate
)

_Fingerprint = tuple[tuple[int, int, int] | None, ...]


async def watch_directory(directory: Path, *, poll: float = POLL_SECONDS) -> AsyncGenerator[X509Context | Outage]:
    """Follow the SVID and bundles in `directory`, looking every `poll` seconds."""
    taken: _Fingerprint | None = None
    while True:
        found = await asyncio.to_thread(_fingerprint, directory)
        if found != taken:
            try:
                context = await asyncio.to_thread(read_directory, directory)
            except AgentShieldError as error:
                yield Outage(error)
            else:
                if await asyncio.to_thread(_fingerprint, directory) == found:
                    taken = found
                    yield context
                    continue  # the consumer may have taken its time
        await asyncio.sleep(poll)


def read_directory(directory: Path) -> X509Context:
    """Read the SVID and bundles in `directory`, in the first layout whose files are all there.

    Raises:
        ConfigurationError: no layout's files are all there.
        UnavailableError: a file vanished or cannot be read.
        InvalidSvidError, InvalidKeyError, InvalidBundleError: a file's content is not what it should be.
    """
    layout = _layout_in(directory)
    try:
        chain, key = (directory / layout.chain).read_bytes(), (directory / layout.key).read_bytes()
        bundle = (directory / layout.bundle).read_bytes()
        federated = directory / FEDERATED_BUNDLES
        bundles = BundleSet.from_json(federated.read_bytes()) if federated.exists() else BundleSet()
    except OSError as error:
        raise UnavailableError(f"SVID files in {directory}: {error.strerror}: {error.filename}") from error
    svid = X509Svid.of(load_pem_certificates(chain), private_key_from_pem(key))
    own = TrustBundle.from_x509_pem(svid.spiffe_id.trust_domain, bundle)
    return X509Context(svids=(svid,), bundles=bundles.with_bundle(own))


def _layout_in(directory: Path) -> FileLayout:
    for layout in LAYOUTS:
        if all((directory / name).exists() for name in (layout.chain, layout.key, layout.bundle)):
            return layout
    wanted = "; ".join(f"{each.chain}, {each.key}, {each.bundle}" for each in LAYOUTS)
    raise ConfigurationError(f"no SVID files in {directory}", hint=f"expected one of these sets: {wanted}")


def _fingerprint(directory: Path) -> _Fingerprint:
    names = sorted({name for each in LAYOUTS for name in (each.chain, each.key, each.bundle)} | {FEDERATED_BUNDLES})
    return tuple(_stamp(directory / name) for name in names)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()  # follows links: Kubernetes swaps `..data`
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
