"""A token as policies see it: silence leaves it to the blueprint, a no is a no, and so is a missing yes of a human."""

from pathlib import Path

import pytest

from agentshield.policy.calls import plain_context
from agentshield.policy.engine import EntityUid, Request
from agentshield.policy.exchanges import audience_uid, exchange_entities, is_refused

API = "https://api.example.test"
APPROVED = """@id("with-a-human") permit (principal, action == AgentShield::Action::"exchange", resource)
when { context has approval && context.approval.approvers >= 1 };"""


@pytest.fixture
def refused(engine_of, party, at):
    """Tell whether `cedar` refuses the planner a token for the API, or for an agent."""

    def ask(cedar="", *, server=None, **context):
        planner = party("planner", groups=("payments",))
        server = None if server is None else party(server)
        target = audience_uid(API) if server is None else server.uid
        facts = exchange_entities(planner, API, server=server)
        request = Request(planner.uid, "exchange", target, plain_context(at) | context, facts)
        return is_refused(engine_of(cedar=cedar).decide(request))

    return ask


@pytest.mark.parametrize("server", [None, "analyst", "planner"])
def test_silence_leaves_it_to_the_blueprint(refused, server):
    assert not refused(server=server)


@pytest.mark.parametrize("server", [None, "analyst", "planner"])
def test_a_permit_is_not_needed_but_welcome(refused, server):
    assert not refused('@id("yes") permit (principal, action, resource);', server=server)


@pytest.mark.parametrize(
    "head",
    [
        "principal, action, resource",
        'principal in AgentShield::AgentGroup::"payments", action, resource',
        'principal, action == AgentShield::Action::"exchange", resource == AgentShield::Audience::"' + API + '"',
    ],
)
def test_a_forbid_is_a_no(refused, head):
    assert refused(f'@id("no") forbid ({head});')


def test_a_forbid_wins_over_a_permit(refused):
    assert refused('@id("yes") permit (principal, action, resource); @id("no") forbid (principal, action, resource);')


def test_a_forbid_reads_scopes(refused):
    cedar = '@id("no") forbid (principal, action, resource) when { context.scopes.contains("pay") };'
    assert refused(cedar, scopes=["pay", "read"])
    assert not refused(cedar, scopes=["read"])


def test_a_permit_that_waits_for_a_human_is_a_no_until_then(refused):
    assert refused(APPROVED)
    assert not refused(APPROVED, approval={"approvers": 1})


def test_context_that_cannot_be_evaluated_is_a_no(refused):
    assert refused(scopes="read")


def test_a_chain_too_deep_is_a_no(refused):
    assert refused(delegation={"depth": 6, "chain": []})


def test_an_audience_is_no_agent():
    """An agent's name in a policy must not be had by registering a resource."""
    assert audience_uid("spiffe://example.test/agents/planner") == EntityUid(
        "Audience", "spiffe://example.test/agents/planner"
    )


def test_the_sample_of_the_documentation_does_what_it_says(refused):
    text = (Path(__file__).parents[3] / "docs/explain/oauth.md").read_text()
    sample = text.partition("```cedar\n")[2].partition("```")[0]
    bound = {"kind": "spiffe_jwt", "bound": True, "ageSeconds": 0, "lifetimeSeconds": 300}
    assert refused(sample, credential=bound | {"bound": False})
    assert refused(sample, credential=bound, scopes=["payment:make"])
    assert not refused(sample, credential=bound, scopes=["payment:make"], approval={"approvers": 1})
    assert not refused(sample, credential=bound, scopes=["payment:read"])
