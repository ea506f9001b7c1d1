"""Model 2 of the seed, with real processes: an SVID for a token, and an agent that believes it as far as it says."""

import json

import pytest

SERVER = """
from fastapi import Depends, FastAPI

from agentshield.fastapi import Caller, caller, protect
from agentshield.sdk.access_tokens import TokenVerifier

app = protect(FastAPI(), tokens=TokenVerifier(audience="api://agent-b", base_url="https://127.0.0.1:PORT"))


@app.post("/run")
async def run(who: Caller = Depends(caller("run", scopes=["AI.Task.Execute"]))):
    return {"caller": str(who.spiffe_id), "scopes": sorted(who.scopes)}


@app.post("/admin")
async def admin(who: Caller = Depends(caller("admin", scopes=["AI.Admin"]))):
    return {}
"""

CLIENT = """
import asyncio
import json
import sys

from agentshield import Shield
from agentshield.errors import AgentShieldError


async def main(scope, paths):
    async with Shield.from_env() as me:
        url = "https://127.0.0.1:PORT"
        auth = me.auth(url, scopes=[scope], audience="api://agent-b")
        async with me.client(expect="spiffe://example.test/agents/agent-b", auth=auth) as http:
            for path in paths:
                try:
                    answer = await http.post(url + path)
                    print(json.dumps([answer.status_code, answer.headers.get("www-authenticate", ""), answer.text]))
                except AgentShieldError as error:
                    print(json.dumps([0, error.code, str(error)]))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


@pytest.fixture
def pair(desk, free_port):
    """Two agents of one kind, the audience that the second answers under, and its server."""
    (desk.home / "b.py").write_text(SERVER.replace("PORT", str(free_port)))
    (desk.home / "a.py").write_text(CLIENT.replace("PORT", str(free_port)))
    assert desk.type("agentshield up --detach").code == 0
    for line in (
        "blueprint create workers --sponsor alice --scope api://agent-b=AI.Task.Execute",
        "agent create agent-a --blueprint workers",
        "agent create agent-b",
        "resource create api://agent-b --server agent-b --scope AI.Task.Execute --scope AI.Admin",
        "policy allow agent-a agent-b run admin",
    ):
        done = desk.type(f"agentshield {line}")
        assert done.code == 0, done.err
    server = desk.start(f"agentshield run --as agent-b -- uvicorn b:app --port {free_port}")
    desk.wait_for(server, "Application startup complete")
    yield desk
    desk.type("agentshield down")


def call(desk, scope, *paths):
    done = desk.type(f"agentshield run --as agent-a -- python a.py {scope} {' '.join(paths)}")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_svid_becomes_a_token_that_opens_what_it_names(pair):
    """The token is believed for its scope and no other; who stops the agent, or its kind, stops its tokens too."""
    granted, refused = call(pair, "AI.Task.Execute", "/run", "/admin")
    assert granted[0] == 200
    assert json.loads(granted[2]) == {"caller": "spiffe://example.test/agents/agent-a", "scopes": ["AI.Task.Execute"]}
    assert refused[0] == 403
    assert 'error="insufficient_scope"' in refused[1]

    (widened,) = call(pair, "AI.Admin", "/admin")  # more than the blueprint's ceiling
    assert widened[0] == 0
    assert "invalid_scope" in widened[2]

    issued = pair.type("agentshield audit search --event token.issued -o json").out
    assert "AI.Task.Execute" in issued
    assert "token.refused" in pair.type("agentshield audit search --event token.refused -o json").out

    assert pair.type("agentshield blueprint disable workers --reason odd").code == 0
    stopped = pair.type("agentshield run --as agent-a -- python a.py AI.Task.Execute /run")
    assert "[200" not in stopped.out
    assert pair.type("agentshield blueprint enable workers").code == 0


def test_issuer_keeps_its_name(pair):
    """Tokens and other services' registrations hold the issuer's name: a restart must not change it."""
    before = pair.type("agentshield status -o json").data["token_service"]
    assert pair.type("agentshield down").code == 0
    assert pair.type("agentshield up --detach").code == 0
    assert pair.type("agentshield status -o json").data["token_service"] == before
