"""The store in memory: what it promises is the same, except that it forgets."""

from agentshield.oauth.key_store import MemorySigningKeys
from agentshield.oauth.memory_records import MemoryCredentials, MemoryIssuers, MemoryRecords
from agentshield.oauth.memory_tokens import MemoryTokens
from agentshield.oauth.model import ClientRegistration, Resource
from agentshield.oauth.record_kinds import CLIENTS, CREDENTIALS, ISSUERS, RESOURCES


class MemoryOAuthStore:
    """An OAuthStore that ends with the process, and the signing keys beside it."""

    def __init__(self) -> None:
        self._clients: MemoryRecords[ClientRegistration] = MemoryRecords(CLIENTS)
        self._resources: MemoryRecords[Resource] = MemoryRecords(RESOURCES)
        self._issuers = MemoryIssuers(ISSUERS)
        self._credentials = MemoryCredentials(CREDENTIALS)
        self._tokens = MemoryTokens()
        self._keys = MemorySigningKeys()

    @property
    def clients(self) -> MemoryRecords[ClientRegistration]:
        """Client registrations."""
        return self._clients

    @property
    def resources(self) -> MemoryRecords[Resource]:
        """Resources."""
        return self._resources

    @property
    def issuers(self) -> MemoryIssuers:
        """Foreign issuers."""
        return self._issuers

    @property
    def credentials(self) -> MemoryCredentials:
        """Federated identity credentials."""
        return self._credentials

    @property
    def tokens(self) -> MemoryTokens:
        """Issuances, revocations, single uses."""
        return self._tokens

    @property
    def keys(self) -> MemorySigningKeys:
        """Signing keys, sealed."""
        return self._keys
