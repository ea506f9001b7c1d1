"""The demo's attacker: a process with a certificate of the right name, signed by an authority of its own.

It believes any server, as attackers do; what is shown is that no honest server believes it.
"""

import json
import socket
import ssl
import sys
from datetime import timedelta

from agentshield.clock import system_clock
from agentshield.identity.issue import X509Issuer
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.key_file import load_svid


def main(port: int, stolen_name: str) -> None:
    """Try to call as `stolen_name`, and tell how far that went."""
    print(json.dumps({"showed": stolen_name, **_attempt(port, _forged(SpiffeId.parse(stolen_name)))}))


def _forged(name: SpiffeId) -> X509Svid:
    now, key = system_clock(), generate_private_key()
    begin, end = now - timedelta(minutes=1), now + timedelta(hours=1)
    authority = X509Issuer.self_signed(name.trust_domain, not_before=begin, not_after=end)
    return X509Svid.of(authority.issue_x509_svid(name, key.public_key(), not_before=begin, not_after=end), key)


def _attempt(port: int, svid: X509Svid) -> dict[str, object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an attacker does not ask who answers
    load_svid(context, svid)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as tcp,
            context.wrap_socket(tcp, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET /portfolio HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = tls.recv(4096)
    except OSError as error:
        return {"answered": False, "error": f"{type(error).__name__}: {error}"}
    return {"answered": bool(answer), "error": None if answer else "connection closed without an answer"}


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
