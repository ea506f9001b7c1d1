"""Agents, and the shortest way to ask about them."""

from datetime import UTC, datetime

import pytest

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
TRUST_DOMAIN = "example.test"


def agent_id(name):
    return f"spiffe://{TRUST_DOMAIN}/agents/{name}"


@pytest.fixture
def at():
    return AT


@pytest.fixture
def party():
    """Make an agent of example.test by name; keyword arguments are its facts."""
    return lambda name, **facts: Party(agent_id=agent_id(name), name=name, **facts)


@pytest.fixture
def bundle_of():
    """Make a bundle: `rules` and `tests` are the YAML files, `cedar` is team.cedar."""

    def make(*, cedar=None, rules=None, tests=None):
        named = {"team.cedar": cedar, "rules.yaml": rules, "tests.yaml": tests}
        files = {name: text for name, text in named.items() if text is not None}
        return PolicyBundle.from_files(files, trust_domain=TRUST_DOMAIN)

    return make


@pytest.fixture
def engine_of(bundle_of):
    """Make an engine that has loaded such a bundle; its clock stands still."""

    def make(**files):
        engine = CedarEngine(clock=lambda: AT)
        engine.load(bundle_of(**files))
        return engine

    return make


@pytest.fixture
def ask(party):
    """Make the request of a plain call; `context` is added to what such a call has."""

    def make(caller, callee, skill="hello", *, context=None):
        caller, callee = (party(each) if isinstance(each, str) else each for each in (caller, callee))
        return call_request(caller, skill, callee=callee, context={**plain_context(AT), **(context or {})})

    return make
