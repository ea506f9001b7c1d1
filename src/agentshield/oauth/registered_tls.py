"""TLS for `tls_client_auth`: clients show certificates of authorities that they are registered with (RFC 8705, 2.1).

The handshake proves that the client has the key, and lets in whoever any registered authority vouches for. Which
authority and which name, `client_auth.tls_client_auth` checks at each request, against the registration of that moment:
so an authority whose client is deleted may stay in this context, and opens nothing.
"""

import asyncio
import ssl
from typing import Any, Final, Self

from agentshield.identity.bundle import BundleSet
from agentshield.identity.x509_svid import X509Svid
from agentshield.oauth.model import ClientAuthMethod
from agentshield.oauth.store import ClientStore
from agentshield.sdk.key_file import load_svid

LOOK_INTERVAL: Final = 2.0  # seconds until a client that was registered can connect


class RegisteredAuthorities(ssl.SSLContext):
    """An `ssl.SSLContext` for a server that shows our SVID and asks for a certificate of a registered authority."""

    def __new__(cls) -> Self:
        """Make it; nobody can connect before `update` and `look`."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self) -> None:
        self.verify_mode = ssl.CERT_REQUIRED
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        # What is registered may be an intermediate, and need not be as RFC 5280 has it to the last extension.
        self.verify_flags = (self.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
        self.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        self.num_tickets = 0  # a resumed session would bring no certificate
        self._known: set[bytes] = set()

    def __call__(self, *_: Any) -> Self:
        """Return self: uvicorn wants a function that makes the context."""
        return self

    def update(self, svid: X509Svid, bundles: BundleSet) -> None:  # noqa: ARG002  clients here have no SVIDs
        """Show `svid` from the next handshake on."""
        load_svid(self, svid)

    async def look(self, clients: ClientStore) -> None:
        """Let in whom the authorities vouch for that are registered by now. Raises: UnavailableError."""
        for client in await clients.all():
            authority = client.tls_ca
            if ClientAuthMethod.TLS_CLIENT_AUTH in client.methods and authority and authority not in self._known:
                self.load_verify_locations(cadata=authority)
                self._known.add(authority)

    async def follow(self, clients: ClientStore) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look(clients)
            await asyncio.sleep(LOOK_INTERVAL)
