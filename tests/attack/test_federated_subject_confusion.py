"""A foreign identity is passed off as another: by a near name, another issuer, a looser rule, or two rules at once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from oauth_world import AS, BILLING, IDP, PLANNER, OAuthWorld, jwks

from agentshield.identity.keys import generate_private_key
from agentshield.oauth.errors import OAuthError, RegistrationConflictError
from agentshield.oauth.model import FederatedCredential

RIVAL = "https://rival.example.test"
RIVAL_KEY = generate_private_key()


def credential(world, name="planner-ci", **fields) -> FederatedCredential:
    values = {"agent": PLANNER, "issuer": IDP, "subject": "job-7", "audience": AS} | fields
    return FederatedCredential(name=name, created_at=world.clock(), created_by="ann", **values)


@pytest.fixture
async def world() -> OAuthWorld:
    world = OAuthWorld()
    rival = world.issuer(name="rival", issuer=RIVAL, jwks=jwks(RIVAL_KEY, "i1"))
    for issuer in (world.issuer(), rival):
        await world.registrations.issuers.create(issuer, by="ann")
    return world


async def test_another_issuer_s_subject_of_the_same_name_is_nobody(world):
    """`job-7` at a rival's platform is whoever the rival says."""
    await world.registrations.credentials.create(credential(world), by="ann")
    assert (await world.authenticate(world.foreign())).agent.spiffe_id == PLANNER
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(iss=RIVAL, key=RIVAL_KEY))


async def test_an_issuer_cannot_speak_in_another_s_name(world):
    """Both are registered, and both use kid i1: keys are looked up by issuer, never in one pot."""
    await world.registrations.credentials.create(credential(world), by="ann")
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(iss=IDP, key=RIVAL_KEY))


@pytest.mark.parametrize("issuer", [IDP + "/", IDP.upper(), IDP + ":443", IDP + "/.", " " + IDP, IDP + "\u200b"])
async def test_an_issuer_of_nearly_the_same_name_is_not_it(world, issuer):
    """Names are compared to the letter; whoever normalises, normalises an attacker's name too."""
    await world.registrations.credentials.create(credential(world), by="ann")
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(iss=issuer))


@pytest.mark.parametrize(
    "subject", ["job-70", "job-", "JOB-7", "job-7 ", "job-7\x00", "job-\uff17", ["job-7"], 7, None]
)
async def test_a_subject_of_nearly_the_same_name_is_not_it(world, subject):
    """`repo:org/repo` is the beginning of `repo:org/repo-of-somebody-else`."""
    await world.registrations.credentials.create(credential(world), by="ann")
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(sub=subject))


@pytest.mark.parametrize(
    "claims", [{"repository_id": "201"}, {"repository_id": ["200"]}, {"repository": {"id": "200"}}, {}]
)
async def test_a_claim_elsewhere_or_of_another_shape_is_not_it(world, claims):
    """The path is part of the condition, and a list that holds the value is not the value."""
    wanted = credential(world, subject=None, claims={"repository_id": "200"})
    await world.registrations.credentials.create(wanted, by="ann")
    assert (await world.authenticate(world.foreign(repository_id="200"))).agent.spiffe_id == PLANNER
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(**claims))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"subject": None, "claims": {"environment": "prod"}},
        {"claims": {"environment": "prod"}},
        {"subject": None, "claims": {"sub": "job-7"}},
    ],
)
async def test_a_credential_that_could_fit_another_agent_s_token_is_refused(world, fields):
    """One who may register credentials must not get another agent's tokens by a looser condition."""
    await world.registrations.credentials.create(credential(world), by="ann")
    with pytest.raises(RegistrationConflictError):
        await world.registrations.credentials.create(
            credential(world, name="billing-ci", agent=BILLING, **fields), by="eve"
        )


async def test_credentials_that_differ_in_one_claim_stand_side_by_side(world):
    """Two agents of one platform are the usual case."""
    await world.registrations.credentials.create(credential(world), by="ann")
    other = credential(world, name="billing-ci", agent=BILLING, subject="job-8")
    await world.registrations.credentials.create(other, by="ann")
    assert (await world.authenticate(world.foreign(sub="job-8"))).agent.spiffe_id == BILLING


async def test_a_token_that_fits_two_agents_is_nobody_s(world):
    """However two such credentials came into the store: choosing one of them would be a guess."""
    await world.store.credentials.put(credential(world))
    ambiguous = credential(world, name="billing-ci", agent=BILLING, subject=None, claims={"environment": "prod"})
    await world.store.credentials.put(ambiguous)
    with pytest.raises(OAuthError):
        await world.authenticate(world.foreign(environment="prod"))
    assert (await world.authenticate(world.foreign())).agent.spiffe_id == PLANNER
