"""Other issuers' words as grants: identity chaining and ID-JAG, in both roles, each off until its draft is named."""

from datetime import timedelta

import pytest
from exchange_world import BILLING, BILLING_API, JWT_GRANT, OTHER_AS, OUTSIDER, PLANNER, SCOPES, TYPE, thumbprint_of
from oauth_world import AS, IDP

from agentshield.identity.act_chain import ActChain, Party
from agentshield.identity.id_jag import ID_JAG_TYPE, sign_id_jag
from agentshield.identity.jws import UnverifiedJws
from agentshield.oauth.model import ClientAuthMethod, FederatedCredential
from agentshield.oauth.settings import ID_JAG_DRAFT, IDENTITY_CHAINING_DRAFT

PLANNER_PARTY = Party(issuer=AS, subject=str(PLANNER), profile="ai_agent")


async def redeem(world, assertion, agent=PLANNER, **form):
    values = {"grant_type": JWT_GRANT, "assertion": assertion, "audience": BILLING_API, "scope": "read"} | form
    return await world.ask(agent, **values)


async def with_drafts(world, *drafts):
    types = frozenset({None, "JWT", ID_JAG_TYPE})
    await world.open(drafts=frozenset(drafts))
    await world.store.issuers.put(world.issuer(scopes=frozenset({"read", "write"}), token_types=types))
    return world


def id_jag(world, **changes):
    now = int(world.clock().timestamp())
    claims = {
        "iss": IDP,
        "sub": "alice",
        "aud": AS,
        "client_id": str(PLANNER),
        "jti": "g1",
        "iat": now,
        "exp": now + 60,
    }
    return sign_id_jag(claims | changes, world.idp_key, kid="i1")


class TestIdentityChainingAsTheFirstServer:
    """draft-ietf-oauth-identity-chaining-17, 2.3."""

    async def test_a_grant_for_the_other_server_is_short_and_says_who_acts(self, world):
        await with_drafts(world, IDENTITY_CHAINING_DRAFT)
        form = {"requested_token_type": TYPE + "jwt", "audience": OTHER_AS}
        answer = await world.exchange(BILLING, await world.own(PLANNER), **form)
        claims = UnverifiedJws.parse(answer.access_token, types=frozenset({"JWT"})).unverified_claims()
        assert (answer.token_type, answer.issued_token_type, answer.expires_in) == ("N_A", TYPE + "jwt", 60)
        assert (claims["iss"], claims["sub"], claims["aud"]) == (AS, str(PLANNER), OTHER_AS)
        assert (claims["act"]["sub"], claims["scope"]) == (str(BILLING), "read")
        assert claims["cnf"] == {"jkt": thumbprint_of(BILLING)}

    async def test_it_is_refused_while_its_draft_is_off(self, world):
        await with_drafts(world, ID_JAG_DRAFT)
        form = {"requested_token_type": TYPE + "jwt", "audience": OTHER_AS}
        error = await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))
        assert error.rule == IDENTITY_CHAINING_DRAFT

    async def test_our_own_grant_is_not_redeemed_by_us(self, world):
        await with_drafts(world, IDENTITY_CHAINING_DRAFT, ID_JAG_DRAFT)
        for kind in ("jwt", "id-jag"):
            form = {"requested_token_type": TYPE + kind, "audience": OTHER_AS}
            grant = (await world.exchange(BILLING, await world.own(PLANNER), **form)).access_token
            assert (await world.refused(redeem(world, grant, BILLING))).error == "invalid_grant"


class TestAsTheSecondServer:
    """RFC 7523, 3: a registered issuer's assertion about a user."""

    async def test_the_client_acts_for_the_user(self, world):
        answer = await redeem(world, world.user(jti="g1"))
        claims = world.read(answer.access_token, BILLING_API).claims
        assert (claims.subject, claims.subject_issuer, claims.subject_profile) == ("alice", IDP, "user")
        assert claims.act_chain == ActChain((PLANNER_PARTY,))

    async def test_it_is_good_once(self, world):
        assertion = world.user(jti="g1")
        await redeem(world, assertion)
        assert (await world.refused(redeem(world, assertion, OUTSIDER))).error == "invalid_grant"

    async def test_it_ends_with_the_assertion(self, world):
        now = int(world.clock().timestamp())
        assert (await redeem(world, world.user(exp=now + 40))).expires_in == 40

    async def test_nobody_gets_more_than_the_issuer_s_record_allows(self, world):
        await world.store.issuers.put(world.issuer(scopes=frozenset({"read"})))
        assert (await world.refused(redeem(world, world.user(), scope="pay"))).rule == "TX-11"

    @pytest.mark.parametrize(
        "changes",
        [{"iss": "https://else.test"}, {"aud": "https://else.test"}, {"exp": 1000}, {"sub": "spiffe://example.test/x"}],
    )
    async def test_another_issuer_audience_time_or_an_agent_s_name_is_invalid_grant(self, world, changes):
        assert (await world.refused(redeem(world, world.user(**changes)))).error == "invalid_grant"

    async def test_one_bound_to_another_key_is_invalid_grant(self, world):
        cnf = {"jkt": thumbprint_of(OUTSIDER)}
        assert (await world.refused(redeem(world, world.user(cnf=cnf)))).error == "invalid_grant"

    async def test_a_secret_is_not_enough(self, world):
        world.fake.changes = {"method": ClientAuthMethod.CLIENT_SECRET_POST}
        assert (await world.refused(redeem(world, world.user()))).rule == "TX-01"

    @pytest.mark.parametrize("assertion", ["", "nothing", "a.b.c"])
    async def test_what_is_no_assertion_is_refused(self, world, assertion):
        error = await world.refused(redeem(world, assertion))
        assert error.error in ("invalid_grant", "invalid_request")


class TestAnAgentsPlatformToken:
    """A platform's token that a federated credential makes one of our agents."""

    @pytest.fixture(autouse=True)
    async def credential(self, world):
        credential = FederatedCredential(
            name="c", agent=PLANNER, issuer=IDP, subject="job-7", audience=AS, created_at=world.clock(), created_by="a"
        )
        await world.store.credentials.put(credential)

    async def test_its_agent_has_what_its_blueprint_gives_and_as_often_as_it_likes(self, world):
        token = world.foreign_token(jti="same")
        world.limit(PLANNER, "pay")
        for _ in range(2):
            answer = await redeem(world, token, scope="pay")
            claims = world.read(answer.access_token, BILLING_API).claims
            assert (claims.subject, claims.act_chain) == (str(PLANNER), ActChain())

    async def test_with_another_agent_it_is_a_delegation_within_the_issuer_s_scopes(self, world):
        await world.store.issuers.put(world.issuer(scopes=frozenset({"read"})))
        answer = await redeem(world, world.foreign_token(), BILLING)
        assert len(world.read(answer.access_token, BILLING_API).claims.act_chain.actors) == 1
        assert (await world.refused(redeem(world, world.foreign_token(), BILLING, scope="pay"))).rule == "TX-11"

    async def test_of_a_suspended_agent_it_is_worthless_in_other_hands(self, world):
        world.directory.suspend(PLANNER)
        assert (await world.refused(redeem(world, world.foreign_token(), BILLING))).rule == "TX-12"


class TestIdJag:
    """draft-ietf-oauth-identity-assertion-authz-grant-04."""

    async def test_issued_it_names_client_resource_and_user(self, world):
        await with_drafts(world, ID_JAG_DRAFT)
        form = {
            "requested_token_type": TYPE + "id-jag",
            "audience": OTHER_AS,
            "resource": "https://api.other.test",
            "subject_token_type": TYPE + "id_token",
        }
        answer = await world.exchange(PLANNER, world.user(), **form)
        claims = UnverifiedJws.parse(answer.access_token, types=frozenset({ID_JAG_TYPE})).unverified_claims()
        assert (answer.token_type, answer.issued_token_type) == ("N_A", TYPE + "id-jag")
        assert (claims["aud"], claims["resource"], claims["client_id"]) == (OTHER_AS, form["resource"], str(PLANNER))
        assert claims["sub_id"] == {"format": "iss_sub", "iss": IDP, "sub": "alice"}
        assert claims["exp"] - claims["iat"] <= 300

    async def test_redeemed_it_makes_a_token_within_its_scopes(self, world):
        await with_drafts(world, ID_JAG_DRAFT)
        grant = id_jag(world, scope="read", resource=BILLING_API)
        answer = await redeem(world, grant, audience=None)
        claims = world.read(answer.access_token, BILLING_API).claims
        assert (claims.subject, claims.subject_issuer, claims.scopes) == ("alice", IDP, {"read"})
        assert (await world.refused(redeem(world, grant))).error == "invalid_grant"
        again = id_jag(world, scope="read", jti="g2")
        assert (await world.refused(redeem(world, again, scope="write"))).rule == "TX-11"

    @pytest.mark.parametrize(
        "changes",
        [
            {"client_id": str(BILLING)},
            {"aud": "https://else.test"},
            {"aud": [AS, "https://else.test"]},
            {"cnf": {"jkt": "o" * 43}},
            {"resource": "https://planner.test"},
            {"sub": "spiffe://example.test/agents/planner"},
        ],
    )
    async def test_another_client_s_server_s_key_s_or_resource_s_is_refused(self, world, changes):
        await with_drafts(world, ID_JAG_DRAFT)
        assert (await world.refused(redeem(world, id_jag(world, **changes)))).error == "invalid_grant"

    async def test_too_old_a_one_is_refused(self, world):
        await with_drafts(world, ID_JAG_DRAFT)
        grant = id_jag(world)
        world.clock.advance(timedelta(minutes=2))
        assert (await world.refused(redeem(world, grant))).error == "invalid_grant"

    async def test_both_roles_are_off_while_the_draft_is(self, world):
        await with_drafts(world, IDENTITY_CHAINING_DRAFT)
        form = {"requested_token_type": TYPE + "id-jag", "audience": OTHER_AS}
        assert (await world.refused(world.exchange(BILLING, await world.own(PLANNER), **form))).rule == ID_JAG_DRAFT
        assert (await world.refused(redeem(world, id_jag(world)))).rule == ID_JAG_DRAFT

    async def test_of_an_issuer_not_registered_for_it_it_is_refused(self, world):
        await with_drafts(world, ID_JAG_DRAFT)
        await world.store.issuers.put(world.issuer(scopes=SCOPES))
        assert (await world.refused(redeem(world, id_jag(world)))).error == "invalid_grant"
