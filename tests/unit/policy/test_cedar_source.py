"""Cedar files: each policy has a name of its own, and what is wrong has a line."""

import pytest

from agentshield.policy.cedar_source import MAX_BRACKETS, MAX_IFS, MAX_OPERATORS, check_unique, read_policies
from agentshield.policy.errors import InvalidPolicyError

ANY = "(principal, action, resource)"


def test_policies_keep_their_place():
    """A decision's reason leads to a line of a file; comments and texts with `;` must not shift it."""
    text = f"""// first; a comment with a semicolon
@id("one")
permit {ANY} when {{ context.scopes.contains("a;b // no comment \\" ;") }};

// between
@id("two") @obligation("notify") forbid {ANY};  // after
@id("three") permit {ANY}; @id("four") permit {ANY};
// the end
"""
    policies = read_policies("team.cedar", text)
    assert [(each.policy_id, each.line) for each in policies] == [("one", 2), ("two", 6), ("three", 7), ("four", 7)]
    assert policies[1].annotations["obligation"] == "notify"
    assert [each.effect for each in policies] == ["permit", "forbid", "permit", "permit"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (f"\n\npermit {ANY};", 3, "needs an @id"),
        (f'@id("a") permit {ANY};\n@id("") permit {ANY};', 2, "needs an @id"),
        (f"@id permit {ANY};", 1, "needs an @id"),
        (f'@id("with space") permit {ANY};', 1, "characters"),
        (f'@id("a\\nb") permit {ANY};', 1, "characters"),
        (f'@id("{"x" * 201}") permit {ANY};', 1, "characters"),
        (f'\n@id("a") @id("b") permit {ANY};', 2, "not a Cedar policy"),
        (f'@id("a") permit {ANY}', 1, "not a Cedar policy"),
        (f'@id("a") allow {ANY};', 1, "not a Cedar policy"),
        (f'@id("a") permit {ANY} when {{ "never closed }};', 1, "not a Cedar policy"),
        (f'@id("a") permit {ANY};\n;', 2, "not a Cedar policy"),
        ('@id("a") permit (principal == ?principal, action, resource);', 1, "templates"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_read_names_file_and_line(text, line, what):
    """An operator at night needs the line, not a position."""
    with pytest.raises(InvalidPolicyError, match=what) as caught:
        read_policies("team.cedar", text)
    assert [(each.file, each.line) for each in caught.value.problems] == [("team.cedar", line)]
    assert f"team.cedar:{line}" in str(caught.value)


def test_all_problems_are_told_at_once():
    """Who mends one mistake a run gives up before the last."""
    with pytest.raises(InvalidPolicyError) as caught:
        read_policies("team.cedar", f"permit {ANY};\nforbid {ANY};\nnonsense;")
    assert [each.line for each in caught.value.problems] == [1, 2, 3]
    assert "(and 2 more)" in str(caught.value)


def test_one_id_twice_names_both_places():
    """A reason that fits two policies explains nothing."""
    twice = f'@id("same") permit {ANY};\n\n@id("same") forbid {ANY};'
    with pytest.raises(InvalidPolicyError, match=r"team.cedar:3: policy 'same': .* team.cedar:1"):
        check_unique(read_policies("team.cedar", twice))


def test_an_empty_file_has_no_policies():
    """Nothing but comments is nothing."""
    assert read_policies("team.cedar", "\n// nothing yet\n") == ()


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("(" * MAX_BRACKETS + "true" + ")" * MAX_BRACKETS, "nested brackets"),
        ("(" * 100_000, "nested brackets"),
        ("[" * 800 + "1" + "]" * 800 + ".isEmpty()", "nested brackets"),
        ("{a:" * 800 + "1" + "}" * 800 + " == 1", "nested brackets"),
        ("if true then true else " * (MAX_IFS + 1) + "true", "uses of if"),
        ("if " * 5_000 + "true" + " then true else true" * 5_000, "uses of if"),
        (" && ".join(["true"] * 20_000), "operators"),
        (" || ".join(["true"] * (MAX_OPERATORS + 2)), "operators"),
        ("+".join(["1"] * 20_000) + " > 1", "operators"),
        ("context" + ".a" * 20_000, "operators"),
        ("!" * 20_000 + "true", "operators"),
        (" && ".join(["true"] * 100), "too deep"),
        ("context" + '["a"]' * 90, "too deep"),
    ],
    ids=lambda value: value[:20],
)
def test_what_would_end_the_process_is_refused(condition, what):
    """Cedar's parser overruns its stack: one policy file would stop every enforcement point at once."""
    with pytest.raises(InvalidPolicyError, match=what):
        read_policies("team.cedar", f'@id("deep") permit {ANY} when {{ {condition} }};')


def test_what_people_write_is_not_too_much():
    """Forty conditions, a set of a thousand agents, and text that only looks nested."""
    agents = ",".join(f'AgentShield::Agent::"spiffe://example.test/agents/a{number}"' for number in range(1000))
    conditions = " && ".join([f"[{agents}].contains(principal)", '"(((((((((((((((((((((((" != ""', *["true"] * 38])
    assert read_policies("team.cedar", f'@id("long") permit {ANY} when {{ {conditions} }};')
