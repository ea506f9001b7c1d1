"""`spiffe_wit` with real processes: the node agent's WIT-SVID, a proof of its key, and a token for it."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TOKENS = (DOCS / "start" / "tokens.md").read_text()
PAGE = (DOCS / "explain" / "wit-svids.md").read_text()
DRAFT = "draft-ietf-oauth-spiffe-client-auth-02"


@pytest.fixture
def pair(desk, free_port):
    """The agents of "Your first token", one of which proves itself as this page says."""
    ((line, changed),) = re.findall(r"```diff\n- (.*)\n\+ (.*)\n```", PAGE)
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TOKENS, re.DOTALL):
        if name == "agent_a.py":
            assert line in source
            source = source.replace(line, changed)
        (desk.home / name).write_text(source.replace("8443", str(free_port)))
    first, *others = re.search(r"```sh\n(.*?)```", TOKENS, re.DOTALL).group(1).splitlines()
    assert first == "agentshield up --detach"
    (with_draft,) = re.findall(r"```sh\n(agentshield up .*)\n```", PAGE)
    for line in (f"{with_draft} --detach", *others):
        done = desk.type(line)
        assert done.code == 0, f"{line}: {done.err}"
    server = desk.start(f"agentshield run --as agent-b -- uvicorn agent_b:app --port {free_port}")
    desk.wait_for(server, "Application startup complete")
    yield desk
    desk.type("agentshield down")


def test_a_wit_svid_becomes_a_token(pair):
    """The page, done: the token opens what it names, and the log tells by what its holder proved itself."""
    done = pair.type("agentshield run --as agent-a -- python agent_a.py AI.Task.Execute /run")
    (answer,) = [json.loads(line) for line in done.out.splitlines()]
    assert answer[0] == 200, done.err
    (issued,) = json.loads(pair.type("agentshield audit search --event token.issued -o json").out)["items"]
    assert "spiffe_wit" in json.dumps(issued)
    svids = pair.type("agentshield audit search --event svid.issued -o json").out
    assert "wit-svid" in svids

    assert pair.type("agentshield blueprint disable workers --reason odd").code == 0
    stopped = pair.type("agentshield run --as agent-a -- python agent_a.py AI.Task.Execute /run")
    assert stopped.out == ""
    assert stopped.code != 0


def test_a_wit_svid_in_a_file_is_read_and_judged(desk):
    """Whose key it names can be checked by hand; the private half is in a file of its owner's alone."""
    desk.up()
    assert desk.type("agentshield agent create planner").code == 0
    fetched = desk.type("agentshield svid fetch --as planner --wit --out wits -o json")
    assert (fetched.code, fetched.data["type"]) == (0, "wit-svid"), fetched.err
    assert (desk.home / "wits" / "wit-key.jwk").stat().st_mode & 0o777 == 0o600
    inspected = desk.type("agentshield svid inspect wits/wit.jwt -o json").data
    assert (inspected["type"], inspected["verified"]) == ("wit-svid", False)
    verified = desk.type("agentshield svid verify wits/wit.jwt -o json").data
    assert verified["spiffe_id"] == "spiffe://example.test/agents/planner"
    assert verified["key"] == fetched.data["key"]
    bundle = desk.type("agentshield bundle show -o json").data
    assert bundle["wit_authorities"] == 1
    forged = (desk.home / "wits" / "wit.jwt").read_text()[:-4] + "AAAA"
    (desk.home / "forged.jwt").write_text(forged)
    assert desk.type("agentshield svid verify forged.jwt").code == 3
    assert desk.type("agentshield svid fetch --as planner --wit --audience x").code == 2


def test_an_unknown_draft_is_said_at_once(desk):
    """A number that was never read here must not pass for one that was."""
    done = desk.type("agentshield up --detach --draft draft-ietf-oauth-spiffe-client-auth-99")
    assert done.code != 0
    assert DRAFT in done.err
