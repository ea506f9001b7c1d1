"""Tokens of foreign issuers: whether we believe them, and which of our agents their bearer is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agentshield.clock import Clock
from agentshield.errors import AgentShieldError
from agentshield.identity.foreign_token import IssuerRule, VerifiedForeignToken, verify_foreign_token
from agentshield.identity.jwk import KeySet
from agentshield.identity.jws import HeaderRule, InvalidTokenError, UnverifiedJws
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.issuers.errors import UnknownIssuerError
from agentshield.oauth.issuers.explain import ClaimCheck, explain_token
from agentshield.oauth.issuers.key_source import Fetch, KeySource
from agentshield.oauth.issuers.matching import agent_of
from agentshield.oauth.model import IssuerRecord
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore

#: Every `typ` that an issuer record may allow: what is looked at before it is known whose record counts.
TOKEN_TYPES: Final[frozenset[str | None]] = frozenset(
    {None, "JWT", "JOSE", "at+jwt", "application/at+jwt", "oauth-id-jag+jwt"}
)


_ID_TOKEN_TYPES: Final[frozenset[str | None]] = frozenset({None, "JWT"})  # OpenID Connect Core, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedIdentity:
    """Somebody whom a foreign issuer vouches for, and the record by which we believe it."""

    record: IssuerRecord
    token: VerifiedForeignToken

    @property
    def subject(self) -> str:
        """The claim that the record identifies by, which need not be `sub`."""
        return self.token.subject


class Federation:
    """Foreign issuers as they are registered at this moment."""

    def __init__(self, store: OAuthStore, fetch: Fetch, clock: Clock, settings: OAuthSettings) -> None:
        self._store = store
        self._keys = KeySource(fetch)
        self._clock = clock
        self._settings = settings

    async def verify(
        self, token: str, *, audience: str | frozenset[str] | None = None, at: datetime
    ) -> FederatedIdentity:
        """Verify a token of a registered issuer, by that issuer's record alone.

        `audience` narrows whom it must be for, out of the names that the record has for us; None: any of them.

        Raises:
            InvalidTokenError: not a signed JWT, or without the claim that the record identifies by.
            UnknownIssuerError: its `iss` is, to the letter, nobody's whom we registered.
            KeysUnavailableError: the issuer's keys cannot be had.
            UnknownKeyError, AgentShieldError: as `verify_foreign_token`.
        """
        record = await self._record_of(_parse(token).unverified_claims())  # (1) whose word it claims to be
        return await self._verified(token, record, self._rule(record, audience), at)  # (2) how far we believe them

    async def verify_id_token(self, token: str, record: IssuerRecord, *, at: datetime) -> FederatedIdentity:
        """Verify an ID token that `record`'s issuer made for us as its client, and for nobody else.

        What it was asked for with (`nonce`) is for the caller to check.

        Raises:
            WrongAudienceError, AgentShieldError: as `verify`; also where nobody signs in there.
        """
        audiences = frozenset() if record.sign_in is None else frozenset({record.sign_in.client_id})
        rule = replace(self._rule(record, None), audiences=audiences, types=_ID_TOKEN_TYPES)
        return await self._verified(token, record, rule, at)

    async def _verified(self, token: str, record: IssuerRecord, rule: IssuerRule, at: datetime) -> FederatedIdentity:
        header = _parse(token).header
        if header.alg not in record.algorithms:  # before a key is asked for: a bad token costs its issuer nothing
            raise InvalidTokenError(f"token of issuer {record.name[:80]!a} is signed with {header.alg}")
        keys = await self._keys.keys_for(record, kid=header.kid, alg=header.alg, at=at)  # (3) by which keys
        verified = verify_foreign_token(token, rule=rule, keys=keys, at=at)  # (4) and that it is
        return FederatedIdentity(record=record, token=verified)

    async def keys_of_maker(self, token: str, *, at: datetime) -> tuple[IssuerRecord, KeySet]:
        """Return the record and the keys of whoever a token claims to be from, for kinds that are verified elsewhere.

        Raises:
            InvalidTokenError, UnknownIssuerError, KeysUnavailableError: as `verify`.
        """
        unverified = _parse(token)
        record = await self._record_of(unverified.unverified_claims())
        header = unverified.header
        if header.alg not in record.algorithms:
            raise InvalidTokenError(f"token of issuer {record.name[:80]!a} is signed with {header.alg}")
        return record, await self._keys.keys_for(record, kid=header.kid, alg=header.alg, at=at)

    async def agent_for(self, identity: FederatedIdentity) -> SpiffeId:
        """Return the agent that a federated credential makes of a verified identity.

        Raises:
            NoCredentialError: none does.
            AmbiguousIdentityError: two do, differently.
        """
        credentials = await self._store.credentials.of_issuer(identity.record.issuer)
        return agent_of(credentials, identity.record, identity.token.claims, identity.token.audience)

    async def explain(self, token: str, record: IssuerRecord, *, at: datetime | None = None) -> tuple[ClaimCheck, ...]:
        """Walk through a token, claim by claim, as `issuer test` shows it. Decides nothing.

        Raises:
            InvalidTokenError: not a signed JWT at all.
        """
        moment = at or self._clock()
        unverified = _parse(token)
        header = unverified.header
        credentials = await self._store.credentials.of_issuer(record.issuer)
        try:
            keys = await self._keys.keys_for(record, kid=header.kid, alg=header.alg, at=moment)
            unverified.verify(keys.find(header.kid, header.alg).public_key)
        except AgentShieldError as error:
            return explain_token(
                unverified, record, credentials, at=moment, skew=self._settings.clock_skew, failure=str(error)
            )
        return explain_token(unverified, record, credentials, at=moment, skew=self._settings.clock_skew)

    async def _record_of(self, claims: Mapping[str, Any]) -> IssuerRecord:
        issuer = claims.get("iss")
        record = await self._store.issuers.find_by_issuer(issuer) if isinstance(issuer, str) else None
        if record is None:
            raise UnknownIssuerError(
                f"token is of issuer {str(issuer)[:200]!a}, which is not registered",
                hint="`agentshield issuer list` shows those that are; names are compared to the letter",
            )
        return record

    def _rule(self, record: IssuerRecord, audience: str | frozenset[str] | None) -> IssuerRule:
        asked = frozenset({audience}) if isinstance(audience, str) else audience
        return IssuerRule(
            issuer=record.issuer,
            algorithms=record.algorithms,
            audiences=record.audiences if asked is None else record.audiences & asked,
            types=record.token_types,
            max_age=record.max_age,
            sole_audience=True,  # whoever else a token is for could show it to us
            subject_claim=record.subject_claim,
        )


def _parse(token: str) -> UnverifiedJws:
    return UnverifiedJws.parse(token, types=TOKEN_TYPES, headers=HeaderRule.FOREIGN)
