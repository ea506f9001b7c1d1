"""Token exchange, TX-01 to TX-13: for each rule what it lets through, and what it does not."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))  # test directories are no packages

from exchange_world import (
    ANALYST,
    ANALYST_API,
    BILLING,
    BILLING_API,
    OUTSIDER,
    PLANNER,
    PLANNER_API,
    TYPE,
    ExchangeWorld,
    thumbprint_of,
)
from oauth_world import AS, IDP

from agentshield.identity.access_token import Confirmation
from agentshield.identity.act_chain import ActChain, Party
from agentshield.oauth.model import ClientAuthMethod, TokenFormat

ACTOR = {"actor_token_type": TYPE + "access_token"}


@pytest.fixture
async def world(tmp_path) -> ExchangeWorld:
    return await ExchangeWorld(keys_directory=tmp_path).open()


def agent(spiffe_id) -> Party:
    return Party(issuer=AS, subject=str(spiffe_id), profile="ai_agent")


def bound_to(spiffe_id) -> Confirmation:
    return Confirmation(jkt=thumbprint_of(spiffe_id))


class TestTX01ClientProvesAKey:
    """A secret can be in two places at once; who acts for others may not be."""

    async def test_a_key_will_do(self, world):
        assert (await world.exchange(BILLING, await world.own(PLANNER))).access_token

    @pytest.mark.parametrize("method", [ClientAuthMethod.CLIENT_SECRET_BASIC, ClientAuthMethod.CLIENT_SECRET_POST])
    async def test_a_secret_will_not_even_with_a_key_beside_it(self, world, method):
        token = await world.own(PLANNER)
        world.fake.changes = {"method": method}
        error = await world.refused(world.exchange(BILLING, token))
        assert (error.rule, error.error) == ("TX-01", "unauthorized_client")

    async def test_no_key_in_the_request_will_not(self, world):
        token = await world.own(PLANNER)
        world.fake.changes = {"binding": None, "bearer_until": world.clock() + timedelta(days=1)}
        assert (await world.refused(world.exchange(BILLING, token))).rule == "TX-01"


class TestTX02MeantForWhoPresentsIt:
    """A token shown to one agent must be of no use to another that saw it."""

    async def test_its_audience_may_exchange_it(self, world):
        assert (await world.exchange(BILLING, await world.own(PLANNER, BILLING_API))).access_token

    async def test_so_may_anybody_whom_we_are_the_audience_for(self, world):
        token = await world.own(PLANNER, AS)
        assert (await world.exchange(PLANNER, token)).access_token

    @pytest.mark.parametrize("other", [ANALYST, OUTSIDER, PLANNER])
    async def test_nobody_else_may(self, world, other):
        token = await world.own(PLANNER, BILLING_API)
        assert (await world.refused(world.exchange(other, token))).rule == "TX-02"

    async def test_a_foreign_token_for_one_agent_s_resource_is_that_agent_s(self, world):
        await world.store.issuers.put(world.issuer(audiences=frozenset({AS, PLANNER_API}), scopes=frozenset({"read"})))
        token = world.user(aud=PLANNER_API)
        form = {"subject_token_type": TYPE + "jwt"}
        assert (await world.exchange(PLANNER, token, **form)).access_token
        assert (await world.refused(world.exchange(BILLING, token, **form))).rule == "TX-02"


class TestTX03BoundToTheKeyThatIsProven:
    """A stolen token is useless without its key, at the token endpoint as well."""

    async def test_its_key_s_holder_may_exchange_it(self, world):
        token = await world.own(PLANNER, AS)
        assert (await world.exchange(PLANNER, token)).access_token

    async def test_the_recipient_may_though_bound_to_the_sender(self, world):
        token = await world.signed(confirmation=bound_to(OUTSIDER))
        assert (await world.exchange(PLANNER, token)).access_token

    async def test_another_key_may_not(self, world):
        token = await world.own(PLANNER, AS)
        assert (await world.refused(world.exchange(OUTSIDER, token))).rule == "TX-03"

    async def test_a_certificate_is_no_dpop_key(self, world):
        token = await world.signed(audience=AS, confirmation=Confirmation(x5t_s256=thumbprint_of(PLANNER)))
        assert (await world.refused(world.exchange(PLANNER, token))).rule == "TX-03"


class TestTX04ActorTokenIsTheClients:
    """Two tokens of two others must not be joined into a chain that never was."""

    async def test_its_own_will_do(self, world):
        mine = await world.own(BILLING, AS)
        answer = await world.exchange(BILLING, await world.own(PLANNER), actor_token=mine, **ACTOR)
        assert answer.access_token

    async def test_another_agent_s_will_not(self, world):
        theirs = await world.own(ANALYST, AS)
        subject = await world.own(PLANNER)
        error = await world.refused(world.exchange(BILLING, subject, actor_token=theirs, **ACTOR))
        assert error.rule == "TX-04"

    async def test_its_own_on_another_key_will_not(self, world):
        mine = await world.signed(
            subject=str(BILLING), subject_issuer=None, audience=AS, confirmation=bound_to(OUTSIDER)
        )
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), actor_token=mine, **ACTOR))
        assert error.rule == "TX-04"

    async def test_a_delegated_one_about_the_client_will_not(self, world):
        mine = await world.signed(
            subject=str(BILLING), subject_issuer=None, audience=AS, act_chain=ActChain((agent(ANALYST),))
        )
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), actor_token=mine, **ACTOR))
        assert error.rule == "TX-04"

    async def test_a_revoked_one_will_not(self, world):
        mine = await world.own(BILLING, AS)
        subject = await world.own(PLANNER)
        jti = world.read(mine, AS).claims.jti
        await world.store.tokens.revoke(jti, at=world.clock())
        error = await world.refused(world.exchange(BILLING, subject, actor_token=mine, **ACTOR))
        assert error.rule == "TX-12"

    @pytest.mark.parametrize("half", [{"actor_token": "a.b.c"}, {"actor_token_type": TYPE + "jwt"}])
    async def test_half_of_the_pair_will_not(self, world, half):
        assert (await world.refused(world.exchange(BILLING, await world.own(PLANNER), **half))).rule == "RFC 8693 2.1"


class TestTX05MayAct:
    """Who said who may act for them meant nobody else."""

    async def test_the_named_one_may(self, world):
        token = await world.signed(may_act=Party(issuer=AS, subject=str(PLANNER)))
        assert (await world.exchange(PLANNER, token)).access_token

    @pytest.mark.parametrize("party", [Party(issuer=AS, subject=str(BILLING)), Party(issuer=IDP, subject=str(PLANNER))])
    async def test_another_may_not_nor_a_namesake_of_another_issuer(self, world, party):
        token = await world.signed(may_act=party)
        assert (await world.refused(world.exchange(PLANNER, token))).rule == "TX-05"


class TestTX06ChainGrowsByTheClient:
    """Whoever was in the chain stays in it, or nobody can tell who did what."""

    async def test_the_client_is_put_in_front(self, world):
        before = ActChain((agent(ANALYST), agent(BILLING)))
        token = await world.signed(act_chain=before)
        answer = await world.exchange(PLANNER, token)
        assert world.read(answer.access_token, ANALYST_API).claims.act_chain == before.extended_by(agent(PLANNER))

    async def test_who_acts_for_itself_adds_nobody(self, world):
        answer = await world.exchange(PLANNER, await world.own(PLANNER, AS))
        assert world.read(answer.access_token, ANALYST_API).claims.act_chain == ActChain()

    async def test_a_chain_is_not_dropped_because_it_comes_back_to_its_subject(self, world):
        token = await world.signed(subject=str(PLANNER), subject_issuer=None, act_chain=ActChain((agent(BILLING),)))
        answer = await world.exchange(PLANNER, token)
        chain = world.read(answer.access_token, ANALYST_API).claims.act_chain
        assert chain == ActChain((agent(PLANNER), agent(BILLING)))

    async def test_a_user_of_an_agent_s_name_is_not_that_agent(self, world):
        token = await world.signed(subject=str(PLANNER), subject_issuer=IDP)
        answer = await world.exchange(PLANNER, token)
        assert world.read(answer.access_token, ANALYST_API).claims.act_chain == ActChain((agent(PLANNER),))


class TestTX07Depth:
    """A chain without end is a loop, or somebody hiding in a crowd."""

    async def test_the_fifth_actor_is_the_last(self, world):
        token = await world.signed(act_chain=ActChain((agent(BILLING),) * 4))
        answer = await world.exchange(PLANNER, token)
        assert len(world.read(answer.access_token, ANALYST_API).claims.act_chain.actors) == 5

    async def test_a_sixth_is_refused(self, world):
        token = await world.signed(act_chain=ActChain((agent(BILLING),) * 5))
        error = await world.refused(world.exchange(PLANNER, token))
        assert (error.rule, error.error) == ("TX-07", "invalid_request")


class TestTX08NoWiderNoLonger:
    """What comes out of an exchange cannot do more, or live longer, than what went in."""

    async def test_it_ends_with_the_subject_token(self, world):
        token = await world.own(PLANNER)
        ends = world.read(token, BILLING_API).claims.expires_at
        world.clock.advance(timedelta(minutes=2, milliseconds=700))
        answer = await world.exchange(BILLING, token)
        assert world.read(answer.access_token, ANALYST_API).claims.expires_at == ends

    async def test_one_that_has_ended_is_refused_also_when_it_was_believed_before(self, world):
        token = await world.own(PLANNER)
        await world.exchange(BILLING, token)
        world.clock.advance(timedelta(minutes=5))
        assert (await world.refused(world.exchange(BILLING, token))).rule == "RFC 8693 2.1"

    async def test_it_ends_with_the_certificate_it_is_bound_to(self, world):
        token = await world.own(PLANNER)
        ends = world.clock() + timedelta(seconds=90)
        world.fake.changes = {"binding": Confirmation(x5t_s256="c" * 43), "binding_ends_at": ends}
        answer = await world.exchange(BILLING, token)
        assert (answer.expires_in, answer.token_type) == (90, "Bearer")

    async def test_details_stay_within_the_subject_token_s(self, world):
        detail = {"type": "agent_action", "actions": ["read"], "identifier": "invoice-7"}
        token = await world.signed(authorization_details=(detail,))
        kept = await world.exchange(PLANNER, token)
        assert kept.authorization_details == (detail,)
        wider = '[{"type":"agent_action","actions":["read"]}]'
        error = await world.refused(world.exchange(PLANNER, token, authorization_details=wider))
        assert error.error == "invalid_authorization_details"

    async def test_the_audience_must_be_named(self, world):
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), audience=None))
        assert (error.rule, error.error) == ("TX-08", "invalid_target")


class TestTX09ActorsAreWholePairs:
    """A subject without who named it can be anybody."""

    async def test_a_foreign_chain_of_pairs_is_kept(self, world):
        token = world.user(act={"iss": IDP, "sub": "portal"})
        answer = await world.exchange(PLANNER, token, subject_token_type=TYPE + "jwt")
        chain = world.read(answer.access_token, ANALYST_API).claims.act_chain
        assert chain == ActChain((agent(PLANNER), Party(issuer=IDP, subject="portal")))

    @pytest.mark.parametrize("act", [{"sub": "portal"}, {"iss": IDP}, {"iss": IDP, "sub": "p", "exp": 1}, "portal"])
    async def test_half_a_pair_or_more_than_one_is_refused(self, world, act):
        error = await world.refused(world.exchange(PLANNER, world.user(act=act), subject_token_type=TYPE + "jwt"))
        assert error.rule == "RFC 8693 2.1"


class TestTX10BoundToTheActor:
    """What the actor is given is of use to the actor alone."""

    async def test_it_is_bound_to_the_client_s_key_not_to_the_subject_s(self, world):
        answer = await world.exchange(BILLING, await world.own(PLANNER))
        assert world.read(answer.access_token, ANALYST_API).claims.confirmation == bound_to(BILLING)
        assert answer.token_type == "DPoP"

    async def test_without_a_key_nothing_is_issued(self, world):
        world.fake.changes = {"binding": None}
        error = await world.refused(world.own(PLANNER))
        assert (error.rule, error.error) == ("TX-10", "invalid_request")


class TestTX11AllOrNothing:
    """Who asks for too much is told so; half a right is found out later, and elsewhere."""

    @pytest.mark.parametrize("limited", ["subject", "client", "resource"])
    async def test_more_than_any_of_the_three_allows_is_refused(self, world, limited):
        token = await world.own(PLANNER, scope="read" if limited == "subject" else "read write")
        if limited == "client":
            world.limit(BILLING, "read")
        if limited == "resource":
            resource = world.resource(audience=ANALYST_API, server=ANALYST, scopes=frozenset({"read"}))
            await world.store.resources.put(resource)
        assert (await world.exchange(BILLING, token, scope="read")).scope == "read"
        error = await world.refused(world.exchange(BILLING, token, scope="read write"))
        assert (error.rule, error.error) == ("TX-11", "invalid_scope")

    async def test_whatever_is_allowed_can_be_asked_for_by_its_word(self, world):
        world.limit(BILLING, "read", "pay")
        answer = await world.exchange(BILLING, await world.own(PLANNER), scope=ANALYST_API + "/.default")
        assert answer.scope == "read"

    async def test_but_not_where_that_is_nothing(self, world):
        world.limit(BILLING, "pay")
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), scope=ANALYST_API + "/.default"))
        assert error.rule == "TX-11"


class TestTX12StillGood:
    """Who was stopped a moment ago does not go on by an exchange."""

    async def test_a_revoked_token_is_refused_also_when_it_was_believed_before(self, world):
        token = await world.own(PLANNER)
        await world.exchange(BILLING, token)
        await world.store.tokens.revoke(world.read(token, BILLING_API).claims.jti, at=world.clock())
        assert (await world.refused(world.exchange(BILLING, token))).rule == "TX-12"

    async def test_a_suspended_subject_s_is(self, world):
        token = await world.own(PLANNER)
        world.directory.suspend(PLANNER)
        assert (await world.refused(world.exchange(BILLING, token))).rule == "TX-12"

    async def test_so_is_one_with_a_suspended_actor_behind_it(self, world):
        token = await world.signed(act_chain=ActChain((agent(ANALYST),)))
        world.directory.suspend(ANALYST)
        assert (await world.refused(world.exchange(PLANNER, token))).rule == "TX-12"

    async def test_one_of_which_there_is_no_record_is(self, world):
        token = await world.own(PLANNER)
        world.clock.advance(timedelta(minutes=1))
        await world.store.tokens.forget(before=world.clock() + timedelta(hours=1))
        assert (await world.refused(world.exchange(BILLING, token))).rule == "TX-12"


class TestTX13OneAudience:
    """A token for two is a token that either can use at the other."""

    async def test_one_by_either_name_will_do(self, world):
        token = await world.own(PLANNER)
        answer = await world.exchange(BILLING, token, resource=ANALYST_API)  # the same under both names
        assert world.read(answer.access_token, ANALYST_API).claims.audience == ANALYST_API

    @pytest.mark.parametrize("form", [{"audience": (ANALYST_API, BILLING_API)}, {"resource": BILLING_API}])
    async def test_two_will_not(self, world, form):
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))
        assert (error.rule, error.error) == ("TX-13", "invalid_target")

    @pytest.mark.parametrize("target", ["https://nobody.test", "/relative", "https://a.test/#part"])
    async def test_an_unknown_or_misspelt_one_will_not(self, world, target):
        form = {"audience": None, "resource": target}
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))
        assert (error.rule, error.error) == ("RFC 8707 2", "invalid_target")


class TestRequestAndSubjectTokenTypes:
    """RFC 8693, 2.1: what is not supported is said to be so."""

    @pytest.mark.parametrize("form", [{"subject_token_type": TYPE + "saml2"}, {"requested_token_type": TYPE + "saml2"}])
    async def test_other_types_are_refused(self, world, form):
        assert (
            await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))
        ).error == "invalid_request"

    async def test_our_own_token_is_no_id_token(self, world):
        form = {"subject_token_type": TYPE + "id_token"}
        assert (await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))).rule == "RFC 8693 2.1"

    async def test_an_opaque_token_can_be_exchanged_by_whom_it_is_for(self, world):
        opaque = replace(world.resource(server=BILLING), token_format=TokenFormat.OPAQUE)
        await world.store.resources.put(opaque)
        token = await world.own(PLANNER)
        assert "." not in token
        assert world.read((await world.exchange(BILLING, token)).access_token, ANALYST_API).claims.subject == str(
            PLANNER
        )
        assert (await world.refused(world.exchange(ANALYST, token))).rule == "TX-02"
