"""Bundles of other trust domains in SQL, each as the SPIFFE document it came as."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from agentshield.authority.errors import BundleNotFoundError
from agentshield.authority.sql_events import Counter, bump, note
from agentshield.authority.sql_schema import FEDERATED_BUNDLES
from agentshield.authority.store import Noun
from agentshield.database.engine import Database
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.spiffe_id import TrustDomain


class SqlFederatedBundles:
    """The federated_bundles table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, bundle: TrustBundle, *, at: datetime) -> None:
        """Add or replace a bundle."""
        name, document = bundle.trust_domain.name, bundle.to_json()

        def job(connection: Connection) -> None:
            connection.execute(delete(FEDERATED_BUNDLES).where(FEDERATED_BUNDLES.c.trust_domain == name))
            connection.execute(insert(FEDERATED_BUNDLES).values(trust_domain=name, document=document))
            _changed(connection, name, at)

        await self._database.write(job)

    async def delete(self, trust_domain: TrustDomain, *, at: datetime) -> None:
        """Forget a bundle."""
        gone = delete(FEDERATED_BUNDLES).where(FEDERATED_BUNDLES.c.trust_domain == trust_domain.name)

        def job(connection: Connection) -> None:
            if not connection.execute(gone).rowcount:
                raise BundleNotFoundError(f"there is no bundle of trust domain {trust_domain}")
            _changed(connection, trust_domain.name, at)

        await self._database.write(job)

    async def all(self) -> tuple[TrustBundle, ...]:
        """Return every bundle, by trust domain."""
        rows = await self._database.read(lambda connection: connection.execute(select(FEDERATED_BUNDLES)).all())
        bundles = (TrustBundle.from_json(TrustDomain(row.trust_domain), row.document) for row in rows)
        return tuple(sorted(bundles, key=lambda bundle: bundle.trust_domain))


def read_federated(connection: Connection) -> tuple[TrustDomain, ...]:
    """Return the trust domains we hold bundles of, as one transaction sees them."""
    names = connection.execute(select(FEDERATED_BUNDLES.c.trust_domain)).scalars()
    return tuple(sorted(map(TrustDomain, names)))


def _changed(connection: Connection, name: str, at: datetime) -> None:
    bump(connection, Counter.ENFORCEMENT)  # enforcement points know callers of federated trust domains by the list
    note(connection, Noun.FEDERATED_BUNDLE, name, at)
