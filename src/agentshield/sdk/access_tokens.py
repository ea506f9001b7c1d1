"""`TokenVerifier`: who calls, by an access token of our authorization server that is theirs to use.

A token says who may; the proof of its key says that it is them. There is no verifying without the second, and none
without an audience: a token for somebody else, or one that anybody could present, is no token here.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from agentshield.clock import Clock
from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.access_token import (
    TokenExpiredError,
    UnboundTokenError,
    VerifiedAccessToken,
    WrongIssuerError,
    WrongKeyError,
    read_introspection,
    verify_access_token,
    verify_confirmation,
)
from agentshield.identity.dpop import InvalidDpopProofError, VerifiedDpopProof, verify_dpop_proof
from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import UnknownKeyError
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.identity.verify import VerifiedIdentity
from agentshield.sdk.authorizers import only
from agentshield.sdk.clients.oauth import SERVER_PATH, TokenService, configured_issuer
from agentshield.sdk.errors import SourceClosedError
from agentshield.sdk.introspection import Introspections
from agentshield.sdk.jwks import IssuerKeys
from agentshield.sdk.presented_token import PresentedToken
from agentshield.sdk.proof_memory import ProofMemory
from agentshield.sdk.protected_resource import ProtectedResource
from agentshield.sdk.revocations import RevocationFeed
from agentshield.sdk.token_errors import (
    DpopRefusedError,
    TokenAudienceError,
    TokenEndedError,
    TokenIssuerError,
    TokenRefusedError,
    TokenStolenError,
    TokenSubjectError,
    TokenUnboundError,
    TokenUnreadableError,
)
from agentshield.sdk.token_holder import TokenHolder, seal_holder, workload_id

if TYPE_CHECKING:
    from agentshield.sdk.shield import Shield

_OPAQUE_DOTS: Final = 0


class TokenVerifier:
    """Verifies access tokens for `audience`, issued by `issuer`, or by the one that AGENTSHIELD_TOKEN_SERVICE names.

    `base_url` is where callers reach us; the audience's origin unless told. `server` is the authorization server's
    SPIFFE ID; by default the one it has in our own trust domain. `scopes` are published in our metadata.

    Raises:
        ConfigurationError: no issuer, or an audience, issuer or base_url that cannot be one.
    """

    def __init__(
        self,
        *,
        audience: str,
        issuer: str | None = None,
        base_url: str = "",
        scopes: Iterable[str] = (),
        server: SpiffeId | str | None = None,
    ) -> None:
        self.resource = ProtectedResource(
            audience=audience, issuer=issuer or configured_issuer(), base_url=base_url, scopes=frozenset(scopes)
        )
        self._server = server
        self._opening = asyncio.Lock()
        self._open: _Open | None = None

    async def open(self, shield: "Shield") -> None:
        """Begin to follow the authorization server, as `shield`; it ends with the shield at the latest."""
        async with self._opening:
            if self._open is None:
                self._open = _Open.of(self.resource.issuer, self._server, shield)
                shield.close_with(self.aclose)

    async def aclose(self) -> None:
        """Stop following."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.feed.aclose()
            await opened.service.aclose()

    async def verify(self, presented: PresentedToken, *, peer: VerifiedIdentity | None) -> TokenHolder:
        """Turn a token and its proof into a caller; `peer` is who TLS says is at the other end, if it does.

        Raises:
            TokenRefusedError: one subclass a reason.
            UnavailableError: keys, revocations or the server are not there to verify with.
        """
        opened = self._opened
        with _told_apart():
            proof = self._verify_proof(presented)  # (1) RFC 9449, 4.3 and 7.1
            token = await self._verify_token(presented.value)  # (2) RFC 9068, 4
            certificate = peer.chain[0] if peer is not None and peer.chain and proof is None else None
            verify_confirmation(token, dpop=proof, certificate_der=certificate)  # (3) the key is the caller's
        if proof is not None:
            opened.proofs.use(proof)  # (4) this proof is new
        await opened.feed.ready()
        opened.feed.check(token.claims.jti)  # (5) not taken back, as of seconds ago
        agent = acting_agent(token, peer)  # (6) who calls
        return seal_holder(agent, token.claims, presented.value)

    def verify_again(self, holder: TokenHolder) -> None:
        """Check what may have changed since: the time, and what was revoked. Cheap.

        Raises:
            TokenEndedError, TokenRevokedError, RevocationsUnknownError: it may do no more.
        """
        if not holder.is_fresh(self._opened.clock()):
            raise TokenEndedError("token has expired")
        self._opened.feed.check(holder.claims.jti)

    @property
    def _opened(self) -> "_Open":
        if self._open is None:
            raise SourceClosedError("this TokenVerifier is not open")
        return self._open

    def _verify_proof(self, presented: PresentedToken) -> VerifiedDpopProof | None:
        """A bearer's DPoP header is not looked at: a token bound to a DPoP key is refused under that scheme (7.1)."""
        if presented.scheme == "Bearer":
            return None
        if len(presented.proofs) != 1:  # 4.3 (1)
            raise DpopRefusedError(f"request has {len(presented.proofs)} DPoP proofs, expected 1")
        return verify_dpop_proof(
            presented.proofs[0],
            method=presented.method,
            url=presented.url,
            at=self._opened.clock(),
            access_token=presented.value,
        )

    async def _verify_token(self, value: str) -> VerifiedAccessToken:
        opened, resource = self._opened, self.resource
        if value.count(".") == _OPAQUE_DOTS:
            claims = await opened.introspections.read(value)
            return read_introspection(
                claims, token=value, issuer=resource.issuer, audience=resource.audience, at=opened.clock()
            )
        keys = await opened.keys.current()
        try:
            return verify_access_token(
                value, keys=keys, issuer=resource.issuer, audience=resource.audience, at=opened.clock()
            )
        except UnknownKeyError:
            newer = await opened.keys.newer_than(keys)
            if newer is None:
                raise
        return verify_access_token(
            value, keys=newer, issuer=resource.issuer, audience=resource.audience, at=opened.clock()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A verifier's connection to its authorization server, and what it remembers."""

    service: TokenService
    keys: IssuerKeys
    feed: RevocationFeed
    introspections: Introspections
    proofs: ProofMemory
    clock: Clock

    @classmethod
    def of(cls, issuer: str, server: SpiffeId | str | None, shield: "Shield") -> Self:
        own = shield.spiffe_id
        expected = only(server if server is not None else SpiffeId.of(own.trust_domain, SERVER_PATH))
        service = TokenService(issuer, shield.client_tls(expect=expected), clock=shield.clock)
        return cls(
            service=service,
            keys=IssuerKeys(service.jwks, clock=shield.clock),
            feed=RevocationFeed(service, clock=shield.clock),
            introspections=Introspections(service, client_id=str(own), clock=shield.clock),
            proofs=ProofMemory(clock=shield.clock),
            clock=shield.clock,
        )


@contextmanager
def _told_apart() -> Iterator[None]:
    """Give each cause the code under which a resource refuses it."""
    try:
        yield
    except TokenRefusedError:
        raise
    except InvalidDpopProofError as error:
        raise DpopRefusedError(str(error)) from error
    except UnboundTokenError as error:
        raise TokenUnboundError(str(error)) from error
    except WrongKeyError as error:
        raise TokenStolenError(str(error)) from error
    except WrongIssuerError as error:
        raise TokenIssuerError(str(error)) from error
    except WrongAudienceError as error:
        raise TokenAudienceError(str(error)) from error
    except TokenExpiredError as error:
        raise TokenEndedError(str(error)) from error
    except (AuthenticationError, InvalidInputError) as error:
        raise TokenUnreadableError(str(error)) from error


def acting_agent(token: VerifiedAccessToken, peer: VerifiedIdentity | None) -> SpiffeId:
    """Only the outermost actor counts (RFC 8693, 4.1); without one, the subject, which then is an agent itself.

    A user's name is never read as an agent's, whatever it looks like (RFC 9700, 4.15).
    """
    claims = token.claims
    actor = claims.act_chain.current
    if actor is not None:
        agent = workload_id(actor.subject) if actor.issuer == claims.issuer else None
    else:
        agent = workload_id(claims.subject) if claims.subject_profile != "user" else None
    if agent is None:
        raise TokenSubjectError("token names no agent that acts")
    if peer is not None and peer.spiffe_id != agent:
        raise TokenSubjectError(f"token is for {agent}, the connection is that of {peer.spiffe_id}")
    return agent
