"""`authorization_code` and `refresh_token` (RFC 6749, 4.1.3 and 6): what a yes is good for, and how long."""

import json
from dataclasses import replace

import pytest
from delegation_world import DETAIL, HOUR, MINUTE, SECOND, DelegationWorld, delegation_world
from exchange_world import ANALYST_API, AS, BILLING_API, PLANNER

from agentshield.identity.access_token import Confirmation
from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import TokenFormat


@pytest.fixture
async def world(tmp_path):
    async with delegation_world(tmp_path) as made:
        yield made


async def error_of(answer) -> OAuthErrorCode:
    with pytest.raises(OAuthError) as caught:
        await answer
    return caught.value.error


LASTING = "read write offline_access"


async def test_token_names_the_human_and_the_agent_that_acts(world: DelegationWorld):
    """RFC 8693, 4.1: `sub` is Ann at her provider, `act` the planner; short, bound, and one audience."""
    granted = await world.redeem(await world.agreed(scope="read", authorization_details=DETAIL))
    claims = world.read(granted.access_token, BILLING_API).claims
    assert (claims.subject, claims.subject_issuer, claims.subject_profile) == ("ann", world.provider.url, "user")
    assert claims.act_chain == ActChain((Party(issuer=AS, subject=str(PLANNER), profile="ai_agent"),))
    assert (claims.audience, claims.scopes) == (BILLING_API, {"read"})
    assert list(claims.authorization_details) == json.loads(DETAIL)
    assert claims.confirmation is not None
    assert claims.expires_at - claims.issued_at == 5 * MINUTE
    assert (claims.acr, claims.auth_time is not None) == ("mfa", True)
    assert (granted.token_type, granted.refresh_token) == ("DPoP", None)
    assert world.steps()[-2:] == ["token.issued", "authorization.redeemed"]
    assert claims.transaction == world.recorded.events[-1].authorization


async def test_the_human_is_the_same_as_in_an_exchange(world: DelegationWorld):
    """Whichever way Ann's word comes, a resource server must see one Ann."""
    await world.store.issuers.put(world.idp(subject_claim="oid"))
    world.provider.claims = {"oid": "ann-7"}
    granted = await world.redeem(await world.agreed())
    claims = world.read(granted.access_token, BILLING_API).claims
    assert (claims.subject, claims.subject_issuer) == ("ann-7", world.provider.url)


async def test_a_resource_that_asks_for_less_gets_less(world: DelegationWorld):
    """The resource's own lifetime, and opaque tokens, hold here as anywhere."""
    resource = await world.store.resources.find(BILLING_API)
    await world.store.resources.put(replace(resource, lifetime=MINUTE, token_format=TokenFormat.OPAQUE))
    granted = await world.redeem(await world.agreed())
    assert (granted.expires_in, "." in granted.access_token) == (60, False)


async def test_no_setting_makes_a_delegated_token_longer_than_five_minutes(tmp_path):
    """A human's name on a token is not lent for longer."""
    async with delegation_world(tmp_path) as world:
        await world.open(token_lifetime=15 * MINUTE)
        resource = await world.store.resources.find(BILLING_API)
        await world.store.resources.put(replace(resource, lifetime=15 * MINUTE))
        await world.store.issuers.put(world.idp())
        assert (await world.redeem(await world.agreed())).expires_in == 300


async def test_code_is_good_for_a_minute(world: DelegationWorld):
    """RFC 9700, 4.5: time enough for a redirect."""
    in_time, late = await world.agreed(), await world.agreed(scope="write")
    world.clock.advance(59 * SECOND)
    assert (await world.redeem(in_time)).access_token
    world.clock.advance(SECOND)
    assert await error_of(world.redeem(late)) == "invalid_grant"


@pytest.mark.parametrize("changes", [{"audience": ANALYST_API}, {"resource": ANALYST_API}])
async def test_another_audience_than_agreed_to_is_refused(world: DelegationWorld, changes):
    """RFC 8707, 2.2: the human saw where; the next refresh does not change it."""
    code = await world.agreed(scope=LASTING)
    assert await error_of(world.redeem(code, **changes)) == "invalid_target"
    first = await world.redeem(code, audience=BILLING_API)
    assert await error_of(world.refresh(first.refresh_token, **changes)) == "invalid_target"


# RFC 6749, 6: going on without the human


async def test_each_refresh_token_is_replaced_by_the_next(world: DelegationWorld):
    """RFC 9700, 4.14.2; the access token is the same human's, agent's and audience's."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    second = await world.refresh(first.refresh_token)
    assert first.refresh_token != second.refresh_token
    claims = world.read(second.access_token, BILLING_API).claims
    assert (claims.subject, claims.subject_issuer) == ("ann", world.provider.url)
    assert (claims.scopes, claims.act_chain.actors[0].subject) == ({"read", "write"}, str(PLANNER))
    assert world.steps()[-1] == "authorization.refreshed"


async def test_only_what_was_asked_to_last_lasts(world: DelegationWorld):
    """OpenID Connect Core, 11: without offline_access there is nothing to renew."""
    assert (await world.redeem(await world.agreed(scope="read"))).refresh_token is None
    own = await world.ask(PLANNER, grant_type="client_credentials", audience=BILLING_API, scope="read")
    assert own.refresh_token is None


async def test_a_refresh_token_is_kept_as_its_digest(world: DelegationWorld):
    """Who reads the tables, or the log, cannot go on in Ann's name."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    assert first.refresh_token is not None
    assert first.refresh_token not in repr((world.recorded.events, world.store.tokens._tokens, first))


async def test_scope_may_narrow_and_never_widen(world: DelegationWorld):
    """RFC 6749, 6: narrowed is one access token; the next may have all that was agreed to, and no more."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    narrow = await world.refresh(first.refresh_token, scope="read")
    assert narrow.scope == "read"
    whole = await world.refresh(narrow.refresh_token)
    assert whole.scope == "read write"
    assert await error_of(world.refresh(whole.refresh_token, scope="read pay")) == "invalid_scope"
    everything = await world.refresh(whole.refresh_token, scope=BILLING_API + "/.default")
    assert everything.scope == "read write"  # all that is allowed, which is what was agreed to


async def test_details_may_narrow_and_never_widen(world: DelegationWorld):
    """RFC 9396, 6: for each, one that was agreed to allows as much."""
    first = await world.redeem(await world.agreed(scope="read offline_access", authorization_details=DETAIL))
    other = DETAIL.replace("invoice-7", "invoice-8")
    assert await error_of(world.refresh(first.refresh_token, authorization_details=other)) == (
        "invalid_authorization_details"
    )
    again = await world.refresh(first.refresh_token, authorization_details=DETAIL)
    assert list(again.authorization_details) == json.loads(DETAIL)
    plain = await world.redeem(await world.agreed(scope="read offline_access"))
    assert await error_of(world.refresh(plain.refresh_token, authorization_details=DETAIL)) == (
        "invalid_authorization_details"
    )


async def test_eight_hours_and_the_human_is_asked_again(world: DelegationWorld):
    """However often it is renewed, a yes of this morning is none of tomorrow's."""
    answer = await world.redeem(await world.agreed(scope=LASTING))
    for _ in range(9):
        world.clock.advance(50 * MINUTE)
        answer = await world.refresh(answer.refresh_token)
    world.clock.advance(27 * MINUTE)  # 7 h 57 min
    answer = await world.refresh(answer.refresh_token)
    assert answer.expires_in == 180  # the last access token ends with it
    world.clock.advance(3 * MINUTE)
    assert await error_of(world.refresh(answer.refresh_token)) == "invalid_grant"


async def test_an_hour_unused_and_it_is_over(world: DelegationWorld):
    """An agent that has stopped needing it should not have it."""
    answer = await world.redeem(await world.agreed(scope=LASTING))
    world.clock.advance(HOUR - SECOND)
    answer = await world.refresh(answer.refresh_token)
    world.clock.advance(HOUR)
    assert await error_of(world.refresh(answer.refresh_token)) == "invalid_grant"


async def blueprint_narrowed(world: DelegationWorld) -> str:
    world.limit(PLANNER, "read")
    return "invalid_scope"


async def agent_suspended(world: DelegationWorld) -> str:
    world.directory.suspend(PLANNER)
    return "invalid_client"


async def issuer_deleted(world: DelegationWorld) -> str:
    await world.store.issuers.delete("idp")
    return "invalid_grant"


async def issuer_believed_for_less(world: DelegationWorld) -> str:
    await world.store.issuers.put(world.idp(scopes=frozenset({"read"})))
    return "invalid_scope"


async def issuer_signs_nobody_in(world: DelegationWorld) -> str:
    await world.store.issuers.put(world.idp(sign_in=None))
    return "invalid_grant"


async def client_deleted(world: DelegationWorld) -> str:
    await world.store.clients.delete(str(PLANNER))
    return "invalid_grant"


async def client_registered_anew(world: DelegationWorld) -> str:
    world.clock.advance(SECOND)
    await world.store.clients.put(world.app())
    return "invalid_grant"


async def resource_deleted(world: DelegationWorld) -> str:
    await world.store.resources.delete(BILLING_API)
    return "invalid_target"


async def tokens_of_the_agent_revoked(world: DelegationWorld) -> str:
    await world.service.revoker.agent(PLANNER, by="ann", at=world.clock())
    return "invalid_grant"


@pytest.mark.parametrize(
    "change",
    [
        blueprint_narrowed,
        agent_suspended,
        issuer_deleted,
        issuer_believed_for_less,
        issuer_signs_nobody_in,
        client_deleted,
        client_registered_anew,
        resource_deleted,
        tokens_of_the_agent_revoked,
    ],
)
async def test_what_was_taken_away_is_not_renewed(world: DelegationWorld, change):
    """A refresh token is no right of its own: everybody concerned is looked at each time."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    code = await world.agreed(scope=LASTING)
    error = await change(world)
    assert await error_of(world.refresh(first.refresh_token)) == error
    assert await error_of(world.redeem(code)) == error


async def test_giving_up_a_refresh_token_gives_up_all_of_it(world: DelegationWorld):
    """RFC 7009, 2.1: the access tokens of the same grant too."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    request = world.request(
        url=AS + "/oauth/revoke", client_id=str(PLANNER), token=first.refresh_token, token_type_hint="refresh_token"
    )
    await world.service.revoke(request)
    assert await world.store.tokens.is_revoked(world.read(first.access_token, BILLING_API).claims.jti)
    assert await error_of(world.refresh(first.refresh_token)) == "invalid_grant"


async def test_a_refresh_token_is_no_access_token(world: DelegationWorld):
    """It is for us alone: not to be introspected, nor exchanged."""
    first = await world.redeem(await world.agreed(scope=LASTING))
    request = world.request(url=AS + "/oauth/introspect", client_id=str(PLANNER), token=first.refresh_token)
    assert await world.service.introspect(request) == {"active": False}
    assert await error_of(world.exchange(PLANNER, first.refresh_token)) == "invalid_request"


async def test_an_opaque_access_token_is_no_refresh_token(world: DelegationWorld):
    """It is found by its digest like one, and derives from the same yes; but a resource server was shown it."""
    resource = await world.store.resources.find(BILLING_API)
    await world.store.resources.put(replace(resource, token_format=TokenFormat.OPAQUE))
    for scope in (LASTING, "read"):
        granted = await world.redeem(await world.agreed(scope=scope))
        assert await error_of(world.refresh(granted.access_token)) == "invalid_grant"


async def test_certificates_are_renewed_and_the_client_goes_on(world: DelegationWorld):
    """RFC 8705, 6.3: without DPoP the client's authentication binds it; the access token, its certificate."""
    world.fake.changes = {"binding": Confirmation(x5t_s256="C" * 43)}
    first = await world.redeem(await world.agreed(scope=LASTING))
    world.fake.changes = {"binding": Confirmation(x5t_s256="D" * 43)}
    second = await world.refresh(first.refresh_token)
    claims = world.read(second.access_token, BILLING_API).claims
    assert claims.confirmation == Confirmation(x5t_s256="D" * 43)


async def test_what_is_not_on_record_is_not_handed_out(world: DelegationWorld):
    """Fail closed: no log, no token; and what was made meanwhile is taken back."""
    code = await world.agreed(scope=LASTING)
    first = await world.redeem(await world.agreed(scope=LASTING))
    world.recorded.is_broken = True
    assert await error_of(world.redeem(code)) == "temporarily_unavailable"
    assert await error_of(world.refresh(first.refresh_token)) == "temporarily_unavailable"
    live = [each for each in world.store.tokens._tokens.values() if each.kind in ("access_token", "refresh_token")]
    revoked = [each for each in live if await world.store.tokens.is_revoked(each.jti)]
    assert (len(live), len(revoked)) == (6, 4)
