"""The identity provider that says who a human is: we are its client, without a secret (OpenID Connect Core, 3.1).

Its addresses come from its own discovery document, each time; what it answers is believed by its record alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from agentshield.errors import AuthenticationError, InvalidInputError
from agentshield.identity.client_assertion import sign_client_assertion
from agentshield.identity.strict_json import parse_json_object
from agentshield.oauth.authorize.browser import BrowserSession, challenge_of
from agentshield.oauth.authorize.request import Human
from agentshield.oauth.client_auth.private_key_jwt import ASSERTION_TYPE
from agentshield.oauth.issuers.claims import claim_at, shown
from agentshield.oauth.issuers.errors import NoCredentialError
from agentshield.oauth.issuers.federation import FederatedIdentity, Federation
from agentshield.oauth.issuers.fetch import Document
from agentshield.oauth.issuers.key_source import Fetch, discovery_of
from agentshield.oauth.keys import SigningKeys
from agentshield.oauth.model import IssuerRecord, SignIn, SignInMethod
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.subject import foreign_party
from agentshield.sdk.egress import parse_https_url

_OK: Final = 200
_MAX_CODE: Final = 4096
_MAX_NAME: Final = 200


class SignInError(AuthenticationError):
    """The identity provider's answer is not one to this browser's question, or not one of its own."""

    code = "sign_in_refused"


class SignInFetch(Fetch, Protocol):
    """Asks an issuer; `IssuerFetch` is the one that guards what it connects to."""

    async def post_form(self, url: str, form: Mapping[str, str], *, ca_pem: bytes | None = None) -> Document:
        """Return what is answered to a form. Raises: ForbiddenAddressError, KeysUnavailableError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What an identity provider says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    sends_issuer: bool  # RFC 9207, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Asks identity providers."""

    settings: OAuthSettings
    fetch: SignInFetch
    federation: Federation
    keys: SigningKeys

    async def question(self, record: IssuerRecord, session: BrowserSession) -> str:
        """Return where to send the browser.

        Raises:
            KeysUnavailableError, InvalidInputError: the provider does not say where, or not properly.
        """
        provider, sign_in = await self._provider(record), _sign_in(record)
        asked = {
            "response_type": "code",
            "client_id": sign_in.client_id,
            "redirect_uri": self.settings.callback_uri,
            "scope": " ".join(sorted(sign_in.scopes)),
            "state": session.state,
            "nonce": session.nonce,
            "code_challenge": challenge_of(session.code_verifier),
            "code_challenge_method": "S256",
        }
        endpoint = provider.authorization_endpoint
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(asked)

    async def check_issuer(self, record: IssuerRecord, named: str | None) -> None:
        """Check who an answer says it comes from (RFC 9207, 2.4): another one's code is not sent to this one.

        Raises:
            SignInError: from another, or from nobody where this one says that it names itself.
            KeysUnavailableError, InvalidInputError: as `question`.
        """
        if named is not None and named != record.issuer:
            raise SignInError(f"answer names issuer {named[:200]!a}, expected {record.issuer[:200]!a}")
        if named is None and (await self._provider(record)).sends_issuer:
            raise SignInError(f"answer names no issuer, and {record.issuer[:200]!a} says that it always does")

    async def human(self, record: IssuerRecord, session: BrowserSession, code: str, *, at: datetime) -> Human:
        """Redeem the provider's code and return who it says that this is.

        Raises:
            SignInError: it is not an answer to this browser.
            AgentShieldError: the provider refuses, does not answer, or its ID token does not hold.
        """
        if not 0 < len(code) <= _MAX_CODE:
            raise SignInError(f"code has {len(code)} characters, expected 1 to {_MAX_CODE}")
        provider, sign_in = await self._provider(record), _sign_in(record)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.callback_uri,
            "client_id": sign_in.client_id,
            "code_verifier": session.code_verifier,
        } | self._proof(record, sign_in, at)
        answer = await self.fetch.post_form(provider.token_endpoint, form, ca_pem=record.ca_pem)
        members = parse_json_object(answer.body, what="token answer", error=InvalidInputError)
        if answer.status != _OK:
            said = f"{shown(members.get('error'))}: {shown(members.get('error_description'))}"
            raise SignInError(
                f"issuer {record.name[:80]!a} answered {answer.status} ({said})",
                hint="is our client registered there with our key set and redirect address?",
            )
        token = members.get("id_token")
        if not isinstance(token, str):
            raise SignInError(f"issuer {record.name[:80]!a} answered without an ID token")
        return await self._identified(record, sign_in, session, token, at)

    async def _identified(
        self, record: IssuerRecord, sign_in: SignIn, session: BrowserSession, token: str, at: datetime
    ) -> Human:
        """OpenID Connect Core, 3.1.3.7; signature, `iss`, sole `aud` and times are the federation's."""
        identity = await self.federation.verify_id_token(token, record, at=at)
        claims = identity.token.claims
        if not session.is_nonce(claims.get("nonce")):  # (11)
            raise SignInError("ID token has another nonce than this browser's")
        if claims.get("azp", sign_in.client_id) != sign_in.client_id:  # (5)
            raise SignInError("ID token was given to another client (azp)")
        await self._require_human(identity)
        party = foreign_party(record.issuer, identity.subject, record.subject_profile)
        name = claim_at(claims, sign_in.name_claim) if sign_in.name_claim is not None else None
        return Human(
            issuer=party.issuer,
            subject=party.subject,
            name=(name or party.subject)[:_MAX_NAME],
            auth_time=_whole(claims.get("auth_time")),
            acr=claims["acr"] if isinstance(claims.get("acr"), str) else None,
        )

    async def _require_human(self, identity: FederatedIdentity) -> None:
        """An identity that a federated credential takes for an agent of ours cannot delegate to another."""
        try:
            agent = await self.federation.agent_for(identity)
        except NoCredentialError:
            return
        raise SignInError(f"{identity.subject[:200]!a} of issuer {identity.record.name[:80]!a} is agent {agent}")

    def _proof(self, record: IssuerRecord, sign_in: SignIn, at: datetime) -> dict[str, str]:
        if sign_in.method is SignInMethod.NONE:
            return {}
        key, kid = self.keys.signer()
        assertion = sign_client_assertion(
            key, kid=kid, client_id=sign_in.client_id, issuer_audience=record.issuer, at=at
        )
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}

    async def _provider(self, record: IssuerRecord) -> Provider:
        members = await discovery_of(record, self.fetch)
        return Provider(
            authorization_endpoint=_address(members, "authorization_endpoint"),
            token_endpoint=_address(members, "token_endpoint"),
            sends_issuer=members.get("authorization_response_iss_parameter_supported") is True,
        )


def _sign_in(record: IssuerRecord) -> SignIn:
    if record.sign_in is None:
        raise SignInError(f"issuer {record.name[:80]!a} signs nobody in here")
    return record.sign_in


def _address(members: Mapping[str, Any], name: str) -> str:
    """An https address in its usual spelling: also of the one that only the browser goes to."""
    url = members.get(name)
    if not isinstance(url, str):
        raise InvalidInputError(f"discovery document has no {name}")
    parse_https_url(url)
    return url


def _whole(value: object) -> int | None:
    return value if type(value) is int else None
