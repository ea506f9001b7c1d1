"""Somebody has a code, or a refresh token, that a human's yes was the price of: another client, key or browser."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from delegation_world import APP, NATIVE, SECOND, VERIFIER, DelegationWorld, delegation_world
from exchange_world import BILLING, BILLING_API

from agentshield.database.engine import open_database
from agentshield.database.migrate import migrate
from agentshield.identity.access_token import Confirmation
from agentshield.oauth.authorize.browser import challenge_of
from agentshield.oauth.authorize.request import Stage
from agentshield.oauth.authorize.sql_store import SqlAuthorizationStore
from agentshield.oauth.errors import OAuthError
from agentshield.oauth.model import SingleUse
from agentshield.oauth.sql_store import sql_oauth_store


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def world(request, tmp_path):
    """The same in memory, in a file and in a server: a race is won or lost in the store."""
    if request.param == "memory":
        async with delegation_world(tmp_path) as made:
            yield made
        return
    url = f"sqlite:///{tmp_path}/db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    database = open_database(url)
    migrate(database)
    async with delegation_world(
        tmp_path, store=sql_oauth_store(database), requests=SqlAuthorizationStore(database)
    ) as made:
        yield made
    database.close()


async def refused(answer) -> str:
    with pytest.raises(OAuthError) as caught:
        await answer
    return caught.value.error


def jti_of(world: DelegationWorld, token: str) -> str:
    return world.read(token, BILLING_API).claims.jti


async def is_revoked(world: DelegationWorld, token: str) -> bool:
    return await world.store.tokens.is_revoked(jti_of(world, token))


async def test_one_code_redeemed_two_hundred_times_at_once_is_one_token_and_that_one_is_taken_back(world):
    """RFC 6749, 10.5: whoever came first may have been the thief."""
    code = await world.agreed(scope="read offline_access")
    results = await asyncio.gather(*(world.redeem(code) for _ in range(200)), return_exceptions=True)
    tokens = [each for each in results if not isinstance(each, BaseException)]
    assert len(tokens) == 1
    assert {each.error for each in results if isinstance(each, OAuthError)} == {"invalid_grant"}
    assert world.steps().count("token.issued") == 1
    assert await is_revoked(world, tokens[0].access_token)
    assert await refused(world.refresh(tokens[0].refresh_token)) == "invalid_grant"
    assert world.steps().count("authorization.revoked") == 1


async def test_one_refresh_token_used_two_hundred_times_at_once_is_one_token_and_ends_the_family(world):
    """RFC 9700, 4.14.2: of two holders one is a thief, and nobody knows which."""
    first = await world.redeem(await world.agreed(scope="read offline_access"))
    attempts = (world.refresh(first.refresh_token) for _ in range(200))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    tokens = [each for each in results if not isinstance(each, BaseException)]
    assert len(tokens) == 1
    assert {each.error for each in results if isinstance(each, OAuthError)} == {"invalid_grant"}
    for token in (first, *tokens):
        assert await is_revoked(world, token.access_token)
    assert await refused(world.refresh(tokens[0].refresh_token)) == "invalid_grant"


async def test_code_replay(world):
    """RFC 6749, 4.1.2: everything that came of it is revoked, also what was exchanged out of it (TX-12)."""
    code = await world.agreed(scope="read offline_access")
    first = await world.redeem(code)
    renewed = await world.refresh(first.refresh_token)
    onward = await world.exchange(BILLING, first.access_token)
    world.clock.advance(120 * SECOND)  # though the code itself has long expired
    assert await refused(world.redeem(code)) == "invalid_grant"
    for token in (first, renewed):
        assert await is_revoked(world, token.access_token)
    assert await world.store.tokens.is_revoked(world.read(onward.access_token, "https://analyst.test").claims.jti)
    assert await refused(world.refresh(renewed.refresh_token)) == "invalid_grant"
    assert [each for each in world.steps() if each.startswith("authorization")][-2:] == [
        "authorization.replayed",
        "authorization.revoked",
    ]


async def test_refresh_reuse(world):
    """RFC 9700, 4.14.2: the rotated one comes again, from whoever copied it; all of the family ends."""
    first = await world.redeem(await world.agreed(scope="read offline_access"))
    second = await world.refresh(first.refresh_token)
    third = await world.refresh(second.refresh_token)
    assert await refused(world.refresh(first.refresh_token)) == "invalid_grant"
    assert await refused(world.refresh(third.refresh_token)) == "invalid_grant"
    for token in (first, second, third):
        assert await is_revoked(world, token.access_token)


async def test_a_code_is_spent_though_nobody_marked_it(world):
    """A process that dies between the token and the mark must not leave a code that works again."""
    code = await world.agreed()
    kept = await world.kept(code)
    spent = SingleUse(kind="code", scope=world.settings.issuer, value=kept.request_id, expires_at=kept.expires_at)
    await world.store.tokens.issue(None, uses=(spent,), at=world.clock())
    assert await refused(world.redeem(code)) == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": challenge_of(VERIFIER)}, "invalid_grant"),  # as if it were plain
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code_verifier": "v" * 42}, "invalid_request"),
        ({"code_verifier": "v" * 129}, "invalid_request"),
    ],
)
async def test_code_injection_and_pkce_downgrade(world, changes, error):
    """RFC 9700, 4.5 and 4.8 (BCP-02): a stolen code in one's own client lacks the verifier, or has one's own."""
    code = await world.agreed()
    assert await refused(world.redeem(code, **changes)) == error
    assert (await world.redeem(code)).access_token  # and the attempt costs its owner nothing


@pytest.mark.parametrize("uri", [NATIVE, APP + "/", "https://evil.test/cb", None])
async def test_redirect_uri_of_another_request(world, uri):
    """RFC 6749, 4.1.3: a code that was sent elsewhere was not meant for this."""
    code = await world.agreed()
    assert await refused(world.redeem(code, redirect_uri=uri)) in ("invalid_grant", "invalid_request")
    assert (await world.redeem(code)).access_token


async def test_another_client(world):
    """RFC 6749, 4.1.3: whoever reads it from a log, with all that belongs to it, is not the client."""
    code = await world.agreed(scope="read offline_access")
    assert await refused(world.redeem(code, BILLING)) == "invalid_grant"
    first = await world.redeem(code)
    assert await refused(world.refresh(first.refresh_token, BILLING)) == "invalid_grant"
    assert (await world.refresh(first.refresh_token)).access_token


async def test_another_name_of_the_same_agent(world):
    """An agent may have several clients; a human agreed to one."""
    code = await world.agreed(scope="read offline_access")
    world.fake.changes = {"client_id": "planner-app"}
    assert await refused(world.redeem(code)) == "invalid_grant"
    world.fake.changes = {}
    first = await world.redeem(code)
    world.fake.changes = {"client_id": "planner-app"}
    assert await refused(world.refresh(first.refresh_token)) == "invalid_grant"


@pytest.mark.parametrize("binding", [Confirmation(jkt="B" * 43), Confirmation(x5t_s256="B" * 43)])
async def test_another_key_of_the_same_client(world, binding):
    """RFC 9449, 10 and 5: a second process that holds the client's credentials, and not the key."""
    code = await world.agreed(scope="read offline_access")
    world.fake.changes = {"binding": binding}
    assert await refused(world.redeem(code)) == "invalid_grant"
    world.fake.changes = {}
    first = await world.redeem(code)
    world.fake.changes = {"binding": binding}
    assert await refused(world.refresh(first.refresh_token)) == "invalid_grant"
    world.fake.changes = {}
    assert (await world.refresh(first.refresh_token)).access_token


@pytest.mark.parametrize("tail", ["", ".", ".x", ".A" * 30])
async def test_made_up_codes_and_refresh_tokens(world, tail):
    """The id alone is in logs; without its secret it is nothing. Nor is an access token a refresh token."""
    code = await world.agreed(scope="read offline_access")
    request_id = code.partition(".")[0]
    made_up = (request_id + tail, "x" + tail)
    for each in made_up:
        assert await refused(world.redeem(each)) == "invalid_grant"
        assert await refused(world.refresh(each)) == "invalid_grant"
    first = await world.redeem(code)
    assert await refused(world.refresh(first.access_token)) == "invalid_grant"
    assert await refused(world.refresh(request_id)) == "invalid_grant"


async def test_a_request_uri_or_a_cookie_is_no_code(world):
    """Each stage has its own secret: what a browser held does not redeem."""
    browser = world.browser()
    pushed = await world.push()
    sent = await world.started(browser, pushed)
    assert await refused(world.redeem(pushed.request_uri.rpartition(":")[2])) == "invalid_grant"
    await world.came_back(browser, sent)
    ((name, secret),) = browser.cookies.items()
    request_id = name.removeprefix("__Host-agentshield-")
    assert (await world.kept(request_id)).stage is Stage.SIGNED_IN
    assert await refused(world.redeem(f"{request_id}.{secret}")) == "invalid_grant"
