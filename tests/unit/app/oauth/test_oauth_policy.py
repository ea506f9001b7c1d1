"""The authority's policy set at the token service: in force at once, under a lease, and never guessed."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.app.oauth_policy import PolicyAtIssuance, PolicyStaleError
from agentshield.authority.agents import AgentRequest
from agentshield.authority.key_store import MemoryKeyStore
from agentshield.authority.memory_store import memory_store
from agentshield.authority.selectors import Selector
from agentshield.authority.service import AuthorityService
from agentshield.authority.settings import AuthoritySettings
from agentshield.identity.access_token import Confirmation
from agentshield.identity.act_chain import Party
from agentshield.identity.spiffe_id import SpiffeId, TrustDomain
from agentshield.oauth.directory import AgentRegistration
from agentshield.oauth.entitlement import Entitlement
from agentshield.oauth.errors import OAuthError
from agentshield.oauth.issuance_policy import Issuance
from agentshield.oauth.model import AuthenticatedClient, ClientAuthMethod
from agentshield.policy.bundle import PolicyBundle

DOMAIN = TrustDomain("example.test")
FORBID = """@id("no-payments") forbid (principal, action == AgentShield::Action::"exchange", resource)
when { context.scopes.contains("pay") };"""
HUMAN = """@id("a-human-agrees") permit (principal, action == AgentShield::Action::"exchange", resource)
when { context has approval && context.approval.approvers >= 1 };"""


def agent(name, domain=DOMAIN):
    return SpiffeId.of(domain, f"/agents/{name}")


def issuance(name="planner", *scopes, server=None, approvers=0, confirmation=None):
    spiffe_id = agent(name)
    registration = AgentRegistration(
        spiffe_id=spiffe_id, name=name, owner="ann", sponsor="", blueprint=None, is_active=True
    )
    client = AuthenticatedClient(
        client_id=name,
        agent=registration,
        method=ClientAuthMethod.SPIFFE_JWT,
        binding=confirmation,
        thumbprints=frozenset(),
    )
    subject = Party(issuer="https://as.example.test", subject=str(spiffe_id))
    return Issuance(
        entitlement=Entitlement(subject=subject, scopes=frozenset(scopes), approvers=approvers),
        client=client,
        audience="https://api.example.test",
        server=server,
        confirmation=confirmation,
        lifetime=timedelta(minutes=5),
    )


async def activate(authority, cedar):
    await authority.activate_policy(PolicyBundle.from_files({"team.cedar": cedar}, trust_domain=DOMAIN.name), by="ann")


@pytest.fixture
def policy(authority):
    return PolicyAtIssuance(authority)


async def refusal(policy, asked, at=None):
    with pytest.raises(OAuthError) as caught:
        await policy.check(asked, at=at or datetime.now(UTC))
    assert caught.value.error == "access_denied"
    return caught.value


async def test_rules_that_say_nothing_of_tokens_leave_them_to_the_blueprint(policy):
    await policy.check(issuance("planner", "pay"), at=datetime.now(UTC))


async def test_a_forbid_refuses_and_is_named_to_the_operator(policy, authority):
    await activate(authority, FORBID)
    refused = await refusal(policy, issuance("planner", "pay"))
    assert refused.rule == "policy no-payments"
    assert "no-payments" not in refused.description
    await policy.check(issuance("planner", "read"), at=datetime.now(UTC))


async def test_a_change_is_in_force_without_a_restart(policy, authority):
    following = asyncio.create_task(policy.follow())
    try:
        await policy.check(issuance("planner", "pay"), at=datetime.now(UTC))
        await activate(authority, FORBID)
        async with asyncio.timeout(5):
            while policy._held.version < (await authority.enforcement_snapshot()).version:
                await asyncio.sleep(0.01)
        await refusal(policy, issuance("planner", "pay"))
    finally:
        following.cancel()


async def test_a_rule_that_waits_for_a_human_has_the_token_wait(policy, authority):
    await activate(authority, HUMAN)
    assert "human-approval" in str(await refusal(policy, issuance("planner", "pay")))
    await policy.check(issuance("planner", "pay", approvers=1), at=datetime.now(UTC))


async def test_an_unbound_token_can_be_forbidden(policy, authority):
    cedar = '@id("bound") forbid (principal, action, resource) when { !context.credential.bound };'
    await activate(authority, cedar)
    await refusal(policy, issuance())
    await policy.check(issuance(confirmation=Confirmation(jkt="k" * 43)), at=datetime.now(UTC))


async def test_an_agent_created_a_moment_ago_is_known(policy, authority):
    await policy.check(issuance(), at=datetime.now(UTC))
    request = AgentRequest(name="newcomer", selectors=(Selector("unix", "user:newcomer"),), owner="ann")
    await authority.create_agent(request)
    await policy.check(issuance("newcomer"), at=datetime.now(UTC))


@pytest.mark.parametrize("asked", [issuance("nobody"), issuance(server=agent("nobody"))])
async def test_an_agent_nobody_registered_gets_nothing_and_is_given_nothing_for(policy, asked):
    assert (await refusal(policy, asked)).rule == "policy agent-unknown"


async def test_an_agent_of_another_trust_domain_can_be_named(policy, authority):
    partner = agent("partner", TrustDomain("partner.test"))
    await policy.check(issuance(server=partner), at=datetime.now(UTC))
    cedar = f'@id("no") forbid (principal, action, resource == AgentShield::Agent::"{partner}");'
    await activate(authority, cedar)
    await refusal(PolicyAtIssuance(authority), issuance(server=partner))


async def test_past_the_lease_it_is_asked_for_anew_and_without_it_nothing_is_issued(policy):
    await policy.check(issuance(), at=datetime.now(UTC))
    with pytest.raises(PolicyStaleError):
        await policy.check(issuance(), at=datetime.now(UTC) + timedelta(days=1))


async def test_without_a_policy_set_nothing_is_issued(recorded):
    async with AuthorityService(
        AuthoritySettings(trust_domain=DOMAIN), memory_store(), MemoryKeyStore(), recorded
    ) as authority:
        with pytest.raises(PolicyStaleError):
            await PolicyAtIssuance(authority).check(issuance(), at=datetime.now(UTC))
