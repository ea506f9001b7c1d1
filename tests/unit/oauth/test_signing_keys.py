"""Signing keys: known before they sign, kept until their last token has ended, of no use to who reads the database."""

import asyncio
import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.jwk import UnknownKeyError
from agentshield.identity.keys import private_key_from_pkcs8, private_key_to_pkcs8
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.key_store import KeyEncryptionKey, SealBrokenError
from agentshield.oauth.keys import KEY_FILE, NoSigningKeyError, SigningKeys
from agentshield.oauth.settings import OAuthSettings

START = datetime(2026, 11, 24, 2, 0, 0, 123456, tzinfo=UTC)
LIFE = timedelta(days=30)
LEAD = LIFE / 6
CACHE = timedelta(minutes=5)
LAST_TOKEN = timedelta(minutes=16)
SETTINGS = OAuthSettings(issuer="https://as.example.test", trust_domain=TrustDomain("example.test"))


@dataclass
class SteppedClock:
    """A clock that stands until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def stepped_clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def signing_keys(oauth_store, tmp_path: Path, stepped_clock: SteppedClock) -> SigningKeys:
    return await SigningKeys.open(oauth_store.keys, tmp_path / "keys", stepped_clock, SETTINGS)


async def at(keys: SigningKeys, clock: SteppedClock, moment: datetime) -> str:
    """Move to a moment, do what is due, and say which key signs."""
    clock.now = moment
    await keys.rotate_if_due(moment)
    return keys.signer("ES256")[1]


def published(keys: SigningKeys) -> set[str]:
    return {key["kid"] for key in json.loads(keys.jwks())["keys"]}


# Roll-over


async def test_the_first_key_signs_at_once_and_is_published(signing_keys: SigningKeys):
    """A server that starts must serve; and whoever verifies must find the key by the kid in the token."""
    private_key, kid = signing_keys.signer("ES256")
    (jwk,) = json.loads(signing_keys.jwks())["keys"]
    assert isinstance(private_key.curve, ec.SECP256R1)
    assert (jwk["kid"], jwk["alg"], jwk["use"], jwk["kty"]) == (kid, "ES256", "sig", "EC")
    x = base64.urlsafe_b64decode(jwk["x"] + "==")
    assert int.from_bytes(x) == private_key.public_key().public_numbers().x
    signing_keys.key_set().find(kid, "ES256")
    with pytest.raises(UnknownKeyError):
        signing_keys.key_set().find("another", "ES256")


async def test_no_private_member_is_ever_published(signing_keys: SigningKeys):
    """RFC 7517, 9.2: one `d` in the JWKS and everybody is the authorization server."""
    await signing_keys.ensure("RS256")
    for jwk in json.loads(signing_keys.jwks())["keys"]:
        assert set(jwk) <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}


async def test_a_key_is_published_before_it_signs_and_until_its_last_token_has_ended(
    signing_keys: SigningKeys, stepped_clock: SteppedClock
):
    """A key that signs unseen makes good tokens look forged; one dropped early does so to those that are out."""
    first = signing_keys.signer("ES256")[1]
    assert await at(signing_keys, stepped_clock, START + LIFE - LEAD - CACHE) == first
    assert published(signing_keys) == {first}

    assert await at(signing_keys, stepped_clock, START + LIFE - LEAD) == first
    assert len(published(signing_keys)) == 2
    (second,) = published(signing_keys) - {first}

    just_before = START + LIFE - timedelta(microseconds=1)
    assert await at(signing_keys, stepped_clock, just_before) == first
    stepped_clock.now = START + LIFE
    assert signing_keys.signer("ES256")[1] == second  # by the clock alone: no replica waits for another

    gone = START + LIFE + CACHE + LAST_TOKEN
    assert await at(signing_keys, stepped_clock, gone - timedelta(microseconds=1)) == second
    assert published(signing_keys) == {first, second}
    await at(signing_keys, stepped_clock, gone)
    assert published(signing_keys) == {second}
    with pytest.raises(UnknownKeyError):
        signing_keys.key_set().find(first, "ES256")


async def test_every_key_that_ever_signs_was_published_for_a_caches_time(
    signing_keys: SigningKeys, stepped_clock: SteppedClock
):
    """Over half a year, looked at now and then, there is always a key that signs, and never a new one."""
    seen_since = dict.fromkeys(published(signing_keys), START - CACHE)
    signers = set()
    for hours in range(7, 24 * 190, 7):
        moment = START + timedelta(hours=hours)
        signer = await at(signing_keys, stepped_clock, moment)
        for kid in published(signing_keys):
            seen_since.setdefault(kid, moment)
        assert signer in published(signing_keys)
        assert moment - seen_since[signer] >= CACHE
        signers.add(signer)
        assert len(published(signing_keys)) <= 2
    assert len(signers) == 7


async def test_after_a_look_that_came_late_the_successor_still_waits_for_the_caches(
    signing_keys: SigningKeys, stepped_clock: SteppedClock
):
    """A server that was off until a minute before the change keeps signing with the known key meanwhile."""
    first = signing_keys.signer("ES256")[1]
    late = START + LIFE - timedelta(minutes=1)
    assert await at(signing_keys, stepped_clock, late) == first
    assert await at(signing_keys, stepped_clock, late + CACHE - timedelta(microseconds=1)) == first
    assert await at(signing_keys, stepped_clock, late + CACHE) != first


async def test_after_a_long_stop_a_new_key_signs_at_once(signing_keys: SigningKeys, stepped_clock: SteppedClock):
    """Nothing that a cache knows can sign any more; waiting would be an outage without a gain."""
    first = signing_keys.signer("ES256")[1]
    assert await at(signing_keys, stepped_clock, START + 3 * LIFE) != first
    assert first not in published(signing_keys)


async def test_a_key_whose_time_is_over_does_not_sign_when_rotation_has_failed(
    signing_keys: SigningKeys, stepped_clock: SteppedClock
):
    """A token signed later than the key's end would outlive its publication."""
    signing_keys.signer("ES256")
    stepped_clock.now = START + LIFE + CACHE
    with pytest.raises(NoSigningKeyError, match="ES256"):
        signing_keys.signer("ES256")


async def test_rs256_is_made_when_somebody_asks_for_it(signing_keys: SigningKeys, stepped_clock: SteppedClock):
    """An RSA key costs time and a place in every cache; but Entra reads nothing else."""
    with pytest.raises(NoSigningKeyError, match="RS256"):
        signing_keys.signer("RS256")
    await signing_keys.ensure("RS256")
    private_key, kid = signing_keys.signer("RS256")
    signature = private_key.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    private_key.public_key().verify(signature, b"x", padding.PKCS1v15(), hashes.SHA256())
    assert {key["kid"]: key["alg"] for key in json.loads(signing_keys.jwks())["keys"]}[kid] == "RS256"
    await signing_keys.ensure("RS256")
    assert len(published(signing_keys)) == 2
    stepped_clock.now = START + LIFE
    await signing_keys.rotate_if_due(stepped_clock.now)
    assert len(published(signing_keys)) == 4  # both roll over


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "", "es256"])
async def test_no_other_algorithm_signs(signing_keys: SigningKeys, algorithm: str):
    """An algorithm that a resource's record misspells must not become a new kind of key."""
    with pytest.raises(ConfigurationError, match="expected one of ES256, RS256"):
        await signing_keys.ensure(algorithm)
    with pytest.raises(NoSigningKeyError):
        signing_keys.signer(algorithm)


# Replicas


async def test_replicas_sign_with_and_publish_the_same_keys(oauth_replicas, tmp_path: Path, stepped_clock):
    """A token from one replica must verify by the other's JWKS, also when both start in the same moment."""
    KeyEncryptionKey.create(tmp_path / KEY_FILE)
    keys = await asyncio.gather(
        *(SigningKeys.open(store.keys, tmp_path, stepped_clock, SETTINGS) for store in oauth_replicas)
    )
    for moment in (START, START + LIFE - LEAD, START + LIFE):
        stepped_clock.now = moment
        await asyncio.gather(*(each.rotate_if_due(moment) for each in keys))
        await keys[0].rotate_if_due(moment)
        await keys[1].rotate_if_due(moment)
        assert keys[0].signer("ES256")[1] == keys[1].signer("ES256")[1]
        assert published(keys[0]) == published(keys[1])
    assert len(published(keys[0])) == 2


async def test_a_restart_takes_up_the_keys_that_are_there(oauth_store, tmp_path: Path, stepped_clock):
    """A key that dies with the process takes every token it signed with it."""
    first = await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)
    again = await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)
    mine, theirs = first.signer("ES256")[0], again.signer("ES256")[0]
    assert mine.private_numbers() == theirs.private_numbers()
    assert first.jwks() == again.jwks()


# What somebody else may try


async def test_another_key_encryption_key_opens_nothing(
    signing_keys: SigningKeys, oauth_store, tmp_path: Path, stepped_clock
):
    """A replica with the wrong file must say so and stop, not sign with keys of its own that no other one knows."""
    KeyEncryptionKey.create(tmp_path / "other" / KEY_FILE)
    with pytest.raises(ConfigurationError, match="sealed under key-encryption key") as refusal:
        await SigningKeys.open(oauth_store.keys, tmp_path / "other", stepped_clock, SETTINGS)
    assert str(tmp_path / "other" / KEY_FILE) in str(refusal.value)
    assert "copy it" in refusal.value.hint
    assert len(await oauth_store.keys.all()) == 1


async def test_a_lost_key_encryption_key_is_not_replaced(
    signing_keys: SigningKeys, oauth_store, tmp_path: Path, stepped_clock
):
    """A new file beside old keys would hide the loss until the restart of the last replica that has the old one."""
    (tmp_path / "keys" / KEY_FILE).unlink()
    with pytest.raises(ConfigurationError, match="cannot read key-encryption key") as refusal:
        await SigningKeys.open(oauth_store.keys, tmp_path / "keys", stepped_clock, SETTINGS)
    assert "backup" in refusal.value.hint
    assert not (tmp_path / "keys" / KEY_FILE).exists()


@pytest.mark.parametrize("part", ["nonce", "key", "tag", "truncated", "empty"])
async def test_a_tampered_key_is_refused(oauth_store, tmp_path: Path, stepped_clock, part: str):
    """Whoever can write to the database must not choose what we sign with, not even to break it quietly."""
    await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)
    (record,) = await oauth_store.keys.all()
    spots = {"nonce": 0, "key": 40, "tag": len(record.sealed) - 1}
    if part in spots:
        spoilt = bytearray(record.sealed)
        spoilt[spots[part]] ^= 1
    else:
        spoilt = record.sealed[:20] if part == "truncated" else b""
    await oauth_store.keys.drop_ended(at=record.ends_at)
    await oauth_store.keys.add(replace(record, sealed=bytes(spoilt)))
    with pytest.raises(SealBrokenError, match="does not open"):
        await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "another"},
        {"generation": 7},
        {"algorithm": "RS256"},
        {"active_from": START - LIFE},
        {"active_until": START + 2 * LIFE},
        {"ends_at": START + 9 * LIFE},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_row_that_was_made_to_say_something_else_is_refused(
    oauth_store, tmp_path: Path, stepped_clock, change: dict
):
    """A key that leaked and was retired must not be brought back by setting its dates anew."""
    await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)
    (record,) = await oauth_store.keys.all()
    await oauth_store.keys.drop_ended(at=record.ends_at)
    await oauth_store.keys.add(replace(record, **change))
    with pytest.raises(SealBrokenError):
        await SigningKeys.open(oauth_store.keys, tmp_path, stepped_clock, SETTINGS)


async def test_a_key_planted_in_the_database_is_not_published(
    signing_keys: SigningKeys, oauth_store, tmp_path: Path, stepped_clock
):
    """Write access to one table must not be a way to sign tokens: a planted key is refused, the known ones stay."""
    (record,) = await oauth_store.keys.all()
    before = signing_keys.jwks()
    forged = KeyEncryptionKey.create(tmp_path / "mallory.key")
    planted = replace(record, kid="planted", generation=2, sealed_under=forged.fingerprint)
    planted = replace(planted, sealed=forged.seal(b"x", context=planted.context()))
    await oauth_store.keys.add(planted)
    with pytest.raises(ConfigurationError):
        await signing_keys.rotate_if_due(START)
    assert signing_keys.jwks() == before
    signing_keys.signer("ES256")


async def test_a_dump_of_the_database_gives_no_key(oauth_replicas, tmp_path: Path, stepped_clock):
    """Backups are read by more people than servers are; the file beside the database is not in them."""
    store = oauth_replicas[0]
    keys = await SigningKeys.open(store.keys, tmp_path / "keys", stepped_clock, SETTINGS)
    private_key, _ = keys.signer("ES256")
    (record,) = await store.keys.all()
    secret = private_key.private_numbers().private_value.to_bytes(32)
    assert secret in private_key_to_pkcs8(private_key)
    assert secret not in record.sealed
    with pytest.raises(Exception, match="PKCS#8"):
        private_key_from_pkcs8(record.sealed)


async def test_no_repr_shows_a_key(signing_keys: SigningKeys, oauth_store, tmp_path: Path):
    """A log line with an object in it must not be a copy of the key."""
    (record,) = await oauth_store.keys.all()
    secret = (tmp_path / "keys" / KEY_FILE).read_bytes()
    sealing = KeyEncryptionKey.load(tmp_path / "keys" / KEY_FILE)
    private_value = signing_keys.signer("ES256")[0].private_numbers().private_value
    shown = " ".join(map(repr, (signing_keys, signing_keys._keys, record, sealing)))
    assert repr(record.sealed) not in shown
    assert "sealed=" not in shown
    for form in (secret.hex(), repr(secret), str(private_value), f"{private_value:x}"):
        assert form not in shown
    assert not hasattr(sealing, "__dict__")


async def test_a_store_that_is_away_leaves_what_is_in_use(signing_keys: SigningKeys, oauth_store, monkeypatch):
    """A database restart is no reason to forget the keys that verify."""
    before = signing_keys.jwks()

    async def away() -> None:
        raise UnavailableError("gone")

    monkeypatch.setattr(oauth_store.keys, "all", away)
    with pytest.raises(UnavailableError):
        await signing_keys.rotate_if_due(START)
    assert signing_keys.jwks() == before


# The file


def test_the_file_is_ours_alone_and_made_once(tmp_path: Path):
    """Who reads this file and a backup can sign as us."""
    path = tmp_path / "new" / KEY_FILE
    first, second = KeyEncryptionKey.create(path), KeyEncryptionKey.create(path)
    assert first.fingerprint == second.fingerprint == KeyEncryptionKey.load(path).fingerprint
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == [KEY_FILE]
    assert len(path.read_bytes()) == 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int):
    """Starting anyway would hide that it may have been copied."""
    path = tmp_path / KEY_FILE
    KeyEncryptionKey.create(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="expected 0600"):
        KeyEncryptionKey.load(path)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 64])
def test_a_file_of_another_length_is_refused(tmp_path: Path, content: bytes):
    """Half a key, or one with a line break after it, is not quietly another key."""
    path = tmp_path / KEY_FILE
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="expected 32 bytes") as refusal:
        KeyEncryptionKey.load(path)
    assert "xx" not in str(refusal.value)


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path):
    """Who can write to the directory must not make us read a key they chose elsewhere."""
    KeyEncryptionKey.create(tmp_path / "elsewhere.key")
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(ConfigurationError, match="cannot read"):
        KeyEncryptionKey.load(tmp_path / KEY_FILE)


def test_where_no_file_can_be_written_none_is_used(tmp_path: Path):
    """A key that exists in memory alone would be lost with the process, and every sealed key with it."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write key-encryption key"):
        KeyEncryptionKey.create(tmp_path / "file" / KEY_FILE)
