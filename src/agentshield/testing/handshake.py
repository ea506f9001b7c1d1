"""A TLS handshake in memory, without sockets: what each side makes of the other's certificate, in a millisecond."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """Both ends of a connection that both sides agreed to."""

    client: ssl.SSLObject
    server: ssl.SSLObject


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, *, session: ssl.SSLSession | None = None
) -> HandshakeResult:
    """Let `client` and `server` shake hands.

    Raises:
        ssl.SSLError: one of them refused; the client is asked first, as it is on the wire.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = HandshakeResult(
        client=client.wrap_bio(to_client, to_server, server_side=False, server_hostname="localhost", session=session),
        server=server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = [ends.client, ends.server]
    for _ in range(8):  # TLS 1.3 needs three flights, TLS 1.2 four
        waiting = [end for end in waiting if not _advance(end)]
        if not waiting:
            return ends
    raise ssl.SSLError(1, "the handshake did not come to an end")


def _advance(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
