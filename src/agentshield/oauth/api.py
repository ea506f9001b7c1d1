"""The authorization server over HTTP, as one ASGI application: read, hand on, write. Decisions are the service's."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qs
from uuid import uuid4

from agentshield.clock import Clock
from agentshield.errors import UnavailableError
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.verify import VerifiedIdentity
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.form import ClientGoneError, Receive, read_form
from agentshield.oauth.metadata import WELL_KNOWN
from agentshield.oauth.model import Revocation
from agentshield.oauth.requests import OAuthRequest, TokenResponse
from agentshield.oauth.settings import OAuthSettings
from agentshield.sdk.asgi import PEER

LEASE_SECONDS: Final = 5  # how long a resource server may go on without having heard from us
LONGEST_WAIT: Final = 25.0  # seconds a question about revocations may stay open
MAX_HEADER: Final = 32 * 1024  # bytes of one header: a proof, an assertion or a certificate

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_NO_STORE: Final = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))  # RFC 6749, 5.1
_JSON: Final = (b"content-type", b"application/json")

_log = logging.getLogger("agentshield.oauth.api")


class Service(Protocol):
    """What the endpoints hand on to."""

    async def token(self, request: OAuthRequest) -> TokenResponse:
        """Grant a token, or raise OAuthError."""
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


class OAuthApp:
    """The endpoints. Whatever a client sends, it is answered by the RFC's code and nothing of our insides."""

    def __init__(
        self,
        service: Service,
        watch: Watch,
        *,
        settings: OAuthSettings,
        document: bytes,
        nonces: DpopNonces,
        clock: Clock,
    ) -> None:
        self._service = service
        self._watch = watch
        self._settings = settings
        self._document = document
        self._nonces = nonces
        self._clock = clock
        self._posts = {
            "/oauth/token": self._token,
            "/oauth/introspect": self._introspect,
            "/oauth/revoke": self._revoke,
        }
        self._gets = {"/oauth/jwks": self._jwks, "/oauth/revocations": self._revocations}
        self._gets |= dict.fromkeys(WELL_KNOWN, self._metadata)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        path, method = scope["path"], scope["method"]
        if path in self._posts:
            if method == "POST":
                await self._post(scope, receive, send)
            else:
                await _answer(send, 405, b"", (b"allow", b"POST"))
        elif path in self._gets:
            if method in ("GET", "HEAD"):
                await self._get(scope, send)
            else:
                await _answer(send, 405, b"", (b"allow", b"GET, HEAD"))
        else:
            await _answer(send, 404, b"")

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(uuid4())
        try:
            request = await self._request(scope, receive, request_id)
            body, headers = await self._posts[scope["path"]](request)
            await _answer(send, 200, body, _JSON, *_NO_STORE, *headers)
        except ClientGoneError:
            return
        except OAuthError as error:
            await self._refuse(send, error, scope["headers"])
        except UnavailableError as error:
            _log.warning("request %s: %s", request_id, error)
            await _unavailable(send, error)
        except Exception:
            _log.exception("request %s failed", request_id)
            await _failed(send, request_id)

    async def _get(self, scope: Scope, send: Send) -> None:
        try:
            status, body, headers = await self._gets[scope["path"]](scope)
        except UnavailableError as error:
            await _unavailable(send, error)
        except Exception:
            request_id = str(uuid4())
            _log.exception("request %s failed", request_id)
            await _failed(send, request_id)
        else:
            await _answer(send, status, b"" if scope["method"] == "HEAD" else body, *headers, length=len(body))

    async def _request(self, scope: Scope, receive: Receive, request_id: str) -> OAuthRequest:
        headers: Headers = scope["headers"]
        if any(len(value) > MAX_HEADER for _, value in headers):
            raise OAuthError(OAuthErrorCode.INVALID_REQUEST, "a header is too long", rule="header size")
        authorization = _values(headers, b"authorization")
        if len(authorization) > 1:
            raise OAuthError(OAuthErrorCode.INVALID_REQUEST, "Authorization is sent twice", rule="RFC 6749 2.3")
        peer = scope.get(PEER)
        identity = peer if isinstance(peer, VerifiedIdentity) else None
        return OAuthRequest(
            method="POST",
            url=self._settings.issuer + scope["path"],
            form=await read_form(headers, scope["query_string"], receive),
            authorization=authorization[0] if authorization else None,
            dpop=_values(headers, b"dpop"),
            client_attestation=_values(headers, b"oauth-client-attestation"),
            client_attestation_pop=_values(headers, b"oauth-client-attestation-pop"),
            peer=identity,
            certificate=identity.chain[0] if identity is not None and identity.chain else None,
            request_id=request_id,
            remote=(scope.get("client") or ("",))[0],
        )

    async def _token(self, request: OAuthRequest) -> tuple[bytes, Headers]:
        granted = await self._service.token(request)
        nonce = self._nonces.issue(self._clock()) if self._settings.dpop_nonce_required else granted.dpop_nonce
        return _encoded(_token_members(granted)), () if nonce is None else ((b"dpop-nonce", nonce.encode()),)

    async def _introspect(self, request: OAuthRequest) -> tuple[bytes, Headers]:
        return _encoded(await self._service.introspect(request)), ()

    async def _revoke(self, request: OAuthRequest) -> tuple[bytes, Headers]:
        await self._service.revoke(request)
        return b"{}", ()

    async def _jwks(self, _: Scope) -> tuple[int, bytes, Headers]:
        age = f"public, max-age={int(self._settings.jwks_cache.total_seconds())}"
        return (
            200,
            self._service.jwks(),
            ((b"content-type", b"application/jwk-set+json"), (b"cache-control", age.encode())),
        )

    async def _metadata(self, _: Scope) -> tuple[int, bytes, Headers]:
        return 200, self._document, (_JSON, (b"cache-control", b"public, max-age=300"))

    async def _revocations(self, scope: Scope) -> tuple[int, bytes, Headers]:
        """Which tokens are revoked, for agents that prove themselves by mTLS: others have nothing to check."""
        if not isinstance(scope.get(PEER), VerifiedIdentity):
            return 401, _encoded({"error": OAuthErrorCode.INVALID_CLIENT}), (_JSON, *_NO_STORE)
        try:
            after, wait = _feed_place(scope["query_string"])
        except ValueError:
            return 400, _encoded({"error": OAuthErrorCode.INVALID_REQUEST}), (_JSON, *_NO_STORE)
        epoch, revoked = await self._watch.after(after, wait=wait)
        page = {
            "epoch": epoch,
            "lease_seconds": LEASE_SECONDS,
            "revoked": [{"jti": each.jti, "exp": int(each.expires_at.timestamp())} for each in revoked],
        }
        return 200, _encoded(page), (_JSON, *_NO_STORE)

    async def _refuse(self, send: Send, error: OAuthError, asked: Headers) -> None:
        headers = [_JSON, *_NO_STORE]
        if error.status == 401 and _values(asked, b"authorization"):  # RFC 6749, 5.2
            headers.append((b"www-authenticate", b'Basic realm="token service"'))
        if error.error is OAuthErrorCode.USE_DPOP_NONCE:  # RFC 9449, 8
            headers.append((b"dpop-nonce", self._nonces.issue(self._clock()).encode()))
        body = _encoded({"error": error.error.value, "error_description": error.description})
        await _answer(send, error.status, body, *headers)


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


def _feed_place(query: bytes) -> tuple[int, float]:
    asked = parse_qs(query.decode("ascii"), max_num_fields=4)
    after, wait = int(asked.get("after", ["0"])[0]), float(asked.get("wait", ["0"])[0])
    if not 0 <= after < 2**63 or not 0 <= wait <= LONGEST_WAIT:
        raise ValueError("out of range")
    return after, wait


def _values(headers: Headers, name: bytes) -> tuple[str, ...]:
    return tuple(value.decode("latin-1") for key, value in headers if key == name)


def _encoded(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


async def _unavailable(send: Send, error: UnavailableError) -> None:
    after = str(max(1, round(error.retry_after))).encode()
    body = _encoded({"error": OAuthErrorCode.TEMPORARILY_UNAVAILABLE})
    await _answer(send, 503, body, _JSON, *_NO_STORE, (b"retry-after", after))


async def _failed(send: Send, request_id: str) -> None:
    body = _encoded({"error": OAuthErrorCode.SERVER_ERROR, "error_description": f"request {request_id} failed"})
    await _answer(send, 500, body, _JSON, *_NO_STORE)


async def _answer(
    send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], length: int | None = None
) -> None:
    size = str(len(body) if length is None else length).encode()
    start = {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", size)]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
