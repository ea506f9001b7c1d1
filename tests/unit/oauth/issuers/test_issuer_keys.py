"""Keys of an issuer: kept, refreshed, asked for again; and whose they may be."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from agentshield.identity.jwk import UnknownKeyError, jwk_of
from agentshield.identity.keys import generate_private_key
from agentshield.oauth.issuers.errors import KeysUnavailableError
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.issuers.key_source import LONGEST, SHORTEST, STALE, USUAL, KeySource, read_keys


@pytest.fixture
def keys(settings) -> KeySource:
    return KeySource(IssuerFetch(settings))


async def test_keys_are_found_by_discovery_and_kept(foreign, record, keys, clock):
    """One question serves all tokens until the keys run out."""
    for _ in range(5):
        found = await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    assert found.find("k1", "ES256").public_key == foreign.keys["k1"].public_key()
    assert foreign.asked == ["/.well-known/openid-configuration", "/keys"]
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock.advance(USUAL))
    assert foreign.asked.count("/keys") == 2


async def test_keys_at_a_url_need_no_discovery(foreign, record, keys, clock):
    """Clusters and others publish keys alone."""
    await keys.keys_for(replace(record, jwks_url=foreign.url + "/keys"), kid="k1", alg="ES256", at=clock())
    assert foreign.asked == ["/keys"]


async def test_uploaded_keys_ask_nobody(foreign, record, keys, clock):
    """A private cluster's issuer cannot be reached, and must not be tried."""
    uploaded = replace(record, jwks=foreign.jwks())
    found = await keys.keys_for(uploaded, kid="unknown", alg="ES256", at=clock())
    with pytest.raises(UnknownKeyError):
        found.find("unknown", "ES256")
    assert foreign.asked == []


@pytest.mark.parametrize(("said", "kept"), [(0, SHORTEST), (120, timedelta(seconds=120)), (10**8, LONGEST)])
async def test_how_long_keys_are_kept_has_a_floor_and_a_ceiling(foreign, record, keys, clock, said, kept):
    """0 would have us ask for every token; a year would keep a key that its issuer withdrew."""
    body = foreign.jwks()
    foreign.answers["/keys"] = (
        f"HTTP/1.1 200 OK\r\nCache-Control: max-age={said}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock.advance(kept - timedelta(seconds=1)))
    assert foreign.asked.count("/keys") == 1
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock.advance(timedelta(seconds=1)))
    assert foreign.asked.count("/keys") == 2


async def test_a_new_key_is_found_on_its_first_token(foreign, record, keys, clock):
    """An issuer that rotates must not wait for our cache."""
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    foreign.keys["k2"] = generate_private_key()
    found = await keys.keys_for(record, kid="k2", alg="ES256", at=clock.advance(SHORTEST))
    assert found.find("k2", "ES256")


async def test_known_keys_hold_for_a_while_when_the_issuer_is_down(foreign, record, keys, clock):
    """An hour's outage of an issuer must not stop everybody; a day's must, for withdrawn keys would live on."""
    await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    foreign.is_down = True
    assert (await keys.keys_for(record, kid="k1", alg="ES256", at=clock.advance(USUAL + timedelta(minutes=50)))).keys
    with pytest.raises(KeysUnavailableError):
        await keys.keys_for(record, kid="k1", alg="ES256", at=clock.advance(STALE))


async def test_an_issuer_that_never_answered_is_not_believed(foreign, record, keys, clock):
    """Without keys there is nothing to verify with, and no token of it is good."""
    foreign.is_down = True
    with pytest.raises(KeysUnavailableError) as refusal:
        await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    assert refusal.value.retry_after == SHORTEST.total_seconds()


@pytest.mark.parametrize(
    "change",
    [{"issuer": "https://localhost:1"}, {"issuer": None}, {"jwks_uri": None}, {"jwks_uri": "http://localhost/keys"}],
)
async def test_a_discovery_document_that_is_not_the_issuer_s_own_is_refused(foreign, record, keys, clock, change):
    """OpenID Connect Discovery, 4.3: else one tenant of a shared host could name the keys of another."""
    body = foreign.discovery(**change)
    foreign.answers["/.well-known/openid-configuration"] = (
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    )
    with pytest.raises(KeysUnavailableError):
        await keys.keys_for(record, kid="k1", alg="ES256", at=clock())
    assert "/keys" not in foreign.asked


TENANT = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("named", "is_read"),
    [
        (None, True),
        (f"https://login.example.test/{TENANT}/v2.0", True),
        ("https://login.example.test/{tenantid}/v2.0", True),
        ("https://login.example.test/99999999-2222-3333-4444-555555555555/v2.0", False),
        ("https://login.example.test/{tenantid}/v1.0", False),
        ("https://login.example.test{tenantid}/v2.0", False),
    ],
)
def test_a_key_that_names_another_issuer_is_left_out(record, named, is_read):
    """Entra publishes keys of several issuers in one place; each vouches for its own tokens only."""
    jwk = jwk_of(generate_private_key().public_key(), kid="k1")
    jwks = json.dumps({"keys": [jwk | ({} if named is None else {"issuer": named})]}).encode()
    found = read_keys(jwks, replace(record, issuer=f"https://login.example.test/{TENANT}/v2.0"))
    assert bool(found.keys) is is_read
