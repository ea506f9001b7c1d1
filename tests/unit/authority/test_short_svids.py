"""An SVID of a few seconds is replaced at its half-life, like every other."""

from datetime import UTC, datetime, timedelta

import pytest

from agentshield.audit.event import AuditEvent
from agentshield.audit.log import Receipt
from agentshield.authority.ca import CertificateAuthority
from agentshield.authority.issuance import Issuance
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.settings import AuthoritySettings
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DOMAIN = TrustDomain("example.test")


class Sink:
    async def record(self, *events: AuditEvent) -> tuple[Receipt, ...]:
        return tuple(Receipt(index, event.event_id) for index, event in enumerate(events))


@pytest.mark.parametrize("seconds", [2, 8, 20, 60, 3600])
async def test_half_life_lies_ahead_when_an_svid_is_issued(seconds):
    """A half-life in the past is replaced at once and for ever: the node agent would ask a hundred times a second."""
    settings = AuthoritySettings(trust_domain=DOMAIN)
    store = memory_store()
    ca = CertificateAuthority(settings, store.authorities, MemoryKeyStore(), Sink(), lambda: NOW)
    await ca.start()
    issued = Issuance(settings, ca).x509_svid(
        SpiffeId.of(DOMAIN, "/agents/planner"),
        generate_private_key().public_key(),
        ttl=timedelta(seconds=seconds),
        dns_names=(),
        at=NOW,
    )
    leaf = issued.chain[0]
    half_life = leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 2
    assert half_life >= NOW + timedelta(seconds=seconds) * 0.25
