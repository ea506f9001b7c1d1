"""A mutual TLS handshake with a peer, and what both sides proved in it."""

import asyncio
import ssl
import time
from typing import Any, Final
from urllib.parse import urlsplit

from agentshield.app.failure import failed
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.errors import AgentShieldError, InvalidInputError, UnavailableError
from agentshield.sdk.authorizers import Expected
from agentshield.sdk.http import refusal_in
from agentshield.sdk.peer import peer_of
from agentshield.sdk.tls import SpiffeContext

_VERDICT_SECONDS: Final = 0.25  # TLS 1.3: a server's refusal of our certificate comes after our side is done


async def ping(
    invocation: Invocation, peer: str, agent: str | None, expected: tuple[str, ...], count: int
) -> list[dict[str, Any]]:
    """Shake hands `count` times, and tell about each.

    Raises:
        CommandError: the peer is not who is expected, or does not accept us.
        UnavailableError: nobody is there.
    """
    host, port = _address(peer)
    async with shield_as(invocation, agent) as me:
        expect: Expected = expected or me.spiffe_id.trust_domain
        tls = me.client_tls(expect=expect)
        results = []
        for _ in range(count):
            async with asyncio.timeout(invocation.timeout.total_seconds()):
                shown = await _handshake(tls, host, port)
            results.append(
                {"me": str(me.spiffe_id), "my_svid_expires_at": me.source.svid.not_after.isoformat(), **shown}
            )
        return results


async def _handshake(tls: SpiffeContext, host: str, port: int) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    except ssl.SSLError as error:
        raise _refused_by_us(error) from error
    except OSError as error:
        raise UnavailableError(f"nobody answers at {host}:{port}: {error.strerror or error}") from error
    milliseconds = (time.perf_counter() - began) * 1000
    connection = writer.get_extra_info("ssl_object")
    identity = peer_of(connection)
    assert identity is not None  # the context lets nobody through without one
    try:
        await _wait_for_verdict(reader, f"{host}:{port}")
    finally:
        writer.close()
    return {
        "peer": str(identity.spiffe_id),
        "trust_bundle": str(identity.trust_domain),
        "peer_svid_expires_at": identity.valid_until.isoformat(),
        "tls": connection.version(),
        "milliseconds": round(milliseconds, 1),
    }


async def _wait_for_verdict(reader: asyncio.StreamReader, where: str) -> None:
    """A server that does not accept our certificate closes now; one that does, waits for a request."""
    try:
        async with asyncio.timeout(_VERDICT_SECONDS):
            answer = await reader.read(1)
    except TimeoutError:
        return
    except (OSError, ssl.SSLError):
        answer = b""
    if not answer:
        raise failed(
            f"{where} proved who it is and does not accept our certificate",
            code="refused_by_peer",
            family="not_authorized",
            why="it closed the connection after the handshake",
            next_step="agentshield audit search --event peer.refused",
        )


def _refused_by_us(error: ssl.SSLError) -> AgentShieldError:
    refusal = refusal_in(error)
    what = str(refusal) if refusal is not None else f"the handshake failed: {error.reason or error}"
    code = refusal.code if refusal is not None else "handshake_failed"
    hint = refusal.hint if refusal is not None else "is there an agent, and does it speak TLS?"
    return failed(what, code=code, family="not_authorized", next_step=hint)


def _address(peer: str) -> tuple[str, int]:
    """Read HOST:PORT, or an https URL.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        parts = urlsplit(peer if "://" in peer else f"https://{peer}")
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise InvalidInputError(f"{peer[:200]!a} is not an address: {error}", hint="localhost:8443") from error
    if not host:
        raise InvalidInputError(f"{peer[:200]!a} has no host", hint="localhost:8443")
    return host, port
