"""Asking the token service as the agent that this process is, over TLS that shows its X509-SVID.

So tokens are bound to that certificate (RFC 8705, 3): of use on connections that show it, until the SVID is renewed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.app.failure import CommandError, failed
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.app.token_checks import TokenChecks, Verifying, check_opaque, check_signed
from agentshield.errors import UnavailableError
from agentshield.identity.access_token import (
    ACCESS_TOKEN_TYPES,
    certificate_thumbprint,
    read_introspection,
    verify_access_token,
)
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import InvalidTokenError, UnverifiedJws
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.clients.oauth import (
    SERVER_PATH,
    VARIABLE,
    ServerAnswer,
    TokenService,
    checked_issuer,
    configured_issuer,
    refusal_of,
)
from agentshield.sdk.jwks import ALGORITHMS
from agentshield.sdk.revocations import RevocationFeed
from agentshield.sdk.shield import Shield
from agentshield.sdk.token_client import subject_token_type
from agentshield.sdk.token_errors import TokenRequestRefusedError, TokenServiceUnavailableError

TYPE_PREFIX: Final = "urn:ietf:params:oauth:token-type:"
_ACCESS_TOKEN: Final = TYPE_PREFIX + "access_token"
_TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  RFC 8693, 2.1
_OK: Final = 200
_LONGEST: Final = 24 * 3600  # seconds; a server that says more has misunderstood the unit
_NEXT: Final[Mapping[str, str]] = {
    "invalid_scope": "agentshield resource show AUDIENCE, and blueprint show: both bound what may be asked for",
    "invalid_target": "agentshield resource list",
}
_LOOK_UP: Final = "agentshield audit search --event token.refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """A token, and what may be shown of it."""

    value: str = field(repr=False)
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDesk:
    """One agent, and the token service that it asks."""

    shield: Shield
    service: TokenService

    async def mint(self, audience: str, scopes: tuple[str, ...]) -> MintedToken:
        """Get a token for ourselves.

        Raises:
            CommandError: there is none for us.
            TokenServiceUnavailableError: no usable answer.
        """
        return await self._token({"grant_type": "client_credentials"}, audience, scopes)

    async def exchange(
        self, subject_token: str, kind: str | None, audience: str, scopes: tuple[str, ...]
    ) -> MintedToken:
        """Get a token on behalf of whoever `subject_token` speaks for; raises as `mint`."""
        form = {
            "grant_type": _TOKEN_EXCHANGE,
            "subject_token": subject_token,
            "subject_token_type": TYPE_PREFIX + kind if kind is not None else subject_token_type(subject_token),
            "requested_token_type": _ACCESS_TOKEN,
        }
        return await self._token(form, audience, scopes)

    async def introspect(self, token: str) -> dict[str, Any]:
        """Ask what a token stands for; raises as `mint`."""
        form = {"token": token, "token_type_hint": "access_token", "client_id": str(self.shield.spiffe_id)}
        return dict(self._granted(await self.service.post("introspection_endpoint", form)))

    async def revoke(self, token: str) -> None:
        """Give up a token of ours; one that is unknown or ended is no fault (RFC 7009, 2.2). Raises as `mint`."""
        form = {"token": token, "client_id": str(self.shield.spiffe_id)}
        self._granted(await self.service.post("revocation_endpoint", form))

    async def verify(self, token: str, audience: str) -> TokenChecks:
        """Check a token as a resource of this audience would; raises TokenServiceUnavailableError."""
        feed = RevocationFeed(self.service, clock=self.shield.clock)
        try:
            await feed.ready()
            return await self._checks(token, audience, feed.check)
        finally:
            await feed.aclose()

    async def _checks(self, token: str, audience: str, not_revoked: Callable[[str], None]) -> TokenChecks:
        at = self.shield.clock()
        verifying = Verifying(
            issuer=self.service.issuer,
            audience=audience,
            at=at,
            not_revoked=not_revoked,
            own_thumbprint=self._own_thumbprint,
        )
        if "." not in token:
            answer = await self.introspect(token)
            return check_opaque(
                answer, lambda i, a: read_introspection(answer, token=token, issuer=i, audience=a, at=at), verifying
            )
        keys = KeySet.from_jwks(await self.service.jwks(), algorithms=ALGORITHMS)
        return check_signed(
            token, keys, lambda i, a: verify_access_token(token, keys=keys, issuer=i, audience=a, at=at), verifying
        )

    @property
    def _own_thumbprint(self) -> str:
        return certificate_thumbprint(self.shield.source.svid.leaf.public_bytes(Encoding.DER))

    async def _token(self, form: Mapping[str, str], audience: str, scopes: tuple[str, ...]) -> MintedToken:
        """RFC 8705, 2: `client_id` always goes along. The certificate is the connection's."""
        asked = {**form, "client_id": str(self.shield.spiffe_id), "audience": audience}
        if scopes:
            asked["scope"] = " ".join(sorted(set(scopes)))
        asked_at = self.shield.clock()
        body = self._granted(await self.service.post("token_endpoint", asked))
        value, seconds, scope = (body.get(each) for each in ("access_token", "expires_in", "scope"))
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise TokenServiceUnavailableError(self.service.issuer, "it gave no access_token")
        if not isinstance(seconds, int) or not 0 < seconds <= _LONGEST:
            raise TokenServiceUnavailableError(self.service.issuer, "it gave no usable expires_in")
        self._require_bound(value)
        shown = {
            "issuer": self.service.issuer,
            "client_id": str(self.shield.spiffe_id),
            "audience": audience,
            "scopes": sorted(scope.split()) if isinstance(scope, str) else sorted(set(scopes)),
            "token_type": str(body.get("token_type")),
            "expires_at": (asked_at + timedelta(seconds=seconds)).isoformat(),
            "bound_to": {"x5t#S256": self._own_thumbprint},
        }
        return MintedToken(value=value, shown=shown)

    def _require_bound(self, value: str) -> None:
        """A token that is not bound to our key is not taken: whoever finds it could use it. Opaque ones say nothing."""
        if "." not in value:
            return
        try:
            claims = UnverifiedJws.parse(value, types=ACCESS_TOKEN_TYPES).unverified_claims()
        except InvalidTokenError as error:
            raise TokenServiceUnavailableError(self.service.issuer, f"its access_token is none: {error}") from error
        if claims.get("cnf") != {"x5t#S256": self._own_thumbprint}:
            raise TokenServiceUnavailableError(
                self.service.issuer, "it gave a token that is not bound to the certificate we showed"
            )

    def _granted(self, answer: ServerAnswer) -> Mapping[str, Any]:
        if answer.status == _OK:
            return answer.body
        error = refusal_of(self.service.issuer, answer)
        if isinstance(error, TokenRequestRefusedError):
            raise _refused(error) from error
        raise error


@asynccontextmanager
async def token_desk(invocation: Invocation, agent: str | None) -> AsyncIterator[TokenDesk]:
    """Open a way to the token service, as `agent` or as whoever this process is anyway.

    Raises:
        CommandError: no identity, or no token service.
        ConfigurationError: what the environment names is no issuer.
        UnavailableError: it took longer than `--timeout`.
    """
    seconds = invocation.timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds), AsyncExitStack() as stack:
            issuer = issuer_of(invocation)
            shield = await stack.enter_async_context(shield_as(invocation, agent))
            server = SpiffeId.of(shield.spiffe_id.trust_domain, SERVER_PATH)
            service = TokenService(issuer, shield.client_tls(expect=server), clock=shield.clock)
            stack.push_async_callback(service.aclose)
            yield TokenDesk(shield=shield, service=service)
    except TimeoutError as error:
        raise UnavailableError(
            f"no answer within {seconds:g}s", hint="agentshield status, or a longer --timeout"
        ) from error


def issuer_of(invocation: Invocation) -> str:
    """Choose the token service: the environment's, or that of the `up` on our state directory.

    Raises:
        CommandError: there is neither.
        ConfigurationError: what the environment names is no issuer.
    """
    if os.environ.get(VARIABLE) and invocation.state_dir_flag is None:
        return configured_issuer()
    invocation.state_dir.require_pid()
    issuer = invocation.state_dir.read_facts().get("token_service")
    if not issuer:
        raise failed(
            "it is not known which token service to ask",
            code="no_token_service",
            family="unavailable",
            next_step=f"agentshield up --detach, or set {VARIABLE}",
        )
    return checked_issuer(str(issuer))


def _refused(error: TokenRequestRefusedError) -> CommandError:
    """The answer is no; only who could not prove itself at all is told to see to that first."""
    family = "unauthenticated" if error.error == "invalid_client" else "not_authorized"
    return failed(str(error), code=error.code, family=family, next_step=_NEXT.get(error.error, _LOOK_UP))
