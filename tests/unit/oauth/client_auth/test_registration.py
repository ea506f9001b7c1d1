"""What administrators register: the rules of each noun, and the audit log beside it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from oauth_world import AS, BILLING, IDP, PLANNER, jwks

from agentshield.errors import AgentShieldError, InvalidInputError
from agentshield.identity.keys import generate_private_key
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.oauth.errors import RegistrationConflictError, RegistrationNotFoundError
from agentshield.oauth.model import ClientAuthMethod, FederatedCredential, Resource, SignIn
from agentshield.oauth.registration import MAX_CREDENTIALS, MAX_SECRET_LIFETIME

M = ClientAuthMethod
DAY = timedelta(days=1)


def resource(world, **fields) -> Resource:
    values = {"audience": "https://api.example.test", "scopes": frozenset({"tasks:read"}), "server": BILLING} | fields
    return Resource(created_at=world.clock(), created_by="ann", **values)


def credential(world, **fields) -> FederatedCredential:
    values = {"name": "planner-ci", "agent": PLANNER, "issuer": IDP, "subject": "job-7", "audience": AS} | fields
    return FederatedCredential(created_at=world.clock(), created_by="ann", **values)


async def test_each_noun_is_created_listed_shown_and_deleted_on_record(world):
    """Whoever changes what tokens can be had must be found afterwards."""
    desk = world.registrations
    for register, record, key in (
        (desk.clients, world.client(M.PRIVATE_KEY_JWT), "planner-app"),
        (desk.resources, resource(world), "https://api.example.test"),
        (desk.issuers, world.issuer(), "foreign"),
        (desk.credentials, credential(world), "planner-ci"),
    ):
        await register.create(record, by="ann")
        assert await register.list() == (record,)
        assert await register.show(key) == record
        with pytest.raises(RegistrationConflictError):
            await register.create(record, by="ann")
    await desk.credentials.delete("planner-ci", by="bob")
    with pytest.raises(RegistrationNotFoundError):
        await desk.credentials.show("planner-ci")
    with pytest.raises(RegistrationNotFoundError):
        await desk.credentials.delete("planner-ci", by="bob")
    seen = [(event.name.value, event.record, event.by) for event in world.recorded.events]
    assert seen[0] == ("client.created", "planner-app", "ann")
    assert seen[-1] == ("federated_credential.deleted", "planner-ci", "bob")
    assert len(seen) == 5


async def test_nothing_is_registered_that_is_not_on_record(world):
    """A right that nobody can trace must not come about."""
    world.recorded.is_broken = True
    with pytest.raises(OSError, match="disk full"):
        await world.registrations.resources.create(resource(world), by="ann")
    assert await world.store.resources.all() == ()


KEY = generate_private_key()


@pytest.mark.parametrize(
    "fields",
    [
        {"methods": frozenset()},
        {"client_id": "two words"},
        {"client_id": ""},
        {"jwks": None},
        {"jwks": b"{}"},
        {"jwks": b'{"keys": []}'},
        {"attester_jwks": jwks(KEY, "a")},
        {"tls_san_dns": "a.example.test"},
        {"secret_sha256": "0" * 64},
        {"redirect_uris": ("http://app.example.test/cb",)},
        {"redirect_uris": ("https://app.example.test/#cb",)},
        {"redirect_uris": ("https://*.example.test/",)},
        {"redirect_uris": ("javascript:alert(1)",)},
        {"methods": frozenset({M.PRIVATE_KEY_JWT, M.TLS_CLIENT_AUTH})},
        {"methods": frozenset({M.PRIVATE_KEY_JWT, M.ATTESTATION})},
    ],
)
async def test_a_client_without_what_its_methods_need_is_refused(world, fields):
    """What is registered half is used wrong; and a secret from elsewhere may be in somebody's file."""
    with pytest.raises(InvalidInputError):
        await world.registrations.clients.create(replace(world.client(M.PRIVATE_KEY_JWT), **fields), by="ann")


async def test_a_client_may_not_take_an_agent_s_name_nor_be_an_agent_s_that_does_not_exist(world):
    """A SPIFFE ID is the client of the agent that has it."""
    with pytest.raises(RegistrationConflictError):
        await world.registrations.clients.create(world.client(M.SPIFFE_JWT, client_id=str(BILLING)), by="ann")
    nobody = SpiffeId.parse("spiffe://example.test/agents/nobody")
    with pytest.raises(RegistrationNotFoundError):
        await world.registrations.clients.create(world.client(M.SPIFFE_JWT, spiffe_id=nobody), by="ann")


@pytest.mark.parametrize(
    "fields",
    [
        {"audience": AS},
        {"audience": ""},
        {"audience": "a\nb"},
        {"scopes": frozenset()},
        {"scopes": frozenset({"two words"})},
        {"scopes": frozenset({'quo"te'})},
        {"scopes": frozenset({"https://api.example.test/.default"})},
        {"algorithm": "HS256"},
        {"lifetime": timedelta(0)},
        {"lifetime": timedelta(minutes=16)},
    ],
)
async def test_a_resource_that_breaks_a_rule_is_refused(world, fields):
    """Our own issuer as an audience would make every token a key to ourselves."""
    with pytest.raises(InvalidInputError):
        await world.registrations.resources.create(resource(world, **fields), by="ann")


@pytest.mark.parametrize(
    "fields",
    [
        {"issuer": AS},
        {"name": "Foreign One"},
        {"name": "x"},
        {"issuer": "kubernetes/serviceaccount"},
        {"jwks": None, "issuer": "http://idp.example.test"},
        {"jwks": None, "jwks_url": "https://2130706433/keys"},
        {"jwks_url": "https://idp.example.test/keys"},
        {"jwks": b'{"keys": []}'},
        {"algorithms": frozenset()},
        {"algorithms": frozenset({"none"})},
        {"algorithms": frozenset({"HS256"})},
        {"audiences": frozenset()},
        {"max_age": timedelta(days=365)},
        {"max_age": timedelta(0)},
        {"subject_claim": ""},
        {"subject_profile": "admin"},
        {"token_types": frozenset()},
        {"token_types": frozenset({"dpop+jwt"})},
        {"ca_pem": b"no certificate"},
        {"sign_in": SignIn(client_id="as"), "subject_profile": "ai_agent"},
        {"sign_in": SignIn(client_id="as"), "issuer": "urn:idp"},
        {"sign_in": SignIn(client_id="")},
        {"sign_in": SignIn(client_id="as", scopes=frozenset({"profile"}))},
        {"sign_in": SignIn(client_id="as", scopes=frozenset({"openid", "two words"}))},
        {"sign_in": SignIn(client_id="as", name_claim="")},
    ],
)
async def test_an_issuer_that_breaks_a_rule_is_refused(world, fields):
    """What is believed of an issuer is decided here, once, and not by its tokens."""
    with pytest.raises(AgentShieldError):
        await world.registrations.issuers.create(world.issuer(**fields), by="ann")
    assert await world.store.issuers.all() == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": None},
        {"subject": "job-*"},
        {"subject": ""},
        {"subject": None, "claims": {"repository_id": ""}},
        {"subject": "j" * 601},
        {"audience": "https://b.test"},
        {"name": "has/slash"},
        {"issuer": IDP + "/"},
        {"agent": SpiffeId.parse("spiffe://example.test/agents/nobody")},
        {"description": "d" * 601},
    ],
)
async def test_a_credential_that_is_not_exact_is_refused(world, fields):
    """An asterisk is the classic: it looks like a pattern, and somebody counts on it."""
    await world.registrations.issuers.create(world.issuer(), by="ann")
    with pytest.raises(AgentShieldError):
        await world.registrations.credentials.create(credential(world, **fields), by="ann")
    assert await world.store.credentials.all() == ()


async def test_an_agent_has_at_most_twenty_credentials(world):
    """Who needs more has one agent where there should be several."""
    await world.registrations.issuers.create(world.issuer(), by="ann")
    for n in range(MAX_CREDENTIALS):
        await world.registrations.credentials.create(credential(world, name=f"c-{n}", subject=f"job-{n}"), by="ann")
    with pytest.raises(RegistrationConflictError):
        await world.registrations.credentials.create(credential(world, name="one-more", subject="x"), by="ann")


async def test_a_secret_is_shown_once_and_kept_as_a_digest(world):
    """Neither the store, nor the log, nor a message has it afterwards; a new one replaces it."""
    await world.registrations.clients.create(world.client(M.CLIENT_SECRET_BASIC), by="ann")
    issue = world.registrations.issue_client_secret
    made = await issue("planner-app", lifetime=DAY, reason="legacy runner", by="ann")
    kept = await world.registrations.clients.show("planner-app")
    assert len(made.secret) == 43  # 256 bits in base64url
    assert kept.secret_sha256 is not None
    assert kept.secret_expires_at == made.expires_at
    for shown in (repr(made), repr(kept), repr(world.recorded.events)):
        assert made.secret not in shown
        assert kept.secret_sha256 not in shown
    assert "legacy runner" in world.recorded.events[-1].detail
    assert (await issue("planner-app", lifetime=DAY, reason="again", by="ann")).secret != made.secret


@pytest.mark.parametrize(
    ("lifetime", "reason"),
    [(timedelta(0), "r"), (-DAY, "r"), (MAX_SECRET_LIFETIME + DAY, "r"), (DAY, ""), (DAY, "  "), (DAY, "a\nb")],
)
async def test_a_secret_without_an_end_or_a_reason_is_refused(world, lifetime, reason):
    """An exception that nobody explains and nothing ends is the rule a year later."""
    await world.registrations.clients.create(world.client(M.CLIENT_SECRET_BASIC), by="ann")
    with pytest.raises(InvalidInputError):
        await world.registrations.issue_client_secret("planner-app", lifetime=lifetime, reason=reason, by="ann")


async def test_a_secret_is_only_for_a_client_that_is_registered_for_one(world):
    """A method is chosen at registration, not in passing."""
    await world.registrations.clients.create(world.client(M.PRIVATE_KEY_JWT), by="ann")
    with pytest.raises(InvalidInputError):
        await world.registrations.issue_client_secret("planner-app", lifetime=DAY, reason="r", by="ann")
    with pytest.raises(RegistrationNotFoundError):
        await world.registrations.issue_client_secret("nobody", lifetime=DAY, reason="r", by="ann")
