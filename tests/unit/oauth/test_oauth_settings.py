"""Settings of the authorization server: what is dangerous cannot be chosen."""

from datetime import timedelta

import pytest

from agentshield.errors import ConfigurationError
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.settings import TRANSACTION_TOKENS_DRAFT, OAuthSettings

OURS = TrustDomain("example.test")


def settings(issuer: str = "https://as.example.test", **fields: object) -> OAuthSettings:
    return OAuthSettings(issuer=issuer, trust_domain=OURS, **fields)


@pytest.mark.parametrize(
    "issuer", ["https://localhost:8444", "https://as.example.test", "https://127.0.0.1:1", "https://[::1]:9"]
)
def test_every_endpoint_is_below_the_issuer(issuer: str):
    """A client that finds an endpoint elsewhere would send its credentials elsewhere."""
    made = settings(issuer)
    endpoints = [
        made.authorization_endpoint,
        made.token_endpoint,
        made.introspection_endpoint,
        made.revocation_endpoint,
        made.revocations_endpoint,
        made.jwks_uri,
        made.pushed_authorization_request_endpoint,
        made.backchannel_authentication_endpoint,
    ]
    assert all(endpoint.startswith(f"{issuer}/oauth/") for endpoint in endpoints)
    assert len(set(endpoints)) == len(endpoints)


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "localhost:8444",
        "http://localhost:8444",
        "https://",
        "https://as.example.test/",
        "https://as.example.test/tenant",
        "https://as.example.test?x=1",
        "https://as.example.test#x",
        "https://as.example.test:",
        "https://as.example.test:0",
        "https://as.example.test:99999",
        "https://user@as.example.test",
        "https://AS.example.test",
        "HTTPS://as.example.test",
        "https://as.example.test\n",
        " https://as.example.test",
        "https://[::1",
        "https://bücher.example",
    ],
)
def test_an_issuer_that_could_be_read_two_ways_is_refused(issuer: str):
    """RFC 8414, 2: clients compare issuers as text; two spellings are two issuers, and plain http is everybody's."""
    with pytest.raises(ConfigurationError, match="issuer is"):
        settings(issuer)


@pytest.mark.parametrize(
    ("name", "cap"),
    [
        ("token_lifetime", timedelta(minutes=15)),
        ("transaction_token_lifetime", timedelta(minutes=5)),
        ("grant_lifetime", timedelta(minutes=5)),
        ("client_assertion_max_lifetime", timedelta(minutes=5)),
        ("dpop_max_age", timedelta(minutes=5)),
        ("dpop_nonce_lifetime", timedelta(minutes=5)),
        ("clock_skew", timedelta(seconds=60)),
        ("introspection_cache", timedelta(seconds=30)),
        ("signing_key_lifetime", timedelta(days=90)),
    ],
)
def test_a_lifetime_stays_within_its_cap(name: str, cap: timedelta):
    """A token that lives for a week is a password; one that lives for no time is an outage."""
    assert getattr(settings(**{name: cap}), name) == cap
    for wrong in (cap + timedelta(microseconds=1), timedelta(0), timedelta(seconds=-1)):
        with pytest.raises(ConfigurationError, match=name):
            settings(**{name: wrong})


def test_a_key_lives_long_enough_to_be_known_before_it_signs():
    """A key that signs before the caches have turned over makes good tokens look forged."""
    with pytest.raises(ConfigurationError, match="signing_key_lifetime"):
        settings(signing_key_lifetime=timedelta(minutes=59))
    assert settings(signing_key_lifetime=timedelta(hours=1)).jwks_cache == timedelta(minutes=5)


def test_drafts_are_on_by_name_and_number():
    """Switched on without a number, a draft would change its meaning under its users."""
    assert settings().drafts == frozenset()
    assert TRANSACTION_TOKENS_DRAFT in settings(drafts=frozenset({TRANSACTION_TOKENS_DRAFT})).drafts
    for wrong in ("draft-ietf-oauth-transaction-tokens", "draft-ietf-oauth-transaction-tokens-10", "everything"):
        with pytest.raises(ConfigurationError, match="is not known"):
            settings(drafts=frozenset({wrong}))


@pytest.mark.parametrize("depth", [0, -1, 11])
def test_a_chain_is_bounded(depth: int):
    """An endless chain of actors is a token nobody can judge."""
    with pytest.raises(ConfigurationError, match="max_chain_depth"):
        settings(max_chain_depth=depth)
