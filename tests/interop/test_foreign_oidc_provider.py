"""A stock oidc-provider (npm) as foreign issuer: its tokens make our agents, by its documents and our records."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import trustme
from joserfc.jwk import ECKey

from agentshield.identity.errors import WrongAudienceError
from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import BadSignatureError, sign_compact
from agentshield.identity.keys import PrivateKey, generate_private_key, private_key_to_pkcs8
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.oauth.issuers.errors import KeysUnavailableError, NoCredentialError, UnknownIssuerError
from agentshield.oauth.issuers.federation import Federation
from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.memory_store import MemoryOAuthStore
from agentshield.oauth.model import FederatedCredential, IssuerRecord
from agentshield.oauth.settings import OAuthSettings
from agentshield.uuid7 import uuid7

pytestmark = [pytest.mark.slow]

DOMAIN = TrustDomain("example.test")
PLANNER = SpiffeId.of(DOMAIN, "/agents/planner")
US = "https://localhost:8440"
CLIENT = "workload-7"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SETTINGS = OAuthSettings(issuer=US, trust_domain=DOMAIN, allow_loopback_issuers=True)


@dataclass(frozen=True)
class Provider:
    """A running oidc-provider, and a client it knows."""

    issuer: str
    ca: trustme.CA
    client_key: PrivateKey

    async def token(self, audience: str) -> str:
        """Have a token issued for us, as any client would."""
        now = int(datetime.now(UTC).timestamp())
        assertion = sign_compact(
            {
                "iss": CLIENT,
                "sub": CLIENT,
                "aud": self.issuer,
                "iat": now,
                "exp": now + 60,
                "jti": str(uuid7(datetime.now(UTC))),
            },
            self.client_key,
            kid="c",
        )
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            "scope": "read",
            "resource": audience,
        }
        context = httpx2.create_ssl_context()
        self.ca.configure_trust(context)
        async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
            answer = await client.post(f"{self.issuer}/token", data=form)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]


@pytest.fixture
async def provider(node_program) -> AsyncIterator[Provider]:
    """oidc-provider behind TLS of a private authority, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ca, client_key = trustme.CA(), generate_private_key()
    certificate, issuer = ca.issue_cert("localhost"), f"https://localhost:{port}"
    settings = {
        "issuer": issuer,
        "port": port,
        "tls_key": certificate.private_key_pem.bytes().decode(),
        "tls_certificate": b"".join(each.bytes() for each in certificate.cert_chain_pems).decode(),
        "signing_jwk": private_jwk(generate_private_key()),
        "clients": [
            {"id": CLIENT, "jwk": jwk_of(client_key.public_key(), kid="c", alg="ES256"), "scope": "read"},
        ],
        "scopes": ["read"],
        "audience": US,
    }
    process = await node_program("oidc_provider.mjs", settings)
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"ready\n"
        yield Provider(issuer, ca, client_key)
    finally:
        process.kill()
        await process.wait()


def private_jwk(key: PrivateKey) -> dict[str, str]:
    """A signing key in the form that Node wants."""

    return {
        **ECKey.import_key(private_key_to_pkcs8(key)).as_dict(private=True),
        "kid": "s",
        "alg": "ES256",
        "use": "sig",
    }


@pytest.fixture
async def store(provider: Provider) -> MemoryOAuthStore:
    """The provider as a registered issuer, and its client as our planner."""
    now = datetime.now(UTC)
    store = MemoryOAuthStore()
    await store.issuers.put(
        IssuerRecord(
            name="theirs",
            issuer=provider.issuer,
            algorithms=frozenset({"ES256"}),
            audiences=frozenset({US}),
            ca_pem=provider.ca.cert_pem.bytes(),
            token_types=frozenset({"at+jwt"}),
            max_age=timedelta(minutes=10),
            created_at=now,
            created_by="test",
        )
    )
    await store.credentials.put(
        FederatedCredential(
            name="planner-theirs",
            agent=PLANNER,
            issuer=provider.issuer,
            subject=CLIENT,
            audience=US,
            created_at=now,
            created_by="test",
        )
    )
    return store


def federation(store: MemoryOAuthStore, settings: OAuthSettings = SETTINGS) -> Federation:
    return Federation(store, IssuerFetch(settings), lambda: datetime.now(UTC), settings)


async def test_a_token_of_a_stock_provider_is_our_agent(provider, store):
    """Discovery, its key set and its token are read as it writes them, and lead to one agent."""
    federated = federation(store)
    identity = await federated.verify(await provider.token(US), at=datetime.now(UTC))
    assert (identity.subject, await federated.agent_for(identity)) == (CLIENT, PLANNER)
    checks = await federated.explain(await provider.token(US), identity.record)
    assert {check.holds for check in checks} == {True}, checks


async def test_a_token_for_somebody_else_is_not(provider, store):
    """Another resource of the same provider could otherwise be us."""
    with pytest.raises(WrongAudienceError):
        await federation(store).verify(await provider.token("https://other.example.test"), at=datetime.now(UTC))


async def test_a_token_with_another_signature_is_not(provider, store):
    """The last characters of a token are not decoration."""
    token, other = await provider.token(US), await provider.token(US)
    forged = token.rpartition(".")[0] + "." + other.rpartition(".")[2]
    with pytest.raises(BadSignatureError):
        await federation(store).verify(forged, at=datetime.now(UTC))


async def test_a_provider_that_was_never_registered_is_not_asked(provider, store):
    """Its `iss` is only a claim until there is a record of it."""
    token = await provider.token(US)
    await store.issuers.delete("theirs")
    with pytest.raises(UnknownIssuerError):
        await federation(store).verify(token, at=datetime.now(UTC))


async def test_a_client_without_a_credential_is_nobody(provider, store):
    """To be believed is not to be an agent."""
    federated = federation(store)
    identity = await federated.verify(await provider.token(US), at=datetime.now(UTC))
    await store.credentials.delete("planner-theirs")
    with pytest.raises(NoCredentialError):
        await federated.agent_for(identity)


async def test_a_provider_on_this_machine_is_not_fetched_from_unless_allowed(provider, store):
    """An administrator's typing must not reach what listens on loopback."""
    careful = replace(SETTINGS, allow_loopback_issuers=False)
    with pytest.raises(KeysUnavailableError, match="not on the public internet"):
        await federation(store, careful).verify(await provider.token(US), at=datetime.now(UTC))
