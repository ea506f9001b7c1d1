"""Somebody wants more of a human's yes than they gave: another client, another key, another action, a second time."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from ciba_world import DETAIL, MINUTE, SECOND, CibaWorld
from exchange_world import ANALYST_API, BILLING, BILLING_API, PLANNER

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.errors import InvalidInputError
from agentshield.identity.access_token import Confirmation
from agentshield.oauth.backchannel.sql_store import SqlBackchannelStore
from agentshield.oauth.errors import OAuthError
from agentshield.oauth.model import SingleUse
from agentshield.oauth.sql_store import sql_oauth_store
from agentshield.policy.approval import Verdict
from agentshield.policy.sql_approvals import SqlApprovalStore


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def world(request, tmp_path):
    """The same in memory, in a file and in a server: a race is won or lost in the store."""
    if request.param == "memory":
        yield await CibaWorld(keys_directory=tmp_path).open()
        return
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = open_database(url)
    migrate(database)
    yield await CibaWorld(
        keys_directory=tmp_path,
        store=sql_oauth_store(database),
        approvals=SqlApprovalStore(database),
        requests=SqlBackchannelStore(database),
    ).open()
    database.close()


async def refused(world, answer) -> str:
    with pytest.raises(OAuthError) as caught:
        await answer
    return caught.value.error


async def issued(world) -> int:
    return sum(event.name == "token.issued" for event in world.recorded.events)


async def test_one_yes_fetched_two_hundred_times_at_once_is_one_token(world):
    """Two tokens for one yes are two payments."""
    answer = await world.question()
    await world.say(answer)
    results = await asyncio.gather(*(world.poll(answer) for _ in range(200)), return_exceptions=True)
    tokens = [each for each in results if not isinstance(each, BaseException)]
    assert len(tokens) == 1
    assert {each.error for each in results if isinstance(each, OAuthError)} == {"invalid_grant"}
    assert sum(isinstance(each, OAuthError) for each in results) == 199
    assert await issued(world) == 1


async def test_a_yes_is_spent_though_nobody_marked_it(world):
    """A process that dies between the token and the mark must not leave a yes that works again."""
    answer = await world.question()
    await world.say(answer)
    approval = await world.asked(answer)
    spent = SingleUse(
        kind="approval",
        scope=world.settings.issuer,
        value=approval.request_id,
        expires_at=world.clock() + 5 * MINUTE,
    )
    await world.store.tokens.issue(None, uses=(spent,), at=world.clock())
    assert await refused(world, world.poll(answer)) == "invalid_grant"


async def test_another_agent_cannot_fetch_it(world):
    """An id in a log or a message must be text to whoever reads it."""
    answer = await world.question()
    await world.say(answer)
    assert await refused(world, world.poll(answer, BILLING)) == "invalid_grant"
    assert (await world.poll(answer)).access_token  # and the attempt costs its owner nothing


async def test_another_key_of_the_same_client_cannot_fetch_it(world):
    """Who has stolen an agent's assertion, and not its key, gets nothing: before the answer or after it."""
    answer = await world.question()
    world.fake.changes = {"binding": Confirmation(jkt="m" * 43)}
    assert await refused(world, world.poll(answer)) == "invalid_grant"
    await world.say(answer)
    assert await refused(world, world.poll(answer)) == "invalid_grant"
    world.fake.changes = {"binding": None}
    assert await refused(world, world.poll(answer)) == "invalid_grant"
    world.fake.changes = {"binding": Confirmation(x5t_s256="A" * 43)}
    assert await refused(world, world.poll(answer)) == "invalid_grant"


async def test_another_name_of_the_same_agent_cannot_fetch_it(world):
    """A request is its client's, and an agent can have several."""
    answer = await world.question()
    await world.say(answer)
    world.fake.changes = {"client_id": "planner-app"}
    assert await refused(world, world.poll(answer)) == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"authorization_details": DETAIL.replace("invoice-7", "invoice-8")}, "invalid_grant"),
        ({"authorization_details": DETAIL.replace(',"identifier":"invoice-7"', "")}, "invalid_grant"),
        ({"authorization_details": DETAIL.replace('["pay"]', '["pay","write"]')}, "invalid_grant"),
        ({"authorization_details": f"[{DETAIL[1:-1]},{DETAIL[1:-1]}]"}, "invalid_grant"),
        ({"scope": "read write"}, "invalid_grant"),
        ({"scope": "write"}, "invalid_grant"),
        ({"scope": BILLING_API + "/.default"}, "invalid_grant"),
        ({"audience": ANALYST_API}, "invalid_authorization_details"),
        ({"audience": ANALYST_API, "authorization_details": DETAIL.replace("billing", "analyst")}, "invalid_grant"),
    ],
)
async def test_what_was_not_seen_is_not_granted(world, changes, error):
    """The human agreed to one thing; the request for the token must not be about another."""
    answer = await world.question()
    await world.say(answer)
    assert await refused(world, world.poll(answer, **changes)) == error
    assert await issued(world) == 0
    said_again = {"scope": "read", "authorization_details": DETAIL, "audience": BILLING_API}
    assert (await world.poll(answer, **said_again)).scope == "read"


@pytest.mark.parametrize("forged", ["", "x", "A" * 43, "r1", "\udce4", "0" * 5000])
async def test_a_forged_id_finds_nothing(world, forged):
    """256 bits are not guessed, and neither the request's id nor its digest is the secret."""
    answer = await world.question()
    await world.say(answer)
    approval = await world.asked(answer)
    for guess in (forged, approval.request_id, approval.digest, answer.auth_req_id + "=", answer.auth_req_id[:-1]):
        error = await refused(world, world.poll(replace(answer, auth_req_id=guess)))
        assert error == ("invalid_grant" if guess else "invalid_request")


async def test_a_poll_that_was_seen_cannot_be_sent_again(world):
    """A proof shown while the human was thinking must not fetch the token once they have agreed."""
    answer = await world.question()
    proof = SingleUse(kind="dpop", scope="", value="p1", expires_at=world.clock() + MINUTE)
    world.fake.changes = {"uses": (proof,)}
    assert await refused(world, world.poll(answer)) == "authorization_pending"
    await world.say(answer)
    assert await refused(world, world.poll(answer)) == "invalid_dpop_proof"


async def test_a_question_that_was_seen_cannot_be_asked_again(world):
    """Whoever replays it would hold an id of their own for the human's answer."""
    proof = SingleUse(kind="dpop", scope="", value="p1", expires_at=world.clock() + MINUTE)
    world.fake.changes = {"uses": (proof,)}
    await world.question()
    assert await refused(world, world.question()) == "invalid_dpop_proof"


async def test_a_no_is_not_polled_away(world):
    """However often an agent comes, and however it words its next question."""
    answer = await world.question()
    await world.say(answer, Verdict.DENY)
    for _ in range(3):
        world.clock.advance(SECOND)
        assert await refused(world, world.poll(answer)) == "access_denied"


@pytest.mark.parametrize("by", [str(PLANNER), "local-admin/bob", "bob", "local-admin/carol"])
async def test_nobody_but_the_one_who_is_asked_agrees(world, by):
    """An agent never; its owner never; nor another human than the one the token would speak for."""
    answer = await world.question()
    with pytest.raises(Exception, match=r"may not approve|asks local-admin/ann"):
        await world.say(answer, by=by)
    assert await refused(world, world.poll(answer)) == "authorization_pending"


async def test_a_row_that_somebody_changed_is_no_approval(world):
    """Who can write to the table, and not to the log, must not turn a yes to one thing into a yes to another."""
    answer = await world.question()
    await world.say(answer)
    approval = await world.asked(answer)
    with pytest.raises(InvalidInputError, match="digest"):
        replace(approval, action=replace(approval.action, resource=ANALYST_API))
