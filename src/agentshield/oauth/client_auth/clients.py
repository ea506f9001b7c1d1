"""Which client a request means: an agent's own SPIFFE ID, or a name registered for it."""

from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.client_auth.refusal import refused
from agentshield.oauth.model import ClientAuthMethod, ClientRegistration
from agentshield.oauth.store import ClientStore


class Clients:
    """Client registrations, asked with a method in mind."""

    def __init__(self, store: ClientStore) -> None:
        self._store = store

    async def registered(self, client_id: str, method: ClientAuthMethod) -> ClientRegistration | None:
        """Return the registration of this name, if it may use this method."""
        registration = await self._store.find(client_id)
        return registration if registration is not None and method in registration.methods else None

    async def name_of(self, spiffe_id: SpiffeId, claimed: str | None, method: ClientAuthMethod) -> str:
        """Return the client_id of an agent that has proved its SPIFFE ID: its own, or the registered one it claims.

        Raises:
            OAuthError: `client_id` is somebody else's.
        """
        if claimed in (None, str(spiffe_id)):
            return str(spiffe_id)
        assert claimed is not None
        registration = await self.registered(claimed, method)
        if registration is None or registration.spiffe_id != spiffe_id:
            raise refused(
                "RFC 7521 4.2",
                f"client_id is {claimed[:200]!a}, proved by {method.value} is {spiffe_id}",
            )
        return claimed
