"""Fetching and watching SVIDs for the command line."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.app.cli.shapes import IDENTITY
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.app.svid_resources import jwt_json, wit_json, x509_json
from agentshield.identity.jwk import private_jwk_of
from agentshield.identity.jwt_svid import JwtSvid
from agentshield.identity.keys import private_key_to_pem
from agentshield.identity.wit_svid import WitSvid
from agentshield.sdk.sources import X509Source


async def fetch_x509(invocation: Invocation, agent: str | None, out: Path | None) -> dict[str, Any]:
    """Fetch the X509-SVID and describe it; write it to files if asked."""
    async with shield_as(invocation, agent) as me:
        if out is not None:
            _write_files(me.source, out)
        return x509_json(me.source.svid)


async def fetch_jwt(
    invocation: Invocation, agent: str | None, audience: tuple[str, ...]
) -> tuple[JwtSvid, dict[str, Any]]:
    """Fetch a JWT-SVID and describe it."""
    async with shield_as(invocation, agent) as me:
        svid = await me.fetch_jwt_svid(audience)
        return svid, jwt_json(svid)


async def fetch_wit(invocation: Invocation, agent: str | None, out: Path | None) -> dict[str, Any]:
    """Fetch the WIT-SVID and describe it; write it and its key to files if asked."""
    async with shield_as(invocation, agent) as me:
        svid = await me.fetch_wit_svid()
    if out is not None:
        _write_wit(svid, out)
    return wit_json(svid)


async def watch_x509(invocation: Invocation, agent: str | None) -> None:
    """Print the X509-SVID at each rotation, until interrupted."""
    async with shield_as(invocation, agent) as me:
        changed = asyncio.Event()
        me.source.subscribe(lambda _: changed.set())
        while True:
            invocation.output.stream(IDENTITY, [x509_json(me.source.svid)])
            await changed.wait()
            changed.clear()


def _write_files(source: X509Source, directory: Path) -> None:
    """Write what programs that read files want; each appears whole, the key for its owner only."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    svid = source.svid
    bundle = source.bundle_for(svid.spiffe_id.trust_domain)
    roots = b"".join(authority.certificate.public_bytes(Encoding.PEM) for authority in bundle.x509_authorities)
    _write(directory / "key.pem", private_key_to_pem(svid.private_key), mode=0o600)
    _write(directory / "svid.pem", svid.chain_pem(), mode=0o644)
    _write(directory / "bundle.pem", roots, mode=0o644)


def _write_wit(svid: WitSvid, directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(directory / "wit-key.jwk", json.dumps(private_jwk_of(svid.private_key)).encode(), mode=0o600)
    _write(directory / "wit.jwt", svid.token.encode(), mode=0o644)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        file.write(content)
    temporary.replace(path)
