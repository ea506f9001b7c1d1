"""FastAPI routes that ask for scopes: 401 and 403 as the RFCs have them, whoever answers."""

from typing import Annotated

import pytest
from token_world import PLANNER

from agentshield.fastapi import Caller, caller, protect

fastapi = pytest.importorskip("fastapi")


def app_of(world):
    app = protect(fastapi.FastAPI(), world.pair.analyst, tokens=world.verifier())

    @app.get("/run")
    async def run(who: Annotated[Caller, fastapi.Depends(caller("run", scopes=["AI.Task.Execute"]))]):
        world.callers.append(who)
        return who.spiffe_id

    return app


async def test_a_token_with_the_scope(world):
    """The caller of the route is the holder of the token."""
    answer = await world.ask(app_of(world), world.server.issue(jkt=world.jkt))
    assert (answer.status, answer.body.decode()) == (200, f'"{PLANNER}"')
    assert world.callers[0].scopes == {"AI.Task.Execute"}


async def test_a_token_without_it(world):
    """403, the scope to ask for, and the decision to ask about."""
    answer = await world.ask(app_of(world), world.server.issue(jkt=world.jkt, scopes=["AI.Task.Read"]))
    assert answer.status == 403
    assert 'error="insufficient_scope", scope="AI.Task.Execute"' in answer.challenge
    assert b"decision_id" in answer.body
    assert world.callers == []


async def test_no_token(world):
    """401 by the route itself carries the challenge too."""
    from agentshield.identity.verify import verify_x509_svid

    domain = world.pair.domain
    peer = verify_x509_svid(domain.issue_svid("/agents/planner").chain, domain.bundles(), at=domain.clock())
    for shown in (None, peer):
        answer = await world.ask(app_of(world), peer=shown)
        assert answer.status == 401
        assert "resource_metadata=" in answer.challenge
    assert world.callers == []


async def test_scopes_without_tokens_are_never_met(world):
    """A route that asks for scopes behind a door that takes no tokens stays closed."""
    app = protect(fastapi.FastAPI(), world.pair.analyst)

    @app.get("/run")
    async def run(who: Annotated[Caller, fastapi.Depends(caller("run", scopes=["a"]))]):
        world.callers.append(who)

    from agentshield.identity.verify import verify_x509_svid

    domain = world.pair.domain
    peer = verify_x509_svid(domain.issue_svid("/agents/planner").chain, domain.bundles(), at=domain.clock())
    assert (await world.ask(app, world.server.issue(jkt=world.jkt), peer=peer)).status == 401
    assert world.callers == []


@pytest.mark.parametrize("scopes", [["two words"], [""], ['quo"te'], ["back\\slash"], ["line\n"]])
def test_what_is_no_scope(scopes):
    """RFC 6749, 3.3; and a quote would end the challenge's parameter."""
    with pytest.raises(ValueError, match="scope is"):
        caller("run", scopes=scopes)


def test_one_scope_is_not_its_letters():
    """`scopes="read"` would ask for r, e, a and d."""
    with pytest.raises(TypeError, match="list of scopes"):
        caller("run", scopes="read")
