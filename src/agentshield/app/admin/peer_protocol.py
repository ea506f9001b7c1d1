"""Who is at the other end of the admin socket: the kernel's word, put into the request's scope."""

import socket
from asyncio import Transport
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentshield.node.peer import peer_of

PEER_UID: Final = "agentshield.peer_uid"


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which asks the kernel who connected before the first byte is read."""

    _peer_uid: int | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Read the peer's user id from the socket; without one, every request is refused later."""
        self._peer_uid = _uid_of(transport)
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        """Hand the user id on."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[PEER_UID] = self._peer_uid


def _uid_of(transport: Transport) -> int | None:
    connection = transport.get_extra_info("socket")
    if connection is None:
        return None
    try:
        with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as duplicate:
            peer = peer_of(duplicate)
    except OSError:
        return None
    peer.close()
    return peer.uid
