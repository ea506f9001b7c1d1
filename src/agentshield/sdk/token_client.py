"""Tokens from the authorization server: asked for with our SVID, bound to a DPoP key that never leaves this process."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from agentshield.errors import AgentShieldError
from agentshield.identity.attestation_proof import sign_attestation_proof
from agentshield.identity.dpop import sign_dpop_proof
from agentshield.identity.jws import InvalidTokenError, decode_base64url
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.strict_json import parse_json_object
from agentshield.sdk.clients.oauth import (
    SERVER_PATH,
    ServerAnswer,
    TokenService,
    checked_issuer,
    configured_issuer,
    refusal_of,
)
from agentshield.sdk.token_cache import HeldToken, TokenCache, TokenWish
from agentshield.sdk.token_errors import TokenServiceUnavailableError

if TYPE_CHECKING:
    from agentshield.sdk.shield import Shield

Proof = Literal["x509-svid", "jwt-svid", "wit-svid"]

_CLIENT_CREDENTIALS: Final = "client_credentials"
_TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  RFC 8693, 2.1
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  RFC 8693, 3
_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
_JWT_SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"  # draft-ietf-oauth-spiffe-client-auth-02
_LONGEST: Final = 24 * 3600  # seconds; a server that says more has misunderstood the unit
_OK: Final = 200


class TokenClient:
    """One agent as a client of one authorization server.

    `proof` says which SVID to show: the X509-SVID of the connection, or, where TLS ends at a proxy, a JWT-SVID, or a
    WIT-SVID with a proof of its key, which nobody on the way can use again.
    """

    def __init__(self, service: TokenService, shield: "Shield", *, proof: Proof = "x509-svid") -> None:
        self._service = service
        self._shield = shield
        self._proof = proof
        self._key = generate_private_key()
        self._nonce: str | None = None
        self._cache = TokenCache(self._fetch, clock=shield.clock)

    async def token(self, wish: TokenWish, *, refused: HeldToken | None = None) -> HeldToken:
        """Return a token for `wish`, from the cache while it is fresh; never again the one that was `refused`.

        Raises:
            TokenRequestRefusedError: there is none for us.
            TokenServiceUnavailableError: the server does not answer.
            UnavailableError: we have no SVID to ask with.
        """
        return await self._cache.get(wish, refused=refused)

    def prove(self, method: str, url: str, token: HeldToken, *, nonce: str | None) -> str:
        """Sign the DPoP proof that goes with one request (RFC 9449, 4.2 and 7)."""
        return sign_dpop_proof(
            self._key, method=method, url=url, at=self._shield.clock(), access_token=token.value, nonce=nonce
        )

    def forget(self) -> None:
        """Drop tokens and key: our identity was taken away."""
        self._cache.forget()
        self._key = generate_private_key()

    async def aclose(self) -> None:
        """Drop what we hold, and close the connections."""
        await self._cache.aclose()
        await self._service.aclose()

    async def _fetch(self, wish: TokenWish) -> HeldToken:
        form = await self._form(wish)
        asked_at = self._shield.clock()
        answer = await self._ask(form)
        if answer.body.get("error") == "use_dpop_nonce" and answer.dpop_nonce is not None:  # RFC 9449, 8
            answer = await self._ask(await self._form(wish))  # a client assertion may be good for one use
        if answer.status != _OK:
            raise refusal_of(self._service.issuer, answer)
        value, seconds, scope = self._checked(answer.body)
        return HeldToken(
            value=value,
            issued_at=asked_at,
            expires_at=asked_at + timedelta(seconds=seconds),
            scopes=frozenset(scope.split()) if scope is not None else wish.scopes,
        )

    async def _ask(self, form: Mapping[str, str]) -> ServerAnswer:
        url = await self._service.token_endpoint()
        proof = sign_dpop_proof(self._key, method="POST", url=url, at=self._shield.clock(), nonce=self._nonce)
        answer = await self._service.token(form, dpop=proof, credentials=await self._attestation())
        self._nonce = answer.dpop_nonce or self._nonce
        return answer

    async def _form(self, wish: TokenWish) -> dict[str, str]:
        form = {"grant_type": _CLIENT_CREDENTIALS, **_target(wish.audience), **await self._credentials()}
        if wish.scopes:
            form["scope"] = " ".join(sorted(wish.scopes))
        if wish.subject_token is not None:
            form |= {
                "grant_type": _TOKEN_EXCHANGE,
                "subject_token": wish.subject_token,
                "subject_token_type": subject_token_type(wish.subject_token),
                "requested_token_type": _ACCESS_TOKEN,
            }
        return form

    async def _credentials(self) -> dict[str, str]:
        """RFC 8705, 2: `client_id` always goes along. The certificate is the connection's."""
        own = str(self._shield.spiffe_id)
        if self._proof != "jwt-svid":
            return {"client_id": own}
        svid = await self._shield.fetch_jwt_svid(self._service.issuer)
        return {"client_id": own, "client_assertion_type": _JWT_SPIFFE, "client_assertion": svid.token}

    async def _attestation(self) -> dict[str, str]:
        """spiffe-client-auth-02, 3.3: a WIT-SVID, and a proof that is new each time, for it is good for one use."""
        if self._proof != "wit-svid":
            return {}
        svid = await self._shield.fetch_wit_svid()
        proof = sign_attestation_proof(
            svid.private_key, client=str(svid.spiffe_id), audience=self._service.issuer, at=self._shield.clock()
        )
        return {"oauth-client-attestation": svid.token, "oauth-client-attestation-pop": proof}

    def _checked(self, body: Mapping[str, Any]) -> tuple[str, int, str | None]:
        """RFC 6749, 5.1. A token that is not bound to our key is not taken: whoever finds it could use it."""
        value, kind, seconds, scope = (body.get(each) for each in ("access_token", "token_type", "expires_in", "scope"))
        if not isinstance(kind, str) or kind.lower() != "dpop":
            raise TokenServiceUnavailableError(
                self._service.issuer, f"it gave a token of type {str(kind)[:20]!a}, expected DPoP"
            )
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise TokenServiceUnavailableError(self._service.issuer, "it gave no access_token")
        if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST:
            raise TokenServiceUnavailableError(self._service.issuer, "it gave no usable expires_in")
        return value, seconds, scope if isinstance(scope, str) else None


class TokenClients:
    """What one shield is a client of: each authorization server once, with one key and one cache."""

    def __init__(self, shield: "Shield") -> None:
        self._shield = shield
        self._clients: dict[tuple[str, Proof], TokenClient] = {}

    def of(self, issuer: str | None, proof: Proof) -> TokenClient:
        """Return the client of `issuer`, or of the one that the environment names, that proves itself by `proof`.

        Raises:
            ConfigurationError: it is none, or there is none.
        """
        issuer = checked_issuer(issuer) if issuer is not None else configured_issuer()
        if (issuer, proof) not in self._clients:
            server = SpiffeId.of(self._shield.spiffe_id.trust_domain, SERVER_PATH)
            service = TokenService(issuer, self._shield.client_tls(expect=server), clock=self._shield.clock)
            self._clients[issuer, proof] = TokenClient(service, self._shield, proof=proof)
        return self._clients[issuer, proof]

    def forget(self) -> None:
        """Drop every token and key."""
        for client in self._clients.values():
            client.forget()

    async def aclose(self) -> None:
        """Drop what we hold, and close the connections."""
        for client in self._clients.values():
            await client.aclose()


def _target(audience: str) -> dict[str, str]:
    """An absolute URI is a resource (RFC 8707, 2); any other name is an audience (RFC 8693, 2.1)."""
    return {"resource": audience} if audience.startswith("https://") else {"audience": audience}


def subject_token_type(token: str) -> str:
    """Ours say what they are in their header, or are opaque; what another issuer calls a token is a JWT to us."""
    head, dot, _ = token.partition(".")
    if not dot:
        return _ACCESS_TOKEN
    try:
        header = parse_json_object(
            decode_base64url(head.encode(), what="header"), what="token header", error=InvalidTokenError
        )
    except AgentShieldError:
        return _JWT
    return _ACCESS_TOKEN if str(header.get("typ")).removeprefix("application/").lower() == "at+jwt" else _JWT
