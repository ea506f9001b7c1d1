"""The one shield of a server process that was told who it is by its environment only: `uvicorn app:app`.

The server's protocol and the application's middleware are made apart and know nothing of each other; here they meet.
One shield per event loop, opened when first asked for. Code that makes its own `Shield` never comes here.
"""

import asyncio
import weakref
from typing import Final

from agentshield.sdk.shield import Shield
from agentshield.sdk.tls import ClientCertificates, SpiffeContext


class _Shared:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.shield: Shield | None = None
        self.tls: SpiffeContext | None = None
        self.client_certificates = ClientCertificates.REQUIRED


_BY_LOOP: Final["weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared]"] = weakref.WeakKeyDictionary()


def _shared() -> _Shared:
    return _BY_LOOP.setdefault(asyncio.get_running_loop(), _Shared())


async def open_shared_shield(
    client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
) -> Shield:
    """Return this process's shield, opened from the environment; OPTIONAL certificates if anybody asks for that.

    Raises:
        ConfigurationError: the environment names no source of identity.
        UnavailableError: there is no identity for us, or not in time.
    """
    shared = _shared()
    if client_certificates is ClientCertificates.OPTIONAL:
        shared.client_certificates = client_certificates
    async with shared.lock:
        if shared.shield is None:
            shared.shield = await Shield.from_env().__aenter__()
        return shared.shield


async def shared_server_tls() -> SpiffeContext:
    """Return the TLS context that every connection of this process is served with.

    Raises:
        AgentShieldError: as `open_shared_shield`.
    """
    shared = _shared()
    if shared.tls is None:
        shield = await open_shared_shield()
        shared.tls = shield.server_tls(client_certificates=shared.client_certificates)
    return shared.tls


async def close_shared_shield() -> None:
    """Close it, as the server shuts down."""
    shared = _BY_LOOP.pop(asyncio.get_running_loop(), None)
    if shared is not None and shared.shield is not None:
        await shared.shield.__aexit__(None, None, None)
