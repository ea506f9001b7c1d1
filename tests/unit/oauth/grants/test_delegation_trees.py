"""Whatever tree of delegations agents grow out of a user's token, rights and time never do."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

from exchange_world import ANALYST, ANALYST_API, BILLING, BILLING_API, PLANNER, PLANNER_API, SCOPES, TYPE, ExchangeWorld
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oauth_world import AS

from agentshield.identity.act_chain import Party
from agentshield.oauth.errors import OAuthError

SERVERS = {PLANNER_API: PLANNER, BILLING_API: BILLING, ANALYST_API: ANALYST}
_SCOPES = st.frozensets(st.sampled_from(sorted(SCOPES)), max_size=3)
_STEP = st.tuples(
    st.integers(0, 20),  # which node of the tree it grows from
    st.sampled_from(sorted(SERVERS)),  # for which audience
    _SCOPES,
    st.integers(0, 100),  # seconds that pass first
    st.booleans(),  # by whom the token is for; else by somebody who saw it
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(_STEP, max_size=10), first=_SCOPES)
def test_in_any_tree_rights_and_end_never_grow_and_the_chain_grows_by_the_caller(steps, first):
    """If one path led to more, an agent that is refused would find it."""
    asyncio.run(_grow(steps, first))


async def _grow(steps, first):
    with tempfile.TemporaryDirectory() as directory:
        world = await ExchangeWorld(keys_directory=Path(directory)).open()
        form = {"subject_token_type": TYPE + "jwt", "scope": " ".join(first) or None, "audience": PLANNER_API}
        root = (await world.exchange(BILLING, world.user(), **form)).access_token
        tree = [(root, world.read(root, PLANNER_API).claims)]
        for index, audience, scopes, seconds, is_recipient in steps:
            token, claims = tree[index % len(tree)]
            world.clock.advance(timedelta(seconds=seconds))
            caller = SERVERS[claims.audience] if is_recipient else BILLING
            may = scopes <= claims.scopes and world.clock() < claims.expires_at and len(claims.act_chain.actors) < 5
            may = may and caller == SERVERS[claims.audience]
            form = {"scope": " ".join(scopes) or None, "audience": audience}
            try:
                answer = await world.exchange(caller, token, **form)
            except OAuthError:
                assert not may
                continue
            assert may
            grown = world.read(answer.access_token, audience).claims
            assert grown.scopes <= claims.scopes
            assert grown.expires_at <= claims.expires_at
            assert (grown.subject, grown.subject_issuer) == (claims.subject, claims.subject_issuer)
            party = Party(issuer=AS, subject=str(caller), profile="ai_agent")
            assert grown.act_chain == claims.act_chain.extended_by(party)
            tree.append((answer.access_token, grown))
