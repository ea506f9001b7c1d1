"""The keys that tokens are signed with, and how they follow one another.

(1) A sixth of its life before a key gives way, make the next one and store it: from here on it is in everybody's JWKS.
(2) When the first one's time is over the next one signs, on every replica, because its row says when.
(3) The first one stays published until the last token it can have signed has ended; then its row goes.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

import msgspec

from agentshield.clock import Clock
from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.jwk import KeySet, jwk_of, thumbprint
from agentshield.identity.keys import (
    KeyType,
    PrivateKey,
    generate_private_key,
    private_key_from_pkcs8,
    private_key_to_pkcs8,
    signing_algorithm,
)
from agentshield.oauth.key_store import KeyEncryptionKey, SealBrokenError, SigningKeyRecord, SigningKeyStore
from agentshield.oauth.model import MAX_TOKEN_LIFETIME
from agentshield.oauth.settings import MAX_CLOCK_SKEW, OAuthSettings

KEY_FILE: Final = "oauth-key-encryption.key"
DEFAULT_ALGORITHM: Final = "ES256"

_KEY_TYPES: Final = {"ES256": KeyType.EC_P256, "RS256": KeyType.RSA_2048}
_LEAD_SHARE: Final = 6


class NoSigningKeyError(UnavailableError):
    """No key of the algorithm may sign now."""

    code = "no_signing_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SigningKey:
    """A record, opened."""

    record: SigningKeyRecord
    private_key: PrivateKey = field(repr=False)


class SigningKeys:
    """What signs now, and what is published; `open` makes one. `rotate_if_due` now and then keeps it so."""

    def __init__(
        self, store: SigningKeyStore, sealing: KeyEncryptionKey, clock: Clock, settings: OAuthSettings, *, file: Path
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._clock = clock
        self._settings = settings
        self._file = file
        self._wanted = {DEFAULT_ALGORITHM}
        self._keys: tuple[_SigningKey, ...] = ()
        self._jwks = b'{"keys":[]}'
        self._key_set = KeySet.from_jwks(self._jwks, algorithms=frozenset(_KEY_TYPES))
        self._rotating = asyncio.Lock()

    @classmethod
    async def open(cls, store: SigningKeyStore, key_directory: Path, clock: Clock, settings: OAuthSettings) -> Self:
        """Take up the stored keys, or make the first. The key-encryption key is a file in `key_directory`.

        Raises:
            ConfigurationError: keys are stored, but the file is missing, unsafe or not the one they were sealed under.
            SealBrokenError: a stored key was tampered with.
            UnavailableError: the store is not there.
        """
        file = key_directory / KEY_FILE
        # Only an empty store may be given a new key: beside sealed keys, a missing file is a fault to be told.
        load = KeyEncryptionKey.load if file.exists() or await store.all() else KeyEncryptionKey.create
        keys = cls(store, await asyncio.to_thread(load, file), clock, settings, file=file)
        await keys.rotate_if_due(clock())
        return keys

    def signer(self, algorithm: str = DEFAULT_ALGORITHM) -> tuple[PrivateKey, str]:
        """Return the key that signs now, and its kid.

        Raises:
            NoSigningKeyError: there is none; `ensure` makes the first of an algorithm.
        """
        at = self._clock()
        # Past its time a key goes on until its successor has been published for as long as others may cache.
        grace = self._settings.jwks_cache
        for key in reversed(self._keys):
            record = key.record
            if record.algorithm == algorithm and record.active_from <= at < record.active_until + grace:
                return key.private_key, record.kid
        raise NoSigningKeyError(
            f"no {algorithm} key may sign now", hint="is the database reachable? the next key is made there"
        )

    def jwks(self) -> bytes:
        """Return the public keys as a JWK Set (RFC 7517, 5): those that sign, have signed, and are about to."""
        return self._jwks

    def key_set(self) -> KeySet:
        """Return the same keys, to verify with."""
        return self._key_set

    async def ensure(self, algorithm: str) -> None:
        """Make sure that `signer(algorithm)` has a key, and go on rotating it.

        Raises:
            ConfigurationError: it is not an algorithm we sign with.
            UnavailableError: the store is not there.
        """
        if algorithm not in _KEY_TYPES:
            raise ConfigurationError(f"algorithm is {algorithm[:40]!a}, expected one of {', '.join(_KEY_TYPES)}")
        self._wanted.add(algorithm)
        try:
            self.signer(algorithm)
        except NoSigningKeyError:
            await self.rotate_if_due(self._clock())

    async def rotate_if_due(self, at: datetime) -> None:
        """Read what other replicas stored, make the keys that are due, drop those that have ended.

        Call it at least once every `jwks_cache`.

        Raises:
            ConfigurationError: a key was sealed under another key-encryption key than ours.
            SealBrokenError: a stored key was tampered with; what was in use stays so.
            UnavailableError: the store is not there; what was in use stays so.
        """
        async with self._rotating:
            await self._store.drop_ended(at=at)
            records = await self._store.all()
            algorithms = self._wanted | {record.algorithm for record in records}
            made = [await self._make_if_due(algorithm, records, at) for algorithm in sorted(algorithms)]
            if any(made):
                records = await self._store.all()
            await self._take(records, at)

    async def _make_if_due(self, algorithm: str, records: Iterable[SigningKeyRecord], at: datetime) -> bool:
        newest = max(
            (record for record in records if record.algorithm == algorithm),
            key=lambda record: record.generation,
            default=None,
        )
        begins = self._next_begins(newest, at)
        if begins is None:
            return False
        generation = 1 if newest is None else newest.generation + 1
        # Where another replica was faster, its key is as good as ours.
        await self._store.add(await asyncio.to_thread(self._make, algorithm, generation, begins))
        return True

    def _next_begins(self, newest: SigningKeyRecord | None, at: datetime) -> datetime | None:
        """Return when the key that has to be made now will sign; None while it is too early for another."""
        if newest is None or at >= newest.active_until:
            return at  # nothing signs, so there is nothing to wait for: verifiers look again for a kid they do not know
        if at >= newest.active_until - self._settings.signing_key_lifetime / _LEAD_SHARE:
            return max(newest.active_until, at + self._settings.jwks_cache)
        return None

    def _make(self, algorithm: str, generation: int, begins: datetime) -> SigningKeyRecord:
        private_key = generate_private_key(_KEY_TYPES[algorithm])
        until = begins + self._settings.signing_key_lifetime
        record = SigningKeyRecord(
            kid=thumbprint(private_key.public_key()),
            algorithm=algorithm,
            generation=generation,
            active_from=begins,
            active_until=until,
            ends_at=until + self._settings.jwks_cache + _LAST_TOKEN,
            sealed_under=self._sealing.fingerprint,
            sealed=b"",
        )
        sealed = self._sealing.seal(private_key_to_pkcs8(private_key), context=record.context())
        return replace(record, sealed=sealed)

    async def _take(self, records: Iterable[SigningKeyRecord], at: datetime) -> None:
        live = [record for record in records if record.ends_at > at]
        known = {key.record: key for key in self._keys}
        if set(live) == set(known):
            return
        keys = tuple([await self._opened(record, known) for record in live])
        jwks = msgspec.json.encode({"keys": [_jwk(key) for key in keys]})
        self._key_set = KeySet.from_jwks(jwks, algorithms=frozenset(_KEY_TYPES))
        self._keys, self._jwks = keys, jwks

    async def _opened(self, record: SigningKeyRecord, known: Mapping[SigningKeyRecord, _SigningKey]) -> _SigningKey:
        if record in known:
            return known[record]
        return await asyncio.to_thread(self._open, record)  # checking an RSA key takes its time

    def _open(self, record: SigningKeyRecord) -> _SigningKey:
        if record.sealed_under != self._sealing.fingerprint:
            raise ConfigurationError(
                f"signing key {record.kid} was sealed under key-encryption key {record.sealed_under}, but {self._file} "
                f"is {self._sealing.fingerprint}",
                hint="every replica needs the same file: copy it from the one that made the key, or from a backup",
            )
        private_key = private_key_from_pkcs8(self._sealing.unseal(record.sealed, context=record.context()))
        if signing_algorithm(private_key) != record.algorithm or thumbprint(private_key.public_key()) != record.kid:
            raise SealBrokenError(f"signing key {record.kid} is not the {record.algorithm} key its row says it is")
        return _SigningKey(record=record, private_key=private_key)


# The longest that a token can be good after its key has stopped signing, on the slowest clock that is forgiven.
_LAST_TOKEN: Final[timedelta] = MAX_TOKEN_LIFETIME + MAX_CLOCK_SKEW


def _jwk(key: _SigningKey) -> dict[str, object]:
    return dict(jwk_of(key.private_key.public_key(), kid=key.record.kid, use="sig", alg=key.record.algorithm))
