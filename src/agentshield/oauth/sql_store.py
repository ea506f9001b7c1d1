"""The durable store: a table and a class a noun, over one database."""

from agentshield.database.engine import Database
from agentshield.oauth import record_kinds, sql_schema
from agentshield.oauth.model import ClientRegistration, Resource
from agentshield.oauth.sql_record_cache import RecordCache
from agentshield.oauth.sql_records import SqlCredentials, SqlIssuers, SqlRecords
from agentshield.oauth.sql_signing_keys import SqlSigningKeys
from agentshield.oauth.sql_tokens import SqlTokens


class SqlOAuthStore:
    """An OAuthStore in a database, and the signing keys beside it."""

    def __init__(self, database: Database) -> None:
        cache = RecordCache(database)
        self._clients: SqlRecords[ClientRegistration] = SqlRecords(
            database, cache, record_kinds.CLIENTS, sql_schema.CLIENTS
        )
        self._resources: SqlRecords[Resource] = SqlRecords(
            database, cache, record_kinds.RESOURCES, sql_schema.RESOURCES
        )
        self._issuers = SqlIssuers(database, cache, record_kinds.ISSUERS, sql_schema.ISSUERS)
        self._credentials = SqlCredentials(database, cache, record_kinds.CREDENTIALS, sql_schema.CREDENTIALS)
        self._tokens = SqlTokens(database)
        self._keys = SqlSigningKeys(database)

    @property
    def clients(self) -> SqlRecords[ClientRegistration]:
        """Client registrations."""
        return self._clients

    @property
    def resources(self) -> SqlRecords[Resource]:
        """Resources."""
        return self._resources

    @property
    def issuers(self) -> SqlIssuers:
        """Foreign issuers."""
        return self._issuers

    @property
    def credentials(self) -> SqlCredentials:
        """Federated identity credentials."""
        return self._credentials

    @property
    def tokens(self) -> SqlTokens:
        """Issuances, revocations, single uses."""
        return self._tokens

    @property
    def keys(self) -> SqlSigningKeys:
        """Signing keys, sealed."""
        return self._keys


def sql_oauth_store(database: Database) -> SqlOAuthStore:
    """Keep everything in `database`, which `migrate` has brought up to date and which stays its owner's to close."""
    return SqlOAuthStore(database)
