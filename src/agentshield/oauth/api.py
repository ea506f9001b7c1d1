"""The authorization server over HTTP, as one ASGI application: read, hand on, write. Decisions are the service's."""

import logging
import ssl
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs
from uuid import uuid4

from agentshield.clock import Clock
from agentshield.errors import UnavailableError
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.verify import VerifiedIdentity
from agentshield.oauth.api_answer import (
    JSON,
    Answer,
    Headers,
    Send,
    failed,
    json_answer,
    not_allowed,
    refusal,
    unavailable,
)
from agentshield.oauth.authorize.parts import PushedResponse
from agentshield.oauth.authorize.web import PAGE_METHODS
from agentshield.oauth.backchannel.parts import BackchannelResponse
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.form import ClientGoneError, FormError, Receive, WatchedBody, read_form
from agentshield.oauth.metadata import WELL_KNOWN
from agentshield.oauth.model import Revocation
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.settings import BACKCHANNEL_PATH, PAR_PATH, OAuthSettings
from agentshield.sdk.asgi import PEER

LEASE_SECONDS: Final = 5  # how long a resource server may go on without having heard from us
LONGEST_WAIT: Final = 25.0  # seconds a question about revocations may stay open
MAX_HEADER: Final = 32 * 1024  # bytes of one header: a proof, an assertion or a certificate

Scope = MutableMapping[str, Any]

_log = logging.getLogger("agentshield.oauth.api")


class Service(Protocol):
    """What the endpoints hand on to."""

    async def token(self, request: OAuthRequest) -> TokenResponse:
        """Grant a token, or raise OAuthError."""
        ...

    async def backchannel(self, request: OAuthRequest) -> BackchannelResponse:
        """Put a question before a human, or raise OAuthError."""
        ...

    async def push(self, request: OAuthRequest) -> PushedResponse:
        """Take an authorization request in, or raise OAuthError."""
        ...

    async def introspect(self, request: OAuthRequest) -> Mapping[str, Any]:
        """Answer an introspection, or raise OAuthError."""
        ...

    async def revoke(self, request: OAuthRequest) -> None:
        """Revoke a token, or raise OAuthError."""
        ...

    def jwks(self) -> bytes:
        """Return the key set as it is published."""
        ...


class Watch(Protocol):
    """Where news of revocations come from."""

    async def after(self, epoch: int, *, wait: float) -> tuple[int, tuple[Revocation, ...]]:
        """Return the newest epoch and what was revoked since `epoch`, waiting for news if there is none."""
        ...


class Pages(Protocol):
    """What browsers are answered by, where humans can delegate."""

    async def answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        """Answer a browser, whatever it came with."""
        ...


class OAuthApp:
    """The endpoints. Whatever a client sends, it is answered by the RFC's code and nothing of our insides.

    `origin` is where they are reached, unless that is the issuer: what DPoP proofs name (RFC 9449, 4.2).
    """

    def __init__(
        self,
        service: Service,
        watch: Watch,
        *,
        settings: OAuthSettings,
        document: bytes,
        nonces: DpopNonces,
        clock: Clock,
        origin: str | None = None,
        pages: Pages | None = None,
    ) -> None:
        self._service = service
        self._watch = watch
        self._settings = settings
        self._document = document
        self._nonces = nonces
        self._clock = clock
        self._origin = origin or settings.issuer
        self._pages = pages
        self._posts = {
            "/oauth/token": self._token,
            PAR_PATH: self._push,
            BACKCHANNEL_PATH: self._backchannel,
            "/oauth/introspect": self._introspect,
            "/oauth/revoke": self._revoke,
        }
        self._gets = {"/oauth/jwks": self._jwks, "/oauth/revocations": self._revocations}
        self._gets |= dict.fromkeys(WELL_KNOWN, self._metadata)

    @property
    def paths(self) -> frozenset[str]:
        """Every path that is served."""
        return frozenset(self._posts) | frozenset(self._gets) | frozenset(PAGE_METHODS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        body, request_id = WatchedBody(scope["headers"], receive), str(uuid4())
        try:
            answer = await self._answer(scope, body, request_id)
        except ClientGoneError:
            return
        except OAuthError as error:
            answer = self._refusal(error, scope["headers"])
        except UnavailableError as error:
            _log.warning("request %s: %s", request_id, error)
            answer = unavailable(error)
        except Exception:
            _log.exception("request %s failed", request_id)
            answer = failed(request_id)
        await answer.send(send, method=scope["method"], is_last=body.is_open)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        path, method = scope["path"], scope["method"]
        if path in self._posts:
            if method != "POST":
                return not_allowed("POST")
            return await self._posts[path](await self._request(scope, receive, request_id))
        if path in self._gets:
            return await self._gets[path](scope) if method in ("GET", "HEAD") else not_allowed("GET", "HEAD")
        if path in PAGE_METHODS and self._pages is not None:
            return await self._pages.answer(scope, receive, request_id)
        return Answer(status=404)

    async def _request(self, scope: Scope, receive: Receive, request_id: str) -> OAuthRequest:
        headers: Headers = scope["headers"]
        if any(len(value) > MAX_HEADER for _, value in headers):
            raise FormError(f"a header field is over {MAX_HEADER} bytes", status=431)
        authorization = _values(headers, b"authorization")
        if len(authorization) > 1:
            raise OAuthError(OAuthErrorCode.INVALID_REQUEST, "Authorization is sent twice", rule="RFC 6749 2.3")
        peer = scope.get(PEER)
        identity = peer if isinstance(peer, VerifiedIdentity) else None
        return OAuthRequest(
            method="POST",
            url=self._origin + scope["path"],
            form=await read_form(headers, scope["query_string"], receive),
            authorization=authorization[0] if authorization else None,
            dpop=_values(headers, b"dpop"),
            client_attestation=_values(headers, b"oauth-client-attestation"),
            client_attestation_pop=_values(headers, b"oauth-client-attestation-pop"),
            peer=identity,
            certificate=_certificate(scope),
            request_id=request_id,
            remote=(scope.get("client") or ("",))[0],
        )

    async def _token(self, request: OAuthRequest) -> Answer:
        granted = await self._service.token(request)
        return json_answer(_token_members(granted), *self._next_nonce(granted.dpop_nonce))

    async def _push(self, request: OAuthRequest) -> Answer:
        pushed = await self._service.push(request)
        members = {"request_uri": pushed.request_uri, "expires_in": pushed.expires_in}
        return json_answer(members, *self._next_nonce(), status=201)

    async def _backchannel(self, request: OAuthRequest) -> Answer:
        asked = await self._service.backchannel(request)
        members = {"auth_req_id": asked.auth_req_id, "expires_in": asked.expires_in, "interval": asked.interval}
        return json_answer(members, *self._next_nonce())

    def _next_nonce(self, given: str | None = None) -> Headers:
        nonce = self._nonces.issue(self._clock()) if self._settings.dpop_nonce_required else given
        return () if nonce is None else ((b"dpop-nonce", nonce.encode()),)

    async def _introspect(self, request: OAuthRequest) -> Answer:
        return json_answer(await self._service.introspect(request))

    async def _revoke(self, request: OAuthRequest) -> Answer:
        await self._service.revoke(request)
        return json_answer({})

    async def _jwks(self, _: Scope) -> Answer:
        age = f"public, max-age={int(self._settings.jwks_cache.total_seconds())}"
        headers = ((b"content-type", b"application/jwk-set+json"), (b"cache-control", age.encode()))
        return Answer(status=200, body=self._service.jwks(), headers=headers)

    async def _metadata(self, _: Scope) -> Answer:
        return Answer(status=200, body=self._document, headers=(JSON, (b"cache-control", b"public, max-age=300")))

    async def _revocations(self, scope: Scope) -> Answer:
        """Which tokens are revoked, for agents that prove themselves by mTLS: others have nothing to check."""
        if not isinstance(scope.get(PEER), VerifiedIdentity):
            return json_answer({"error": OAuthErrorCode.INVALID_CLIENT.value}, status=401)
        try:
            after, wait = _feed_place(scope["query_string"])
        except ValueError:
            return json_answer({"error": OAuthErrorCode.INVALID_REQUEST.value}, status=400)
        epoch, revoked = await self._watch.after(after, wait=wait)
        return json_answer(
            {
                "epoch": epoch,
                "lease_seconds": LEASE_SECONDS,
                "revoked": [{"jti": each.jti, "exp": int(each.expires_at.timestamp())} for each in revoked],
            }
        )

    def _refusal(self, error: OAuthError, asked: Headers) -> Answer:
        is_challenged = bool(_values(asked, b"authorization"))
        if error.error is not OAuthErrorCode.USE_DPOP_NONCE:
            return refusal(error, is_challenged=is_challenged)
        nonce = self._nonces.issue(self._clock()).encode()  # RFC 9449, 8: the demand brings what it asks for
        return refusal(error, (b"dpop-nonce", nonce), is_challenged=is_challenged)


def _token_members(granted: TokenResponse) -> dict[str, Any]:
    members = {
        "access_token": granted.access_token,
        "token_type": granted.token_type,
        "expires_in": granted.expires_in,
        "scope": granted.scope,
        "issued_token_type": granted.issued_token_type,
        "refresh_token": granted.refresh_token,
        "authorization_details": list(granted.authorization_details) or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _certificate(scope: Scope) -> bytes | None:
    """Return the certificate of the connection (ASGI TLS extension), which the handshake has seen the key of."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
    return ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None


def _feed_place(query: bytes) -> tuple[int, float]:
    asked = parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=4)
    if any(len(values) > 1 for values in asked.values()):
        raise ValueError("given twice")
    after, wait = int(asked.get("after", ["0"])[0]), float(asked.get("wait", ["0"])[0])
    if not 0 <= after < 2**63 or not 0 <= wait <= LONGEST_WAIT:
        raise ValueError("out of range")
    return after, wait


def _values(headers: Headers, name: bytes) -> tuple[str, ...]:
    return tuple(value.decode("latin-1") for key, value in headers if key == name)
