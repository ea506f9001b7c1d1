"""Transaction tokens (draft-ietf-oauth-transaction-tokens-11): begun, narrowed, and never widened."""

from datetime import timedelta

import pytest
from exchange_world import ANALYST, BILLING, BILLING_API, PLANNER, TYPE
from oauth_world import IDP

from agentshield.identity.transaction_token import verify_transaction_token
from agentshield.oauth.settings import TRANSACTION_TOKENS_DRAFT

TXN = TYPE + "txn_token"
FORM = {"requested_token_type": TXN, "audience": "example.test", "scope": "read write"}


@pytest.fixture
async def world(world):
    return await world.open(drafts=frozenset({TRANSACTION_TOKENS_DRAFT}))


def read(world, token):
    return verify_transaction_token(
        token, keys=world.keys.key_set(), trust_domain="example.test", at=world.clock()
    ).claims


async def begun(world, **form):
    return (await world.exchange(BILLING, await world.own(PLANNER), **(FORM | form))).access_token


async def replaced(world, token, **form):
    return await world.exchange(ANALYST, token, **(FORM | {"subject_token_type": TXN} | form))


async def test_a_transaction_has_its_subject_its_requester_and_its_context(world):
    """What it is about is fixed where it begins."""
    answer = await world.exchange(
        BILLING, await world.own(PLANNER), **FORM, request_details='{"invoice":7}', request_context='{"ip":"::1"}'
    )
    claims = read(world, answer.access_token)
    assert (answer.token_type, answer.issued_token_type, answer.expires_in) == ("N_A", TXN, 120)
    assert (claims.subject, claims.requester, claims.scopes) == (str(PLANNER), str(BILLING), {"read", "write"})
    assert (claims.transaction_context, claims.requester_context) == ({"invoice": 7}, {"ip": "::1"})


async def test_a_foreign_subject_takes_its_issuer_along(world):
    """`sub` is unique in the domain: two providers' alices are two people."""
    answer = await world.exchange(PLANNER, world.user(), **FORM, subject_token_type=TYPE + "jwt")
    assert read(world, answer.access_token).subject == f"{IDP}#alice"


async def test_a_replacement_keeps_the_transaction_and_adds_its_requester(world):
    """Draft, 6: txn, sub and aud never change, and who asked stays known."""
    first = await begun(world, request_details='{"invoice":7}')
    second = (await replaced(world, first, scope="read")).access_token
    before, after = read(world, first), read(world, second)
    assert (after.transaction, after.subject, after.audience) == (before.transaction, before.subject, before.audience)
    assert after.transaction_context == before.transaction_context
    assert (after.scopes, after.requester) == ({"read"}, f"{BILLING},{ANALYST}")
    assert after.expires_at <= before.expires_at


async def test_a_replacement_is_no_wider(world):
    """The narrowest of the line counts from there on."""
    first = await begun(world, scope="read")
    assert (await world.refused(replaced(world, first))).rule == "TX-11"


@pytest.mark.parametrize(
    "form", [{"request_details": "{}"}, {"request_context": "{}"}, {"requested_token_type": TYPE + "access_token"}]
)
async def test_a_replacement_changes_no_context_and_is_no_access_token(world, form):
    """Draft, 6; an access token out of it would outlive its purpose."""
    first = await begun(world)
    assert (await world.refused(replaced(world, first, **form))).rule == TRANSACTION_TOKENS_DRAFT


async def test_an_ended_or_revoked_one_is_not_replaced(world):
    """Draft, 6: never from an expired one; and what was taken back stays so."""
    token = await world.own(PLANNER)
    first = (await world.exchange(BILLING, token, **FORM)).access_token
    await world.store.tokens.revoke(world.read(token, BILLING_API).claims.jti, at=world.clock())
    assert (await world.refused(replaced(world, first))).rule == "TX-12"
    other = await begun(world)
    world.clock.advance(timedelta(minutes=3))
    assert (await world.refused(replaced(world, other))).rule == TRANSACTION_TOKENS_DRAFT


@pytest.mark.parametrize(
    "form",
    [
        {"audience": "other.test"},
        {"scope": None},
        {"scope": "pay"},
        {"request_details": "[]"},
        {"request_context": "x"},
    ],
)
async def test_another_domain_no_scope_more_scope_or_no_object_is_refused(world, form):
    """A transaction for nothing in particular is one for anything."""
    await world.refused(world.exchange(BILLING, await world.own(PLANNER), **(FORM | form)))


async def test_it_is_refused_while_the_draft_is_off(world):
    """A draft is on by name and number only."""
    first = await begun(world)
    await world.open()
    assert (await world.refused(begun(world))).rule == TRANSACTION_TOKENS_DRAFT
    assert (await world.refused(replaced(world, first))).rule == TRANSACTION_TOKENS_DRAFT
