"""Model 2 of the seed, with real processes: an SVID for a token, and an agent that believes it as far as it says."""

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "start" / "tokens.md").read_text()


@pytest.fixture
def pair(desk, free_port):
    """What the page says, done: its programs in files, its commands typed, the called agent serving."""
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (desk.home / name).write_text(source.replace("8443", str(free_port)))
    for line in re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL).group(1).splitlines():
        done = desk.type(line)
        assert done.code == 0, f"{line}: {done.err}"
    server = desk.start(f"agentshield run --as agent-b -- uvicorn agent_b:app --port {free_port}")
    desk.wait_for(server, "Application startup complete")
    yield desk
    desk.type("agentshield down")


def call(desk, scope, *paths):
    done = desk.type(f"agentshield run --as agent-a -- python agent_a.py {scope} {' '.join(paths)}")
    return done, [json.loads(line) for line in done.out.splitlines()]


def test_svid_becomes_a_token_that_opens_what_it_names(pair):
    """The token is believed for its scope and no other; who stops the agent, or its kind, stops its tokens too."""
    _, (granted, refused) = call(pair, "AI.Task.Execute", "/run", "/admin")
    assert granted[0] == 200
    assert json.loads(granted[2]) == {"caller": "spiffe://example.test/agents/agent-a", "scopes": ["AI.Task.Execute"]}
    assert refused[0] == 403
    assert 'error="insufficient_scope"' in refused[1]

    widened, answers = call(pair, "AI.Admin", "/admin")  # more than the blueprint's ceiling
    assert answers == []
    assert "invalid_scope" in widened.err

    issued = pair.type("agentshield audit search --event token.issued -o json").out
    assert "AI.Task.Execute" in issued
    assert "token.refused" in pair.type("agentshield audit search --event token.refused -o json").out

    assert pair.type("agentshield blueprint disable workers --reason odd").code == 0
    _, answers = call(pair, "AI.Task.Execute", "/run")
    assert answers == []  # no SVID, so no token, so no call
    assert pair.type("agentshield blueprint enable workers").code == 0


def test_issuer_keeps_its_name(pair):
    """Tokens and other services' registrations hold the issuer's name: a restart must not change it."""
    before = pair.type("agentshield status -o json").data["token_service"]
    assert pair.type("agentshield down").code == 0
    assert pair.type("agentshield up --detach").code == 0
    assert pair.type("agentshield status -o json").data["token_service"] == before


def test_the_commands_that_look_at_a_token_are_as_the_page_says(pair):
    """Each line of the page works as typed, and after the last the token opens nothing."""
    lines = re.findall(r"^\$ (agentshield token .*)$", PAGE, re.MULTILINE)
    assert [line.split()[2] for line in lines] == ["mint", "inspect", "verify", "introspect", "revoke"]
    for line in lines:
        done = pair.type(line)
        assert done.code == 0, f"{line}: {done.err}"
    assert pair.type(lines[2]).code == 3
