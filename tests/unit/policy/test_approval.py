"""A human's agreement: to one exact action, by somebody who may give it, once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentshield.errors import InvalidInputError
from agentshield.policy.approval import (
    VALIDITY,
    ApprovalClosedError,
    ApprovalMissingError,
    ApprovalRequest,
    ApprovalStatus,
    ApproverExcludedError,
    ExactAction,
    Verdict,
    Vote,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AGENT = "spiffe://example.test/agents/payer"
ACTION = ExactAction(
    subject=("https://localhost:8443", "alice"),
    actors=(("https://localhost:8443", AGENT),),
    resource="api://ledger",
    action="pay",
    details=({"type": "payment", "amount": 12},),
)


def asked(**changes):
    facts = {
        "request_id": "r1",
        "agent": AGENT,
        "excluded": frozenset({"owner"}),
        "created_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
    }
    return ApprovalRequest.about(ACTION, **{**facts, **changes})


def vote(approver="bob", verdict=Verdict.APPROVE, at=NOW):
    return Vote(approver=approver, verdict=verdict, method="cli", at=at)


def approved(**changes):
    request = asked(**changes)
    return request.answered(vote(), digest=request.digest)


def test_one_answer_lets_one_action_happen():
    """Asked, agreed, used: and then it is over."""
    used = approved().used(ACTION, at=NOW)
    assert used.status(NOW) is ApprovalStatus.USED
    with pytest.raises(ApprovalMissingError, match="is used"):
        used.used(ACTION, at=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ("https://localhost:8443", "mallory")},
        {"subject": ("https://other.example.test", "alice")},
        {"actors": (*ACTION.actors, ("https://localhost:8443", "spiffe://example.test/agents/other"))},
        {"resource": "api://vault"},
        {"action": "pay-all"},
        {"details": ({"type": "payment", "amount": 12000},)},
        {"context": {"task": "other"}},
    ],
)
def test_approval_fits_no_other_action(change):
    """Whoever swaps caller, chain, target or argument after the human looked has no approval."""
    with pytest.raises(ApprovalMissingError, match="another action"):
        approved().used(replace(ACTION, **change), at=NOW)


def test_answer_to_another_picture_is_refused():
    """A human who was shown one thing has not agreed to another."""
    with pytest.raises(ApprovalClosedError, match="another action"):
        asked().answered(vote(), digest="0" * 64)


@pytest.mark.parametrize("approver", ["owner", AGENT])
def test_nobody_approves_their_own(approver):
    """Four eyes are two humans, and an agent is none."""
    request = asked()
    with pytest.raises(ApproverExcludedError):
        request.answered(vote(approver), digest=request.digest)


def test_only_who_is_asked_answers():
    """A request to one human is not for another who happens to see it."""
    request = asked(approver="alice")
    with pytest.raises(ApproverExcludedError, match="asks alice"):
        request.answered(vote("bob"), digest=request.digest)


def test_two_of_two_are_two_humans():
    """One person on two channels is still one."""
    request = asked(needed=2)
    once = request.answered(vote("bob"), digest=request.digest)
    assert once.status(NOW) is ApprovalStatus.PENDING
    with pytest.raises(ApproverExcludedError, match="already"):
        once.answered(vote("bob"), digest=request.digest)
    assert once.answered(vote("carol"), digest=request.digest).status(NOW) is ApprovalStatus.APPROVED


def test_one_denial_is_a_denial():
    """Who is refused once may not ask the rest until somebody gives in."""
    request = asked(needed=2)
    denied = request.answered(vote("bob", Verdict.DENY), digest=request.digest)
    assert denied.status(NOW) is ApprovalStatus.DENIED
    with pytest.raises(ApprovalClosedError):
        denied.answered(vote("carol"), digest=request.digest)
    with pytest.raises(ApprovalMissingError):
        denied.used(ACTION, at=NOW)


def test_silence_is_a_no():
    """A request nobody answered cannot be answered later."""
    request = asked()
    late = NOW + timedelta(minutes=5)
    assert request.status(late) is ApprovalStatus.EXPIRED
    with pytest.raises(ApprovalClosedError, match="expired"):
        request.answered(vote(at=late), digest=request.digest)


def test_an_answer_does_not_keep():
    """What a human agreed to five minutes ago is not what they would agree to now."""
    with pytest.raises(ApprovalMissingError, match="expired"):
        approved().used(ACTION, at=NOW + VALIDITY)


def test_withdrawn_is_gone():
    """Until it is used, an approval can be taken back; after that there is nothing to take."""
    with pytest.raises(ApprovalMissingError, match="withdrawn"):
        approved().withdrawn(at=NOW).used(ACTION, at=NOW)
    with pytest.raises(ApprovalClosedError):
        approved().used(ACTION, at=NOW).withdrawn(at=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": NOW},
        {"expires_at": NOW + timedelta(minutes=11)},
        {"needed": 0},
        {"reason": "x" * 501},
    ],
)
def test_odd_requests_are_refused(change):
    """A request that would never end, or needs nobody, is no question to a human."""
    with pytest.raises(InvalidInputError):
        asked(**change)


def test_digest_must_be_the_actions():
    """A stored request whose action was changed under it is not read back."""
    with pytest.raises(InvalidInputError, match="digest"):
        replace(asked(), action=replace(ACTION, resource="api://vault"))


def test_what_has_no_one_spelling_cannot_be_approved():
    """Two readers must not see two numbers in one digest."""
    with pytest.raises(InvalidInputError, match="canonical"):
        replace(ACTION, context={"amount": 2**60}).digest  # noqa: B018  the property raises


@given(st.lists(st.tuples(st.sampled_from(["bob", "carol", "dave", "owner"]), st.sampled_from(Verdict)), max_size=6))
def test_approved_means_enough_different_humans_and_no_denial(answers):
    """Whatever the order of answers: approved if, and only if, enough of those who may agreed and nobody refused."""
    request = asked(needed=2)
    counted = {}
    for approver, verdict in answers:
        try:
            request = request.answered(vote(approver, verdict), digest=request.digest)
        except (ApprovalClosedError, ApproverExcludedError):
            continue
        counted[approver] = verdict
    agreed = [verdict for verdict in counted.values() if verdict is Verdict.APPROVE]
    expected = len(agreed) >= 2 and Verdict.DENY not in counted.values()
    assert (request.status(NOW) is ApprovalStatus.APPROVED) == expected
    assert "owner" not in counted
