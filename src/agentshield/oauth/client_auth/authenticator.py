"""Who is asking: from a request to a client that is proved, active, and bound to a key (RFC 6749, 2.3)."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from agentshield.identity.access_token import Confirmation, certificate_thumbprint
from agentshield.identity.bundle import BundleSource
from agentshield.identity.dpop import DpopNonces, VerifiedDpopProof
from agentshield.identity.errors import InvalidSvidError
from agentshield.identity.x509_svid import load_der_certificate
from agentshield.oauth.client_auth import (
    attestation,
    client_secret,
    federated_jwt,
    private_key_jwt,
    spiffe_jwt,
    spiffe_wit,
    spiffe_x509,
    tls_client_auth,
)
from agentshield.oauth.client_auth.clients import Clients
from agentshield.oauth.client_auth.dpop import use_of, verified_proof
from agentshield.oauth.client_auth.presented import method_of
from agentshield.oauth.client_auth.proven import ProvenClient, Trust
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.directory import AgentDirectory, AgentRegistration
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.model import AuthenticatedClient, ClientAuthMethod
from agentshield.oauth.requests import OAuthRequest
from agentshield.oauth.settings import OAuthSettings
from agentshield.oauth.store import OAuthStore

_Prove = Callable[..., Awaitable[ProvenClient]]
_METHODS: Final[dict[ClientAuthMethod, _Prove]] = {
    ClientAuthMethod.SPIFFE_JWT: spiffe_jwt.prove,
    ClientAuthMethod.SPIFFE_X509: spiffe_x509.prove,
    ClientAuthMethod.SPIFFE_WIT: spiffe_wit.prove,
    ClientAuthMethod.PRIVATE_KEY_JWT: private_key_jwt.prove,
    ClientAuthMethod.FEDERATED_JWT: federated_jwt.prove,
    ClientAuthMethod.TLS_CLIENT_AUTH: tls_client_auth.prove,
    ClientAuthMethod.ATTESTATION: attestation.prove,
    ClientAuthMethod.CLIENT_SECRET_BASIC: client_secret.prove_basic,
    ClientAuthMethod.CLIENT_SECRET_POST: client_secret.prove_post,
}


class ClientAuthenticator:
    """The one door to `AuthenticatedClient`.

    `nonces` are shared where replicas are: give each the same secret; without one, each process takes only its own.
    """

    def __init__(
        self,
        settings: OAuthSettings,
        store: OAuthStore,
        directory: AgentDirectory,
        bundles: BundleSource,
        federation: Federation,
        *,
        nonces: DpopNonces | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._trust = Trust(settings=settings, clients=Clients(store.clients), bundles=bundles, federation=federation)
        self.nonces = nonces or DpopNonces(secret=secrets.token_bytes(32), lifetime=settings.dpop_nonce_lifetime)

    async def authenticate(self, request: OAuthRequest, *, at: datetime) -> AuthenticatedClient:
        """Authenticate the client of a request. Its `uses` are claimed by whoever acts on the result.

        Raises:
            OAuthError: invalid_client, whatever the reason; invalid_request for two methods at once;
                invalid_dpop_proof or use_dpop_nonce for its DPoP proof.
            UnavailableError: what the proof is judged by cannot be known now.
        """
        method = method_of(request)  # (1) exactly one (RFC 6749, 2.3)
        proven = await _METHODS[method](request, self._trust, at=at)  # (2) its proof, and its client_id
        self._check_connection(request, proven, at)  # (3) TLS, if it names anybody, names the same
        proof = verified_proof(request, self._settings, self.nonces, at=at)  # (4) a key for this request
        agent = await self._active_agent(proven)  # (5) the agent as the authority has it now
        return _authenticated(request, proven, proof, agent)

    def _check_connection(self, request: OAuthRequest, proven: ProvenClient, at: datetime) -> None:
        """A token of one agent must not come to be bound to another agent's certificate."""
        peer = request.peer
        if peer is not None and (peer.spiffe_id != proven.spiffe_id or not peer.is_fresh(at)):
            raise refused(
                "RFC 8705 3", f"connection is that of {peer.spiffe_id}, the client is agent {proven.spiffe_id}"
            )

    async def _active_agent(self, proven: ProvenClient) -> AgentRegistration:
        agent = await self._directory.find(proven.spiffe_id)
        if agent is None or agent.spiffe_id != proven.spiffe_id:
            raise refused("agent registered", f"there is no agent {proven.spiffe_id}")
        if not agent.is_active:
            raise refused("agent active", f"agent {proven.spiffe_id} is suspended, locked, or of a disabled blueprint")
        return agent


def _authenticated(
    request: OAuthRequest, proven: ProvenClient, proof: VerifiedDpopProof | None, agent: AgentRegistration
) -> AuthenticatedClient:
    x5t = None if request.certificate is None else certificate_thumbprint(request.certificate)
    jkts = {jkt for jkt in (proven.jkt, proof.jkt if proof else None) if jkt is not None}
    by_certificate = proof is None and x5t is not None
    return AuthenticatedClient(
        client_id=proven.client_id,
        agent=agent,
        method=proven.method,
        binding=Confirmation(jkt=proof.jkt) if proof else Confirmation(x5t_s256=x5t) if x5t else None,
        thumbprints=frozenset({f"jkt:{jkt}" for jkt in jkts} | ({f"x5t:{x5t}"} if x5t else set())),
        binding_ends_at=_certificate_end(request) if by_certificate else None,
        bearer_until=proven.bearer_until,
        uses=(*proven.uses, *((use_of(proof, request),) if proof else ())),
    )


def _certificate_end(request: OAuthRequest) -> datetime:
    """The end of the whole path where we know it: a leaf can outlive its authority."""
    if request.peer is not None:
        return request.peer.valid_until
    try:
        return load_der_certificate(request.certificate or b"").not_valid_after_utc
    except InvalidSvidError as error:
        raise refused("RFC 8705 3", str(error)) from error
