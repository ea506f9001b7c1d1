"""A federated partner's authority signs the name of one of our nodes, or slips its roots in as ours.

A node's SVID opens the port that hands out everybody's SVIDs, so this is the forgery worth most.
"""

from datetime import UTC, datetime, timedelta

import pytest

from agentshield.audit.log import Receipt
from agentshield.authority.errors import ForeignTrustDomainError
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.model import RegistrationEntry, all_nodes_id
from agentshield.authority.selectors import Selector
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.errors import InvalidInputError
from agentshield.identity.bundle import JwtAuthority, TrustBundle, X509Authority
from agentshield.identity.errors import UntrustedSvidError
from agentshield.identity.issue import JwtIssuer, X509Issuer, make_csr
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OURS, PARTNER = TrustDomain("example.test"), TrustDomain("partner.test")
DAY = timedelta(days=1)


class Sink:
    """Takes every event."""

    async def record(self, *events) -> tuple[Receipt, ...]:
        return tuple(Receipt(index=0, event_id=event.event_id) for event in events)


@pytest.fixture
async def authority():
    settings = AuthoritySettings(trust_domain=OURS)
    async with AuthorityService(settings, memory_store(), MemoryKeyStore(), Sink(), clock=lambda: NOW) as service:
        yield service


@pytest.fixture
def partner() -> X509Issuer:
    return X509Issuer.self_signed(PARTNER, not_before=NOW - DAY, not_after=NOW + DAY)


@pytest.fixture
async def node(authority):
    token = await authority.create_join_token()
    return await authority.attest_node("join_token", token.value.encode(), make_csr(generate_private_key()))


def signed_by(forger: X509Issuer, spiffe_id: SpiffeId):
    """What the partner's key can sign, whatever its software would refuse: an issuer that believes it is ours."""
    as_ours = X509Issuer.self_signed(spiffe_id.trust_domain, not_before=NOW - DAY, not_after=NOW + DAY)
    object.__setattr__(as_ours, "private_key", forger.private_key)
    key = generate_private_key().public_key()
    return as_ours.issue_x509_svid(spiffe_id, key, not_before=NOW, not_after=NOW + timedelta(hours=1))


async def test_a_partners_signature_under_our_nodes_name_is_refused(authority, node, partner):
    """Whoever the partner is hacked by would be every workload of ours."""
    bundle = TrustBundle(trust_domain=PARTNER, x509_authorities=(X509Authority(certificate=partner.certificate),))
    await authority.set_federated_bundle(bundle)
    forged = signed_by(partner, node.node.spiffe_id)
    for chain in (forged, (*forged, partner.certificate)):
        with pytest.raises(UntrustedSvidError):
            verify_x509_svid(chain, authority.bundles(), at=NOW)


async def test_a_partners_own_node_is_not_ours(authority, node, partner):
    """A partner's SVID is good for being the partner, and for nothing at this port."""
    bundle = TrustBundle(trust_domain=PARTNER, x509_authorities=(X509Authority(certificate=partner.certificate),))
    await authority.set_federated_bundle(bundle)
    theirs = SpiffeId.of(PARTNER, node.node.spiffe_id.path)
    key = generate_private_key().public_key()
    chain = partner.issue_x509_svid(theirs, key, not_before=NOW, not_after=NOW + timedelta(hours=1))
    identity = verify_x509_svid(chain, authority.bundles(), at=NOW)
    with pytest.raises(ForeignTrustDomainError):
        await authority.authenticate_node(identity)


async def test_a_partners_key_does_not_verify_our_tokens(authority):
    """The same, for JWT-SVIDs."""
    key = generate_private_key()
    bundle = TrustBundle(
        trust_domain=PARTNER, jwt_authorities=(JwtAuthority(key_id="k1", public_key=key.public_key()),)
    )
    await authority.set_federated_bundle(bundle)
    forger = JwtIssuer(trust_domain=OURS, key_id="k1", private_key=key)
    admin = SpiffeId.of(OURS, "/admin")
    token = forger.issue_jwt_svid(admin, ["api"], issued_at=NOW, expires_at=NOW + timedelta(minutes=5)).token
    with pytest.raises(UntrustedSvidError):
        verify_jwt_svid(token, authority.bundles(), audience="api", at=NOW)


async def test_our_own_bundle_cannot_be_set_from_outside(authority, partner):
    """`bundle set` with our own name would replace the roots of everybody's trust."""
    before = authority.bundle()
    with pytest.raises(ForeignTrustDomainError):
        await authority.set_federated_bundle(TrustBundle(trust_domain=OURS))
    with pytest.raises(InvalidInputError):
        TrustBundle(trust_domain=OURS, x509_authorities=(X509Authority(certificate=partner.certificate),))
    assert authority.bundle() == before
    assert authority.bundles().bundle_for(OURS) == before


async def test_the_authority_signs_nothing_outside_its_trust_domain(authority):
    """A compromise of ours must not become the partner's."""
    entry = RegistrationEntry(
        spiffe_id=SpiffeId.of(PARTNER, "/billing"),
        parent_id=all_nodes_id(OURS),
        selectors=(Selector("unix", "uid:1000"),),
    )
    with pytest.raises(ForeignTrustDomainError):
        await authority.create_entry(entry)
    issuance = authority._issuance
    key = generate_private_key().public_key()
    with pytest.raises(ForeignTrustDomainError):
        issuance.x509_svid(entry.spiffe_id, key, ttl=timedelta(hours=1), dns_names=(), at=NOW)
    with pytest.raises(ForeignTrustDomainError):
        issuance.jwt_svid(entry.spiffe_id, ["api"], ttl=timedelta(minutes=5), with_jti=False, at=NOW)
