"""What every method works with, and what it hands back."""

from dataclasses import dataclass
from datetime import datetime

from agentshield.identity.bundle import BundleSource
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.client_auth.clients import Clients
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.model import ClientAuthMethod, SingleUse
from agentshield.oauth.settings import OAuthSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """By what a client's proof is judged."""

    settings: OAuthSettings
    clients: Clients
    bundles: BundleSource
    federation: Federation


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenClient:
    """A client that one method has proved. Whether its agent may do anything is still to be asked.

    `valid_until` is the end of the proof where it is a certificate. `jkt` is a key it proved beside the method's own.
    """

    client_id: str
    spiffe_id: SpiffeId
    method: ClientAuthMethod
    uses: tuple[SingleUse, ...] = ()
    jkt: str | None = None
    bearer_until: datetime | None = None
