"""CIBA Core 1.0, poll and ping, with rich authorization requests (RFC 9396): each rule, and its refusal."""

from datetime import timedelta

import pytest
from ciba_world import (
    ANN,
    BOB,
    DETAIL,
    MINUTE,
    NOTIFICATION_TOKEN,
    PING,
    SECOND,
    CibaWorld,
)
from exchange_world import ANALYST_API, AS, BILLING, BILLING_API, PLANNER, SCOPES

from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.backchannel.endpoint import secret_digest
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import ClientAuthMethod
from agentshield.policy.approval import LONGEST_WAIT, ApprovalStatus, Verdict
from agentshield.policy.approval_store import MAX_PENDING


@pytest.fixture
async def world(tmp_path) -> CibaWorld:
    return await CibaWorld(keys_directory=tmp_path).open()


async def error_of(answer) -> OAuthErrorCode:
    with pytest.raises(OAuthError) as caught:
        await answer
    return caught.value.error


# 7: the request


async def test_answer_holds_a_secret_that_is_kept_only_as_its_digest(world):
    """7.3: who reads our database must not be able to fetch somebody's token."""
    answer = await world.question()
    assert len(answer.auth_req_id) >= 43  # 256 bits in base64
    assert (answer.expires_in, answer.interval) == (300, 5)
    request = await world.asked(answer)
    assert answer.auth_req_id not in repr((request, await world.requests.find(request.request_id), answer))
    assert answer.auth_req_id not in repr(world.recorded.events)
    assert (await world.approvals.find_by_secret(secret_digest(answer.auth_req_id))) == request


async def test_what_the_human_sees_is_what_was_asked(world):
    """They agree to subject, agent, audience, scopes and details, and to nothing beside."""
    request = await world.asked(await world.question())
    action = request.action
    assert (action.subject, action.actors) == ((AS, ANN), ((AS, str(PLANNER)),))
    assert (action.resource, action.context) == (BILLING_API, {"scope": ["read"]})
    assert action.details[0]["identifier"] == "invoice-7"
    assert (request.approver, request.reason) == (ANN, "invoice 7")


@pytest.mark.parametrize(
    "hints",
    [
        {"login_hint": None},
        {"login_hint_token": "x"},
        {"id_token_hint": "x"},
        {"login_hint": None, "id_token_hint": "x"},
        {"login_hint": None, "login_hint_token": "x"},
        {"login_hint": ("ann", "bob")},
    ],
)
async def test_there_is_exactly_one_hint_and_of_the_kind_we_take(world, hints):
    """7.1: of two hints, one names somebody who does not know that they are asked."""
    assert await error_of(world.question(**hints)) == "invalid_request"


@pytest.mark.parametrize("hint", ["mallory", "ANN", "ann ", "x" * 300, str(PLANNER)])
async def test_a_hint_that_names_nobody_is_refused(world, hint):
    """13: a question that nobody gets waits for nothing."""
    assert await error_of(world.question(login_hint=hint)) == "unknown_user_id"


async def test_owner_of_the_agent_is_not_asked(world):
    """Four eyes: who runs the agent would be agreeing with themselves. 13 has 403 for it."""
    with pytest.raises(OAuthError) as caught:
        await world.question(login_hint="bob")
    assert (caught.value.error, caught.value.status) == ("access_denied", 403)
    assert BOB in (await world.asked(await world.question())).excluded


@pytest.mark.parametrize("message", ["x" * 64, "Überweisung 7", "支払い 7"])
async def test_a_message_that_can_be_read_is_taken(world, message):
    """7.1: letters of any script."""
    assert (await world.asked(await world.question(binding_message=message))).reason == message


@pytest.mark.parametrize(
    "message", ["x" * 65, "pay\n7", "pay \u202e7 USD", "a\u200bb", "\x1b[2J", "a\u2066b", "a\xa0b"]
)
async def test_a_message_that_deceives_is_refused(world, message):
    """7.1: what is shown to a human must be what was sent, and no more than they read."""
    assert await error_of(world.question(binding_message=message)) == "invalid_binding_message"


@pytest.mark.parametrize(("asked", "given"), [("30", 30), ("600", 600), ("999999", 600)])
async def test_requested_expiry_is_kept_to_as_far_as_we_go(world, asked, given):
    """7.1: a question that stays open for days is answered by somebody who has forgotten why."""
    answer = await world.question(requested_expiry=asked)
    assert answer.expires_in == given
    assert timedelta(seconds=given) <= LONGEST_WAIT


@pytest.mark.parametrize("asked", ["0", "-5", "1.5", "five", " 5", "٣", "9" * 30])
async def test_requested_expiry_that_is_no_number_is_refused(world, asked):
    """7.1: a positive integer."""
    assert await error_of(world.question(requested_expiry=asked)) == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": None, "authorization_details": None}, "invalid_scope"),
        ({"audience": None}, "invalid_target"),
        ({"audience": "https://nobody.test"}, "invalid_target"),
        ({"audience": (BILLING_API, ANALYST_API)}, "invalid_target"),
        ({"authorization_details": DETAIL.replace("pay", "admin")}, "invalid_authorization_details"),
        ({"authorization_details": DETAIL.replace("agent_action", "other")}, "invalid_authorization_details"),
        ({"authorization_details": DETAIL.replace("billing", "analyst")}, "invalid_authorization_details"),
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        ({"request": "eyJ"}, "invalid_request"),
    ],
)
async def test_nobody_is_asked_for_what_could_not_be_granted(world, changes, error):
    """A human's yes widens nothing: the blueprint and the resource are the ceiling."""
    assert await error_of(world.question(**changes)) == error
    assert await world.approvals.pending(at=world.clock()) == ()
    assert world.recorded.events[-1].grant == "ciba"  # and it is on record


async def test_blueprint_is_the_ceiling(world):
    """What the resource knows is not what this kind of agent may have."""
    world.limit(PLANNER, "read")
    assert await error_of(world.question()) == "invalid_authorization_details"
    assert await error_of(world.question(scope="pay", authorization_details=None)) == "invalid_scope"
    everything = await world.question(scope=BILLING_API + "/.default", authorization_details=None)
    assert (await world.asked(everything)).action.context == {"scope": ["read"]}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"binding": None}, "invalid_request"),
        ({"binding": None, "method": ClientAuthMethod.CLIENT_SECRET_BASIC}, "unauthorized_client"),
        ({"method": ClientAuthMethod.CLIENT_SECRET_POST}, "unauthorized_client"),
    ],
)
async def test_who_asks_proves_a_key(world, changes, error):
    """The answer is for that key; a secret can be in more than one place."""
    world.fake.changes = changes
    assert await error_of(world.question()) == error


async def test_an_agent_cannot_wear_a_human_down(world):
    """Five open questions, and a no holds, whatever message or key the agent comes with."""
    denied = await world.question(authorization_details=None)
    await world.say(denied, Verdict.DENY)
    with pytest.raises(OAuthError) as caught:
        await world.question(authorization_details=None, binding_message="please")
    assert (caught.value.error, caught.value.status) == ("access_denied", 403)
    for number in range(MAX_PENDING):
        await world.question(authorization_details=DETAIL.replace("invoice-7", f"invoice-{number}"))
    last = world.question(authorization_details=DETAIL.replace("invoice-7", "one-more"))
    assert await error_of(last) == "temporarily_unavailable"


# 10.1, 11: coming back


async def test_a_yes_is_a_token_for_exactly_that(world):
    """`sub` is the human, `act` the agent, and the details are those they saw (RFC 9396, 7)."""
    answer = await world.question()
    await world.say(answer)
    granted = await world.poll(answer)
    claims = world.read(granted.access_token, BILLING_API).claims
    assert (claims.subject, claims.subject_issuer, claims.subject_profile) == (ANN, None, "user")
    assert claims.act_chain == ActChain((Party(issuer=AS, subject=str(PLANNER), profile="ai_agent"),))
    assert (claims.audience, claims.scopes) == (BILLING_API, {"read"})
    request = await world.asked(answer)
    assert list(claims.authorization_details) == list(request.action.details)
    assert list(granted.authorization_details) == list(request.action.details)
    assert claims.confirmation is not None
    assert claims.transaction == request.request_id
    assert request.status(world.clock()) is ApprovalStatus.USED
    names = [event.name.value for event in world.recorded.events]
    assert names == ["approval.requested", "token.issued", "approval.used"]


async def test_what_came_of_a_yes_is_passed_on_like_any_token(world):
    """RFC 8693: the next agent acts for the same human, and can do no more than they agreed to."""
    answer = await world.question()
    await world.say(answer)
    token = (await world.poll(answer)).access_token
    onward = await world.exchange(BILLING, token, scope="read", audience=ANALYST_API)
    claims = world.read(onward.access_token, ANALYST_API).claims
    assert claims.subject == ANN
    assert [actor.subject for actor in claims.act_chain.actors] == [str(BILLING), str(PLANNER)]
    assert claims.authorization_details == ()  # those were for another place
    assert await error_of(world.exchange(BILLING, token, scope="pay", audience=ANALYST_API)) == "invalid_scope"


async def test_pending_until_there_is_an_answer_and_slower_for_who_hurries(world):
    """11: five seconds more for each request that came too soon; silence is no yes."""
    answer = await world.question()
    assert await error_of(world.poll(answer)) == "authorization_pending"
    world.clock.advance(4 * SECOND)
    assert await error_of(world.poll(answer)) == "slow_down"
    world.clock.advance(9 * SECOND)
    assert await error_of(world.poll(answer)) == "slow_down"
    world.clock.advance(15 * SECOND)
    assert await error_of(world.poll(answer)) == "authorization_pending"
    await world.say(answer)
    assert (await world.poll(answer)).access_token  # an answer is given to whoever comes, however soon


async def test_a_no_is_access_denied(world):
    """11: told as such, so that the agent stops asking."""
    answer = await world.question()
    await world.say(answer, Verdict.DENY)
    assert await error_of(world.poll(answer)) == "access_denied"


async def test_silence_is_a_no(world):
    """11: expired_token, from the second on that `expires_in` said."""
    answer = await world.question()
    world.clock.advance(5 * MINUTE - SECOND)
    assert await error_of(world.poll(answer)) == "authorization_pending"
    world.clock.advance(SECOND)
    assert await error_of(world.poll(answer)) == "expired_token"


async def test_a_yes_that_nobody_fetched_runs_out(world):
    """A yes of this morning is no yes to this afternoon."""
    answer = await world.question()
    await world.say(answer)
    world.clock.advance(5 * MINUTE)
    assert await error_of(world.poll(answer)) == "expired_token"


async def test_a_question_asked_again_takes_the_place_of_the_first(world):
    """A human sees it once; who still holds the first id is told that it has expired."""
    first, second = await world.question(), await world.question(binding_message="again")
    assert await error_of(world.poll(first)) == "expired_token"
    await world.say(second)
    assert (await world.poll(second)).access_token


async def test_rights_that_were_taken_away_meanwhile_are_not_granted(world):
    """Between question and answer somebody may have narrowed the blueprint, or dropped the resource."""
    answer = await world.question()
    await world.say(answer)
    world.limit(PLANNER, "read")
    assert await error_of(world.poll(answer)) == "invalid_authorization_details"
    world.limit(PLANNER, "pay")
    assert await error_of(world.poll(answer)) == "invalid_scope"
    world.limit(PLANNER, *SCOPES)
    await world.store.resources.delete(BILLING_API)
    assert await error_of(world.poll(answer)) == "invalid_target"


async def test_a_human_who_may_not_answer_any_more_has_not(world):
    """Who has left since cannot be who the token speaks for."""
    answer = await world.question()
    await world.say(answer)
    world.humans.known.remove("ann")
    assert await error_of(world.poll(answer)) == "access_denied"


async def test_what_is_not_on_record_is_not_asked_and_not_handed_out(world):
    """A question, or a use, that the log does not know could never be looked into."""
    answer = await world.question()
    await world.say(answer)
    world.recorded.is_broken = True
    assert await error_of(world.question(scope="write")) == "temporarily_unavailable"
    assert await error_of(world.poll(answer)) == "temporarily_unavailable"


async def test_a_service_that_can_ask_nobody_says_so(world):
    """13: unauthorized_client, and no grant of that name."""
    plain = await CibaWorld.__mro__[1](keys_directory=world.keys_directory).open()
    request = plain.request(url=AS + "/oauth/bc-authorize", client_id=str(PLANNER))
    assert await error_of(plain.service.backchannel(request)) == "unauthorized_client"
    assert "urn:openid:params:grant-type:ciba" not in plain.service.grant_types


# 10.2: ping


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_client_is_told_once_that_there_is_an_answer(world, verdict):
    """10.2: the id and the client's own token, and nothing of the answer."""
    await world.register_for_ping()
    answer = await world.question(client_notification_token=NOTIFICATION_TOKEN)
    assert world.posted.sent == []
    waiting = repr((world.recorded.events, world.notifications._waiting))
    assert NOTIFICATION_TOKEN not in waiting
    assert answer.auth_req_id not in waiting
    await world.say(answer, verdict)
    assert world.posted.sent == [(PING, {"auth_req_id": answer.auth_req_id}, NOTIFICATION_TOKEN)]
    await world.notifications.answered((await world.asked(answer)).request_id)
    assert len(world.posted.sent) == 1


async def test_only_who_has_registered_where_is_told(world):
    """4: an agent that could name the address could have us knock at any door."""
    assert await error_of(world.question(client_notification_token=NOTIFICATION_TOKEN)) == "invalid_request"


@pytest.mark.parametrize("token", [None, "short", "x" * 1025, "a" * 30 + "\n", "a b" * 20, "=" * 30])
async def test_who_is_to_be_told_says_by_what_token(world, token):
    """7.1: enough bits that nobody else can tell the client that it has been answered."""
    await world.register_for_ping()
    assert await error_of(world.question(client_notification_token=token)) == "invalid_request"
