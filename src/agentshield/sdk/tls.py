"""TLS by SPIFFE: one `ssl.SSLContext` that always shows the current SVID and believes only the peer's own trust domain.

`SpiffeContext` can be handed to anything that takes an `SSLContext`: asyncio, uvloop, grpclib, uvicorn, httpx, httpx2,
aiohttp, urllib, requests. docs/adr/0009-tls-context.md tells why it is built this way. In short:

- An `SSLContext` in use can gain roots but never lose one. So each rotation builds an inner context and swaps it in.
- OpenSSL holds every root it was given good for every name. So its check is only the first; the decisive one, against
  the bundle of the trust domain that the SVID itself names, runs inside `do_handshake`, before any application byte.
- A resumed session carries no certificate and never expires with it. So there are no tickets and no resumption.
"""

import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Final, Self

from agentshield.clock import Clock, system_clock
from agentshield.errors import AgentShieldError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.errors import InvalidSvidError, SvidExpiredError, UntrustedSvidError
from agentshield.identity.verify import VerifiedIdentity, X509SvidVerifier
from agentshield.identity.x509_svid import X509Svid
from agentshield.sdk.authorizers import require_accepted
from agentshield.sdk.key_file import load_svid
from agentshield.sdk.peer import peer_chain_der, peer_of

__all__ = ["ClientCertificates", "SpiffeContext", "peer_of"]

Authorize = Callable[[VerifiedIdentity], None]
OnRefuse = Callable[[Sequence[bytes], Exception], None]

_UNSPECIFIED: Final = 1  # X509_V_ERR_UNSPECIFIED: OpenSSL has no number for reasons of ours

_log = logging.getLogger("agentshield.sdk.tls")


class ClientCertificates(Enum):
    """What a server does about a client that shows no certificate."""

    REQUIRED = ssl.CERT_REQUIRED
    OPTIONAL = ssl.CERT_OPTIONAL  # the client is anonymous; one that shows a bad certificate is refused all the same


class SpiffeContext(ssl.SSLContext):
    """An `SSLContext` of the current SVID and trust bundles. Make one with `for_client` or `for_server`.

    `update` may be called at any time from any thread: handshakes that begin later use the new material. A handshake
    that fails raises `ssl.SSLCertVerificationError`, whose `__cause__` is the AgentShield error. With TLS 1.3 a client
    learns that the *server* refused it only when it first reads.
    """

    _current: "_Generation | None"
    _verifier: X509SvidVerifier

    def __new__(cls, protocol: int, **_options: Any) -> Self:
        """Make the outer context; it only carries settings, the inner ones do the work."""
        return super().__new__(cls, protocol)

    def __init__(
        self,
        protocol: int,
        *,
        verify_mode: ssl.VerifyMode,
        authorize: Authorize | None,
        alpn: Sequence[str],
        minimum_version: ssl.TLSVersion,
        on_refuse: OnRefuse | None,
        clock: Clock,
    ) -> None:
        if minimum_version < ssl.TLSVersion.TLSv1_2:
            raise ValueError(f"minimum TLS version must be 1.2 or 1.3, not {minimum_version.name}")
        self._current = None
        self._verifier = X509SvidVerifier(BundleSet())
        self._is_server = protocol == ssl.PROTOCOL_TLS_SERVER
        self._lowest_version = minimum_version
        self._alpn = list(alpn)
        self.clock = clock
        self.authorize = authorize
        self.on_refuse = on_refuse
        # Callers such as urllib3 look at these two; the inner contexts get the same.
        self.check_hostname = False  # the name to check is the SPIFFE ID, not the host's
        self.verify_mode = verify_mode
        self.minimum_version = minimum_version

    @classmethod
    def for_client(
        cls,
        *,
        authorize: Authorize,
        alpn: Sequence[str] = (),
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_refuse: OnRefuse | None = None,
        clock: Clock = system_clock,
    ) -> Self:
        """Make a context for dialling. `authorize` raises unless the server is the one we mean to talk to."""
        return cls(
            ssl.PROTOCOL_TLS_CLIENT,
            verify_mode=ssl.CERT_REQUIRED,
            authorize=authorize,
            alpn=alpn,
            minimum_version=minimum_version,
            on_refuse=on_refuse,
            clock=clock,
        )

    @classmethod
    def for_server(
        cls,
        *,
        client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
        authorize: Authorize | None = None,
        alpn: Sequence[str] = (),
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        on_refuse: OnRefuse | None = None,
        clock: Clock = system_clock,
    ) -> Self:
        """Make a context for listening. Without `authorize`, every verified peer passes the handshake.

        Tell `minimum_version=TLSv1_2` only where peers that are not ours must connect.
        """
        return cls(
            ssl.PROTOCOL_TLS_SERVER,
            verify_mode=client_certificates.value,
            authorize=authorize,
            alpn=alpn,
            minimum_version=minimum_version,
            on_refuse=on_refuse,
            clock=clock,
        )

    def __call__(self, *_: Any) -> Self:
        """Return self: uvicorn wants a function that makes the context, and this one needs no making."""
        return self

    def update(self, svid: X509Svid | None, bundles: BundleSet) -> None:
        """Use `svid` and trust `bundles`, and nothing older, from the next handshake on.

        A client may have no SVID yet, as a node agent before it is attested; a server must have one.
        """
        if svid is None and self._is_server:
            raise ValueError("a server cannot do TLS without an SVID")
        generation = _Generation(self, svid, bundles)
        self._verifier = X509SvidVerifier(bundles)
        self._current = generation  # one attribute store: a handshake sees the old or the new, never a mixture

    def withdraw(self) -> None:
        """Forget SVID and bundles: no handshake succeeds until the next `update`."""
        self._current = None
        self._verifier = X509SvidVerifier(BundleSet())

    def verify_again(self, peer: VerifiedIdentity) -> VerifiedIdentity:
        """Verify a connected peer's chain against what we trust now; cheap while nothing has changed.

        Raises:
            AgentShieldError: it has expired, or its authority or trust domain is no longer trusted.
        """
        return self._verifier.verify(peer.chain, at=self.clock())

    @property
    def svid(self) -> X509Svid | None:
        """What we show to peers now."""
        return self._current.svid if self._current is not None else None

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these application protocols; HTTP libraries call this before each connection."""
        self._alpn = list(alpn_protocols)
        if self._current is not None:
            self._current.set_alpn_protocols(self._alpn)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  the signature is ssl.SSLContext's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,  # noqa: ARG002  sessions are never resumed
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`, with the current SVID; `session` is not used."""
        return self._ready().wrap_bio(incoming, outgoing, server_side, server_hostname)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`, with the current SVID; `session` is not used."""
        options.pop("session", None)
        return self._ready().wrap_socket(*args, **options)

    def _ready(self) -> "_Generation":
        """Say what is wrong with ourselves, before a peer says it in fewer words."""
        if self._current is None:
            raise ssl.SSLError(_UNSPECIFIED, "no SVID and no trust bundle yet: has the first update arrived?")
        svid, now = self._current.svid, self.clock()
        if svid is not None and svid.not_after <= now:
            expired = SvidExpiredError(svid.spiffe_id, expired_at=svid.not_after, now=now)
            raise ssl.SSLError(_UNSPECIFIED, f"own {expired}; {expired.hint}") from expired
        return self._current

    def _accept(self, chain: Sequence[bytes], *, is_resumed: bool) -> VerifiedIdentity | None:
        """Decide about a peer whose TLS handshake OpenSSL has just completed."""
        if is_resumed:  # TLS 1.2 has stateful resumption, which no option of `ssl` turns off
            raise UntrustedSvidError("peer resumed a TLS session; each connection must show a valid SVID")
        if not chain:
            if self.verify_mode is ssl.CERT_OPTIONAL:
                return None
            raise InvalidSvidError("peer showed no certificate")
        peer = self._verifier.verify(chain, at=self.clock())
        if self.authorize is not None:
            require_accepted(self.authorize, peer)
        return peer

    def _explain(self, chain: Sequence[bytes], refusal: ssl.SSLCertVerificationError) -> AgentShieldError:
        """Find our own words for OpenSSL's refusal, such as which trust domain is unknown.

        OpenSSL shows the chain of a server that it refused, and keeps that of a client to itself.
        """
        if chain:
            try:
                self._verifier.verify(chain, at=self.clock())
            except AgentShieldError as error:
                return error
        return UntrustedSvidError(f"peer's certificate leads to no authority we trust ({refusal.verify_message})")

    def _refuse(self, chain: Sequence[bytes], error: Exception) -> ssl.SSLCertVerificationError:
        if self.on_refuse is not None:
            try:
                self.on_refuse(chain, error)
            except Exception:  # whatever the hook does, the peer stays refused
                _log.exception("on_refuse failed")
        refusal = ssl.SSLCertVerificationError(_UNSPECIFIED, f"[SPIFFE] {error}")
        refusal.verify_code, refusal.verify_message = _UNSPECIFIED, str(error)
        return refusal


class _Generation(ssl.SSLContext):
    """The TLS settings between two rotations; never changed, only replaced."""

    def __new__(cls, owner: SpiffeContext, *_: Any) -> Self:
        return super().__new__(cls, owner.protocol)

    def __init__(self, owner: SpiffeContext, svid: X509Svid | None, bundles: BundleSet) -> None:
        self.owner = owner
        self.svid = svid
        self.sslobject_class = _SpiffeObject
        self.sslsocket_class = _SpiffeSocket
        self.check_hostname = False
        self.verify_mode = owner.verify_mode
        # Whoever sets the attribute of the context we handed out can raise the floor, never lower it.
        self.minimum_version = max(owner._lowest_version, owner.minimum_version)  # noqa: SLF001
        # An authority may be an intermediate. VERIFY_X509_STRICT stays off: it wants an AKI, which SPIFFE does not.
        self.verify_flags = (self.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
        self.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        if owner._is_server:  # noqa: SLF001  one thing in two classes
            self.num_tickets = 0  # TLS 1.3 counts apart from OP_NO_TICKET
        if svid is not None:
            load_svid(self, svid)
        if roots := b"".join(bundle.x509_der() for bundle in bundles):
            self.load_verify_locations(cadata=roots)
        if owner._alpn:  # noqa: SLF001
            self.set_alpn_protocols(owner._alpn)  # noqa: SLF001


class _Verified:
    """Completes a handshake only with a peer whose SVID we accept, and remembers who it is."""

    spiffe_peer: VerifiedIdentity | None = None
    context: Any
    _is_accepted = False

    def do_handshake(self, *args: Any, **options: Any) -> None:
        owner: SpiffeContext = self.context.owner
        try:
            super().do_handshake(*args, **options)  # type: ignore[misc]
        except ssl.SSLCertVerificationError as refusal:
            chain = peer_chain_der(self)
            error = owner._explain(chain, refusal)  # noqa: SLF001
            raise owner._refuse(chain, error) from error  # noqa: SLF001
        chain = peer_chain_der(self)
        try:
            self.spiffe_peer = owner._accept(chain, is_resumed=bool(self.session_reused))  # type: ignore[attr-defined]  # noqa: SLF001
        except Exception as error:  # also one nobody thought of: not accepted is refused
            raise owner._refuse(chain, error) from error  # noqa: SLF001
        self._is_accepted = True

    def read(self, *args: Any, **options: Any) -> Any:
        """As `ssl` reads, from a peer that was accepted."""
        self._accepted_first()
        return super().read(*args, **options)  # type: ignore[misc]

    def write(self, data: Any) -> int:
        """As `ssl` writes, to a peer that was accepted."""
        self._accepted_first()
        written: int = super().write(data)  # type: ignore[misc]
        return written

    def _accepted_first(self) -> None:
        """OpenSSL does a handshake that was put off when it first reads or writes, and tells nobody: we do it here."""
        if not self._is_accepted:
            self.do_handshake()


class _SpiffeObject(_Verified, ssl.SSLObject):
    pass


class _SpiffeSocket(_Verified, ssl.SSLSocket):
    def send(self, data: Any, flags: int = 0) -> int:
        """The one way of `ssl.SSLSocket` to send that does not pass through `write`; `recv` passes through `read`."""
        self._accepted_first()
        return super().send(data, flags)
