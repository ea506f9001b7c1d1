"""What changes from one bundle to the next, for the person who must approve it."""

import pytest

from agentshield.policy.difference import Access, diff
from agentshield.policy.errors import InvalidPolicyError

PLANNER, ANALYST = ("spiffe://example.test/agents/planner", "spiffe://example.test/agents/analyst")
RULES = "rules:\n  - {who: planner, may_call: analyst, actions: [hello]}\n"


def cells(difference):
    return {(each.caller, each.callee, each.skill): (each.before, each.after) for each in difference.access}


def test_equal_bundles_do_not_differ(bundle_of):
    """An empty diff must mean that nothing changes."""
    difference = diff(bundle_of(rules=RULES), bundle_of(rules=RULES))
    assert (difference.text, difference.access, difference.widens) == ("", (), False)


def test_a_new_rule_shows_text_cedar_and_who_gains(bundle_of):
    """A reviewer sees the effect, not only the line."""
    difference = diff(bundle_of(), bundle_of(rules=RULES))
    assert "+  - {who: planner, may_call: analyst, actions: [hello]}" in difference.text
    assert '+@id("planner-analyst-hello")' in difference.text
    assert cells(difference) == {(PLANNER, ANALYST, "hello"): (Access.NO, Access.YES)}
    assert difference.widens


def test_a_rule_taken_back_narrows(bundle_of):
    """And says so."""
    difference = diff(bundle_of(rules=RULES), bundle_of())
    assert cells(difference) == {(PLANNER, ANALYST, "hello"): (Access.YES, Access.NO)}
    assert not difference.widens


@pytest.mark.parametrize("condition", ["scopes: [a]", "within: task", "approvals: 2"])
def test_a_condition_is_told_from_an_open_door(bundle_of, condition):
    """`yes` and `if` are not the same answer."""
    conditional = RULES.replace("]}", f"], {condition}}}")
    difference = diff(bundle_of(rules=conditional), bundle_of(rules=RULES))
    assert cells(difference) == {(PLANNER, ANALYST, "hello"): (Access.CONDITIONAL, Access.YES)}
    assert difference.widens


def test_a_star_shows_skills_nobody_named(bundle_of):
    """Every other skill is a gain too."""
    difference = diff(bundle_of(rules=RULES), bundle_of(rules=RULES.replace("[hello]", '"*"')))
    assert cells(difference) == {(PLANNER, ANALYST, "any-other-skill"): (Access.NO, Access.YES)}


def test_members_of_groups_are_shown_by_name(bundle_of, party):
    """A rule about a group is about people's agents."""
    difference = diff(
        bundle_of(),
        bundle_of(rules="rules:\n  - {who: 'group:readers', may_call: analyst, actions: [hello]}\n"),
        parties=[party("planner", groups=("readers",)), party("archive")],
    )
    assert cells(difference) == {(PLANNER, ANALYST, "hello"): (Access.NO, Access.YES)}


def test_a_forbid_in_cedar_is_seen(bundle_of):
    """Whatever language it is written in."""
    forbid = f'@id("stop") forbid (principal, action, resource == AgentShield::Skill::"{ANALYST}#hello");'
    difference = diff(bundle_of(rules=RULES), bundle_of(rules=RULES, cedar=forbid))
    assert cells(difference) == {(PLANNER, ANALYST, "hello"): (Access.YES, Access.NO)}


def test_a_comment_changes_text_only(bundle_of):
    """Nobody should fear a comment."""
    difference = diff(bundle_of(rules=RULES), bundle_of(rules="# why\n" + RULES))
    assert "+# why" in difference.text
    assert difference.access == ()


def test_a_wrong_bundle_is_not_compared(bundle_of):
    """Half a matrix would be read as a whole one."""
    with pytest.raises(InvalidPolicyError):
        diff(bundle_of(), bundle_of(cedar="nonsense;"))
