"""The trust domain's signing authorities: prepared, published, then used; old ones stay until nothing needs them.

Each replica has authorities of its own, one of each kind signing at any time; the journal in the store has them all,
and all of it is the trust bundle. A rotation is a row of small steps, and after each of them a restart finds either the
old authority or the new one able to sign:

(1) make a key and keep it;
(2) write the authority down as prepared: from here on it is in everybody's bundle;
(3) when a sixth of the active one's life is left, make the prepared one active and the active one old, at once;
(4) when an authority has ended (nothing it signed outlives it), take it out of the journal;
(5) drop its key.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from agentshield.audit.events import AuthorityRotated
from agentshield.audit.log import AuditSink
from agentshield.authority.auditing import record
from agentshield.authority.authorities import AuthorityKind, AuthorityRecord, AuthorityState, bundle_of
from agentshield.authority.errors import NoAuthorityError, UnknownAuthorityError
from agentshield.authority.key_store import KeyStore
from agentshield.authority.model import server_id
from agentshield.authority.settings import CA_SHARE, AuthoritySettings
from agentshield.authority.store import AuthorityStore, Journal
from agentshield.clock import Clock
from agentshield.errors import ConfigurationError
from agentshield.identity.bundle import TrustBundle
from agentshield.identity.issue import JwtIssuer, WitIssuer, X509Issuer, authority_id, self_signed_ca
from agentshield.identity.keys import PrivateKey, generate_private_key, public_key_to_spki
from agentshield.identity.x509_svid import check_signing_profile

BACKDATE: Final = timedelta(seconds=10)  # for peers whose clocks are behind

_Issuer = X509Issuer | JwtIssuer | WitIssuer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signer:
    record: AuthorityRecord
    issuer: _Issuer = field(repr=False)


class CertificateAuthority:
    """Signs for one trust domain, as one replica. `tick` now and then keeps it rotating; only one at a time."""

    def __init__(
        self, settings: AuthoritySettings, store: AuthorityStore, keys: KeyStore, sink: AuditSink, clock: Clock
    ) -> None:
        self._settings = settings
        self._store = store
        self._keys = keys
        self._sink = sink
        self._clock = clock
        self._journal = Journal(sequence=0, authorities=())
        self._bundle = TrustBundle(trust_domain=settings.trust_domain)
        self._signers: dict[AuthorityKind, _Signer] = {}
        self._rotating = asyncio.Lock()

    @property
    def bundle(self) -> TrustBundle:
        """The trust bundle: every authority of every replica, in the state last read from the journal."""
        return self._bundle

    def x509_issuer(self, at: datetime) -> X509Issuer:
        """Return the X.509 authority that signs now. Raises: NoAuthorityError."""
        issuer = self._active(AuthorityKind.X509, at).issuer
        assert isinstance(issuer, X509Issuer)
        return issuer

    def jwt_issuer(self, at: datetime) -> tuple[JwtIssuer, datetime]:
        """Return the JWT authority that signs now, and when it ends. Raises: NoAuthorityError."""
        signer = self._active(AuthorityKind.JWT, at)
        assert isinstance(signer.issuer, JwtIssuer)
        return signer.issuer, signer.record.not_after

    def wit_issuer(self, at: datetime) -> tuple[WitIssuer, datetime]:
        """Return the WIT authority that signs now, and when it ends. Raises: NoAuthorityError."""
        signer = self._active(AuthorityKind.WIT, at)
        assert isinstance(signer.issuer, WitIssuer)
        return signer.issuer, signer.record.not_after

    async def start(self) -> None:
        """Take up what the journal and the key store have, and make what is missing.

        Raises:
            ConfigurationError: the journal is that of another trust domain.
            UnavailableError: the store, the key store or the audit log is not there.
        """
        async with self._rotating:
            journal = await self._store.journal()
            self._check_ours(journal)
            mine = [each for each in journal.authorities if each.replica == self._settings.replica]
            for each in mine:
                if each.state is not AuthorityState.OLD and self._keys.find(each.authority_id) is None:
                    await self._store.retire(each.authority_id, at=self._clock())  # its key is lost
            for orphan in set(self._keys.names()) - {each.authority_id for each in mine}:
                self._keys.delete(orphan)  # made in step (1), never written down in step (2), or past step (4)
            await self._refresh()
        await self.tick()

    async def tick(self) -> None:
        """Rotate what is due. Raises: UnavailableError; what was active stays so."""
        async with self._rotating:
            for kind in AuthorityKind:
                await self._prepare_if_due(kind)
                await self._activate_if_due(kind)
            await self._remove_ended()

    async def refresh(self) -> None:
        """Read the journal again: another replica may have written to it."""
        async with self._rotating:
            await self._refresh()

    async def taint(self, authority_id: str, *, by: str) -> None:
        """Stop using an authority at once; what it signed stays verifiable, and is marked for replacement.

        Raises:
            UnknownAuthorityError: the journal has no such authority.
        """
        async with self._rotating:
            await self._store.taint(authority_id, at=self._clock())
            await self._refresh()
        tainted = next(each for each in self._journal.authorities if each.authority_id == authority_id)
        await self._record("tainted", tainted, by=by)
        await self.tick()

    def authorities(self) -> tuple[AuthorityRecord, ...]:
        """Return every authority of the journal, as last read."""
        return self._journal.authorities

    async def _prepare_if_due(self, kind: AuthorityKind) -> None:
        at = self._clock()
        active, prepared = self._find(kind, AuthorityState.ACTIVE), self._find(kind, AuthorityState.PREPARED)
        if prepared is not None and (prepared.tainted or at >= prepared.not_after):
            await self._store.retire(prepared.authority_id, at=at)
            prepared = None
        if prepared is None and (active is None or _must_go(active, at) or at >= _half_life(active)):
            key, authority = await asyncio.to_thread(self._make, kind, at)
            await self._record("prepared", authority, by="")
            await asyncio.to_thread(self._keys.put, authority.authority_id, key)  # (1)
            await self._store.prepare(authority, at=at)  # (2)
            await self._refresh()

    async def _activate_if_due(self, kind: AuthorityKind) -> None:
        at = self._clock()
        active, prepared = self._find(kind, AuthorityState.ACTIVE), self._find(kind, AuthorityState.PREPARED)
        if prepared is not None and (active is None or _must_go(active, at) or at >= _last_sixth(active)):
            await self._record("activated", prepared, by="")
            await self._store.activate(prepared.authority_id, at=at)  # (3)
            await self._refresh()

    async def _remove_ended(self) -> None:
        at = self._clock()
        # Any replica's: one that was scaled away does not come back to clear up.
        ended = [each for each in self._journal.authorities if at >= each.not_after + BACKDATE]
        for each in ended:
            try:
                await self._store.remove(each.authority_id, at=at)  # (4)
            except UnknownAuthorityError:
                continue  # another replica was faster, and has put it on record
            await self._record("retired", each, by="")
        for each in ended:
            if each.replica == self._settings.replica:
                self._keys.delete(each.authority_id)  # (5)
        if ended:
            await self._refresh()

    async def _refresh(self) -> None:
        journal = await self._store.journal()
        if journal == self._journal:
            return
        self._bundle = bundle_of(
            self._settings.trust_domain,
            journal.authorities,
            sequence=journal.sequence,
            refresh_hint=self._settings.bundle_refresh_hint,
        )
        signers = ((kind, self._signer(journal, kind)) for kind in AuthorityKind)
        self._signers = {kind: signer for kind, signer in signers if signer is not None}
        self._journal = journal

    def _signer(self, journal: Journal, kind: AuthorityKind) -> _Signer | None:
        active = _find(journal, kind, AuthorityState.ACTIVE, self._settings.replica)
        known = self._signers.get(kind)
        if known is not None and known.record == active:
            return known
        key = None if active is None else self._keys.find(active.authority_id)
        if active is None or key is None:
            return None
        return _Signer(record=active, issuer=self._issuer(active, key))

    def _check_ours(self, journal: Journal) -> None:
        for stored in journal.authorities:
            if stored.kind is AuthorityKind.X509:
                owner = check_signing_profile(stored.certificate)
                if owner != self._settings.trust_domain:
                    raise ConfigurationError(
                        f"this store belongs to trust domain {owner}, not to {self._settings.trust_domain}",
                        hint="one store is one trust domain: use another state directory or database",
                    )

    def _make(self, kind: AuthorityKind, at: datetime) -> tuple[PrivateKey, AuthorityRecord]:
        settings = self._settings
        is_ca = kind is AuthorityKind.X509
        key = generate_private_key(settings.ca_key_type if is_ca else settings.jwt_key_type)
        begins, ends = (at - BACKDATE).replace(microsecond=0), (at + settings.ca_ttl).replace(microsecond=0)
        if is_ca:
            certificate = self_signed_ca(settings.trust_domain, key, not_before=begins, not_after=ends)
            name, public_material = authority_id(certificate), certificate.public_bytes(Encoding.DER)
        else:
            # Random, so that no two token authorities ever share a kid (WIT-SVID 6.1)
            name, public_material = secrets.token_hex(16), public_key_to_spki(key.public_key())
        return key, AuthorityRecord(
            authority_id=name,
            kind=kind,
            replica=settings.replica,
            state=AuthorityState.PREPARED,
            public_material=public_material,
            not_before=begins,
            not_after=ends,
        )

    def _issuer(self, record: AuthorityRecord, key: PrivateKey) -> _Issuer:
        home = self._settings.trust_domain
        match record.kind:
            case AuthorityKind.X509:
                return X509Issuer(trust_domain=home, certificate=record.certificate, private_key=key)
            case AuthorityKind.JWT:
                return JwtIssuer(trust_domain=home, key_id=record.authority_id, private_key=key)
            case AuthorityKind.WIT:
                return WitIssuer(trust_domain=home, key_id=record.authority_id, private_key=key)

    def _active(self, kind: AuthorityKind, at: datetime) -> _Signer:
        signer = self._signers.get(kind)
        if signer is None or at >= signer.record.not_after:
            raise NoAuthorityError(
                f"trust domain {self._settings.trust_domain} has no active {kind} authority on replica "
                f"{self._settings.replica}",
                hint="has the authority been stopped for longer than ca_ttl? it makes a new one within seconds",
            )
        return signer

    def _find(self, kind: AuthorityKind, state: AuthorityState) -> AuthorityRecord | None:
        return _find(self._journal, kind, state, self._settings.replica)

    async def _record(self, change: str, authority: AuthorityRecord, *, by: str) -> None:
        await record(
            self._sink,
            AuthorityRotated(
                at=self._clock(),
                change=change,
                by=by or str(server_id(self._settings.trust_domain)),
                authority_id=authority.authority_id,
                authority_type=authority.kind.value,
                expires_at=authority.not_after,
            ),
        )


def _find(journal: Journal, kind: AuthorityKind, state: AuthorityState, replica: str) -> AuthorityRecord | None:
    wanted = (kind, state, replica)
    return next((each for each in journal.authorities if (each.kind, each.state, each.replica) == wanted), None)


def _must_go(active: AuthorityRecord, at: datetime) -> bool:
    return active.tainted or at >= active.not_after


def _half_life(active: AuthorityRecord) -> datetime:
    return active.not_before + (active.not_after - active.not_before) / 2


def _last_sixth(active: AuthorityRecord) -> datetime:
    return active.not_after - (active.not_after - active.not_before) / CA_SHARE
