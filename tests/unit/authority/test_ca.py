"""Signing authorities: rotation by the clock, by steps that may each be the last before a power cut."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agentshield.authority.auditing import AuditUnavailableError
from agentshield.authority.authorities import AuthorityKind, AuthorityState
from agentshield.authority.ca import CertificateAuthority
from agentshield.authority.errors import NoAuthorityError, UnknownAuthorityError
from agentshield.authority.issuance import Issuance
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.errors import ConfigurationError
from agentshield.identity.bundle import BundleSet
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.identity.verify import verify_jwt_svid, verify_x509_svid

HOUR = timedelta(hours=1)
PLANNER = SpiffeId.of(TrustDomain("example.test"), "/agents/planner")


class PowerCutError(Exception):
    """The process ends here."""


@pytest.fixture
def make_ca(settings, store, keys, audit_log, clock):
    """Make a replica's authority on the shared store; by default with the shared keys."""

    def make(*, replica: str = "local", key_store=None, authorities=None) -> CertificateAuthority:
        own = replace(settings, replica=replica)
        return CertificateAuthority(
            own, authorities or store.authorities, keys if key_store is None else key_store, audit_log, clock
        )

    return make


@pytest.fixture
async def ca(make_ca) -> CertificateAuthority:
    made = make_ca()
    await made.start()
    return made


@pytest.fixture
def sign(settings, clock):
    """Issue each kind of SVID, which verifies them against the bundle on the way; return the first two."""

    def issue(authority: CertificateAuthority):
        issuance, at = Issuance(settings, authority), clock()
        key = generate_private_key().public_key()
        x509_svid = issuance.x509_svid(PLANNER, key, ttl=HOUR, dns_names=(), at=at)
        jwt_svid, _ = issuance.jwt_svid(PLANNER, ["api"], ttl=timedelta(minutes=5), with_jti=False, at=at)
        issuance.wit_svid(PLANNER, key, ttl=HOUR, at=at)
        return x509_svid, jwt_svid

    return issue


def of_kind(ca: CertificateAuthority, kind: AuthorityKind) -> dict[AuthorityState, str]:
    return {each.state: each.authority_id for each in ca.authorities() if each.kind is kind}


async def test_a_new_trust_domain_can_sign_at_once(ca, sign):
    """`agentshield up` is ready in seconds, so there is no waiting for a half life the first time."""
    sign(ca)
    for kind in AuthorityKind:
        assert list(of_kind(ca, kind)) == [AuthorityState.ACTIVE]


async def test_the_next_authority_is_published_long_before_it_signs(ca, clock, sign):
    """A peer that has not yet fetched the bundle would refuse what a brand-new authority signs."""
    (first,) = of_kind(ca, AuthorityKind.X509).values()
    clock.move(12 * HOUR - timedelta(minutes=1))
    await ca.tick()
    assert len(ca.bundle.x509_authorities) == len(ca.bundle.jwt_authorities) == 1
    clock.move(timedelta(minutes=2))  # half life
    await ca.tick()
    assert len(ca.bundle.x509_authorities) == len(ca.bundle.jwt_authorities) == 2
    assert sign(ca)[0].authority_id == first
    clock.move(8 * HOUR - timedelta(minutes=2))  # one sixth is left, less a minute
    await ca.tick()
    assert sign(ca)[0].authority_id == first
    clock.move(timedelta(minutes=2))
    await ca.tick()
    assert sign(ca)[0].authority_id != first


async def test_an_old_authority_stays_until_nothing_it_signed_is_valid(ca, clock, sign):
    """Removing it earlier fails the calls of everybody whose SVID is not yet renewed."""
    clock.move(12 * HOUR + timedelta(minutes=1))
    await ca.tick()
    clock.move(8 * HOUR - timedelta(minutes=2))
    x509_svid, jwt_svid = sign(ca)  # the last by the first authority
    clock.move(timedelta(minutes=3))
    await ca.tick()
    assert sign(ca)[0].authority_id != x509_svid.authority_id
    clock.move(timedelta(minutes=1))
    await ca.tick()
    bundles = BundleSet.of(ca.bundle)
    assert verify_jwt_svid(jwt_svid.token, bundles, audience="api", at=clock()).spiffe_id == PLANNER
    clock.now = x509_svid.expires_at - timedelta(seconds=1)
    await ca.tick()
    assert verify_x509_svid(x509_svid.chain, BundleSet.of(ca.bundle), at=clock()).spiffe_id == PLANNER
    clock.move(4 * HOUR + timedelta(minutes=1))
    await ca.tick()
    assert x509_svid.authority_id not in {each.authority_id for each in ca.authorities()}


async def test_the_sequence_number_rises_with_every_change_of_the_bundle(ca, clock):
    """Peers compare sequence numbers; two contents under one number is a peer that never learns of the second."""
    seen: dict[int, frozenset[bytes]] = {}
    for _ in range(72):
        content = frozenset(each.public_material for each in ca.authorities())
        assert seen.setdefault(ca.bundle.sequence, content) == content
        clock.move(HOUR)
        await ca.tick()
    assert len(seen) > 8
    assert list(seen) == sorted(seen)


async def test_there_is_always_an_authority_through_ten_rotations(ca, clock, sign):
    """Whatever the hour, an SVID can be had, and it verifies, and so does the one before it."""
    before = None
    for _ in range(400):
        svid, _ = sign(ca)
        if before is not None:
            verify_x509_svid(before.chain, BundleSet.of(ca.bundle), at=clock())
        before = svid
        clock.move(timedelta(minutes=31))
        await ca.tick()
    assert len(ca.authorities()) <= 6


async def test_nothing_outlives_its_authority(ca, clock, sign, settings):
    """An SVID that lasts longer than the authority behind it fails at a time nobody expects."""
    clock.move(24 * HOUR - timedelta(minutes=2))  # the rotation was not run: the old authority still signs
    x509_svid, jwt_svid = sign(ca)
    ends = {each.kind: each.not_after for each in ca.authorities()}
    assert x509_svid.expires_at <= ends[AuthorityKind.X509]
    assert jwt_svid.expires_at <= ends[AuthorityKind.JWT]
    clock.move(timedelta(minutes=3))
    with pytest.raises(NoAuthorityError):
        sign(ca)
    await ca.tick()
    sign(ca)


async def test_a_restart_takes_up_where_it_was(ca, make_ca, clock, sign):
    """A restart must not change who signs: peers would meet an authority they have never seen."""
    before = of_kind(ca, AuthorityKind.X509), of_kind(ca, AuthorityKind.JWT)
    again = make_ca()
    await again.start()
    assert (of_kind(again, AuthorityKind.X509), of_kind(again, AuthorityKind.JWT)) == before
    assert again.bundle == ca.bundle
    sign(again)


async def test_a_restart_after_the_authority_has_ended_makes_a_new_one(ca, make_ca, clock, sign):
    """A laptop that slept for a week must come back by itself."""
    clock.move(timedelta(days=7))
    again = make_ca()
    await again.start()
    sign(again)
    assert len(again.authorities()) == len(AuthorityKind)


async def test_a_lost_key_is_replaced_and_what_it_signed_stays_valid(ca, make_ca, clock, sign):
    """A restored database without its key files must start, and not cut off everybody at once."""
    before, _ = sign(ca)
    again = make_ca(key_store=MemoryKeyStore())
    await again.start()
    after, _ = sign(again)
    assert after.authority_id != before.authority_id
    verify_x509_svid(before.chain, BundleSet.of(again.bundle), at=clock())


async def test_replicas_sign_with_their_own_authorities_in_one_bundle(make_ca, store, clock, sign):
    """What one replica signs must verify against the bundle that any other hands out; keys never travel."""
    first, second = (make_ca(replica=name, key_store=MemoryKeyStore()) for name in "ab")
    await first.start()
    await second.start()
    await first.refresh()
    one, two = sign(first)[0], sign(second)[0]
    assert one.authority_id != two.authority_id
    assert first.bundle == second.bundle
    for bundle, svid in ((first.bundle, two), (second.bundle, one)):
        verify_x509_svid(svid.chain, BundleSet.of(bundle), at=clock())


async def test_a_tainted_authority_stops_signing_at_once_and_is_marked(ca, sign, clock, audit_log):
    """A leaked key must not sign one more; its SVIDs are replaced, not broken."""
    before, _ = sign(ca)
    await ca.taint(before.authority_id, by="ann")
    after, _ = sign(ca)
    assert after.authority_id != before.authority_id
    assert [each.tainted for each in ca.bundle.x509_authorities].count(True) == 1
    verify_x509_svid(before.chain, BundleSet.of(ca.bundle), at=clock())
    assert "authority.tainted" in audit_log.names()
    with pytest.raises(UnknownAuthorityError):
        await ca.taint("absent", by="ann")


async def test_a_tainted_authority_that_was_only_prepared_never_signs(ca, clock, sign):
    """Otherwise tainting the next authority would be undone by the clock."""
    clock.move(13 * HOUR)
    await ca.tick()
    prepared = of_kind(ca, AuthorityKind.X509)[AuthorityState.PREPARED]
    await ca.taint(prepared, by="ann")
    for _ in range(40):
        assert sign(ca)[0].authority_id != prepared
        clock.move(timedelta(minutes=29))
        await ca.tick()


async def test_without_a_log_no_authority_is_made(make_ca, audit_log, clock):
    """An authority that nobody can find in the log could sign for whoever slipped it in."""
    audit_log.is_broken = True
    ca = make_ca()
    with pytest.raises(AuditUnavailableError):
        await ca.start()
    assert ca.bundle.x509_authorities == ()
    with pytest.raises(NoAuthorityError):
        ca.x509_issuer(clock())


async def test_the_store_of_another_trust_domain_is_refused(ca, settings, store, keys, audit_log, clock):
    """A wrong state directory must be told, not given a second trust domain's authorities."""
    other = replace(settings, trust_domain=TrustDomain("other.test"))
    with pytest.raises(ConfigurationError, match=r"example\.test"):
        await CertificateAuthority(other, store.authorities, keys, audit_log, clock).start()


class PowerCut:
    """Ends the process before or after the n-th of a rotation's steps, wherever that may be."""

    STEPS = frozenset({"put", "prepare", "activate", "remove", "delete", "retire", "taint"})

    def __init__(self, at_step: int, when: str) -> None:
        self.left = at_step
        self.when = when
        self.is_over = False

    def now(self, when: str) -> None:
        if when == self.when:
            self.left -= 1
            if self.left == 0:
                self.is_over = True
                raise PowerCutError

    def around(self, target: object) -> object:
        return _Fragile(target, self)


class _Fragile:
    def __init__(self, target: object, cut: PowerCut) -> None:
        self._target, self._cut = target, cut

    def __getattr__(self, name: str):
        method = getattr(self._target, name)
        if name not in PowerCut.STEPS:
            return method
        if name in ("put", "delete"):  # the key store's are not async

            def step(*args):
                self._cut.now("before")
                method(*args)
                self._cut.now("after")

            return step

        async def async_step(*args, **kwargs):
            self._cut.now("before")
            await method(*args, **kwargs)
            self._cut.now("after")

        return async_step


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(1, 15))
async def test_a_power_cut_at_any_step_leaves_old_or_new_never_none(
    step: int, when: str, make_ca, store, keys, clock, sign
):
    """Three days of rotations, cut at each numbered step: the restart signs, and what was signed before verifies."""
    cut = PowerCut(step, when)
    fragile = make_ca(key_store=cut.around(keys), authorities=cut.around(store.authorities))
    signed = []

    async def run_for_days() -> None:
        await fragile.start()
        while True:
            signed.append(sign(fragile)[0])
            clock.move(HOUR)
            await fragile.tick()

    with pytest.raises(PowerCutError):
        await run_for_days()
    assert cut.is_over
    again = make_ca()
    await again.start()
    sign(again)
    for svid in signed[-1:]:
        verify_x509_svid(svid.chain, BundleSet.of(again.bundle), at=svid.expires_at - timedelta(seconds=1))
    for kind in AuthorityKind:
        states = [each.state for each in again.authorities() if each.kind is kind]
        assert states.count(AuthorityState.ACTIVE) == 1
        assert states.count(AuthorityState.PREPARED) <= 1
    assert set(keys.names()) <= {each.authority_id for each in again.authorities()}
