"""Who is at the other end of a connection: read from TLS objects, whatever library holds them."""

from typing import Any, Final

from agentshield.identity.verify import VerifiedIdentity

_DER: Final = 2  # _ssl.ENCODING_DER


def peer_chain_der(tls: Any) -> tuple[bytes, ...]:
    """Return the certificates that the peer of an SSLObject or SSLSocket sent, leaf first; empty if it sent none."""
    # Public since 3.13 as `tls.get_unverified_chain()`, which in 3.13.0 fails where the peer sent none: [None] again.
    chain = tls._sslobj.get_unverified_chain()  # noqa: SLF001
    return tuple(each.public_bytes(_DER) for each in chain or () if each is not None)


def peer_of(connection: Any) -> VerifiedIdentity | None:
    """Return the verified peer of a connection made with a `SpiffeContext`, or None if the peer is anonymous.

    `connection` is an SSLObject, an SSLSocket, or anything that has `get_extra_info`, as transports and streams do.
    """
    get_extra_info = getattr(connection, "get_extra_info", None)
    # httpcore's blocking streams give OpenSSL's bare object as `ssl_object`, and ours as `socket`.
    places = [connection] if get_extra_info is None else [get_extra_info("ssl_object"), get_extra_info("socket")]
    found = (getattr(place, "spiffe_peer", None) for place in places)
    return next((peer for peer in found if isinstance(peer, VerifiedIdentity)), None)
