"""One file, or one request, nested so deep that Cedar's reader overruns its stack and takes the process with it.

A process that ends here denies nothing: it is gone, with every enforcement point that was sent the same bundle. Each
case runs on a thread with the smallest stack that our platforms give (512 KiB on macOS).
"""

import threading
from datetime import UTC, datetime

import pytest

from agentshield.policy.bundle import PolicyBundle
from agentshield.policy.calls import Party, call_request, plain_context
from agentshield.policy.cedar import CedarEngine
from agentshield.policy.cedar_source import MAX_BRACKETS, MAX_IFS
from agentshield.policy.engine import Effect
from agentshield.policy.errors import InvalidPolicyError

SMALL_STACK = 512 * 1024
AT = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.fixture
def on_a_small_stack():
    """Run something on such a thread; give what it returned, or raise what it raised."""

    def run(what):
        outcome = []

        def body():
            try:
                outcome.append(what())
            except Exception as error:
                outcome.append(error)

        before = threading.stack_size(SMALL_STACK)
        try:
            thread = threading.Thread(target=body)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    return run


def bundle(condition):
    return PolicyBundle.from_files(
        {"deep.cedar": f'@id("deep") permit (principal, action, resource) when {{ {condition} }};'}
    )


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 10_000 + "true" + ")" * 10_000,
        "[" * 10_000 + "1" + "]" * 10_000 + ".isEmpty()",
        "if true then true else " * 10_000 + "true",
        " && ".join(["true"] * 10_000),
        "context" + ".a" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_deep_policy_is_an_error_not_a_crash(on_a_small_stack, condition):
    """The operator reads a line; the process lives."""
    with pytest.raises(InvalidPolicyError, match=r"deep\.cedar:1"):
        on_a_small_stack(lambda: CedarEngine().load(bundle(condition)))


def test_the_deepest_policy_we_take_is_survived(on_a_small_stack):
    """The limits are below the edge with everything at once: brackets, ifs and a long chain."""
    ifs = "if true then true else " * MAX_IFS
    inner = MAX_BRACKETS - 1  # the condition's own braces are the outermost
    deep = "(" * inner + ifs + " && ".join(["true"] * 20) + ")" * inner
    assert on_a_small_stack(lambda: CedarEngine().load(bundle(deep))).policy_ids[-1] == "deep"


@pytest.mark.parametrize("depth", [17, 100, 125, 500, 100_000])
def test_a_deep_context_is_a_deny_not_a_crash(on_a_small_stack, depth):
    """What a caller's token carries must not end the one who checks it."""
    nested = 1
    for _ in range(depth):
        nested = [nested]
    engine = CedarEngine()
    engine.load(bundle("true"))
    party = Party(agent_id="spiffe://example.test/agents/a", name="a")
    request = call_request(party, "x", callee=party, context={**plain_context(AT), "scopes": nested})
    decision = on_a_small_stack(lambda: engine.decide(request))
    assert decision.effect is Effect.DENY
    assert decision.errors


def test_deep_rules_are_an_error_not_a_crash(on_a_small_stack):
    """YAML nests too."""
    rules = PolicyBundle.from_files({"rules.yaml": "rules: " + "[" * 100_000})
    with pytest.raises(InvalidPolicyError, match=r"rules\.yaml"):
        on_a_small_stack(lambda: CedarEngine().load(rules))
