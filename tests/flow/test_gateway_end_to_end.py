"""The gateway as an operator starts it, in front of an agent that its maker never secured."""

import json
import signal
import sys
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors"
BARE_AGENT = """
import sys
sys.path.insert(0, {vectors!r})
import uvicorn
from a2a_agent import agent_app
uvicorn.run(agent_app("http://127.0.0.1:{port}"), host="127.0.0.1", port={port}, log_level="info")
"""


def send(text, message_id="m-1"):
    message = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}]}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}})


def test_an_agent_behind_the_gateway(desk, free_port):
    """Before: anybody may do anything. After: who is known and allowed, and the audit log has each decision."""
    (desk.home / "bare.py").write_text(BARE_AGENT.format(vectors=str(VECTORS), port=free_port))
    agent = desk.start(f"{sys.executable} bare.py")
    desk.wait_for(agent, "Application startup complete")
    desk.up()
    for name in ("gateway", "planner", "analyst"):
        assert desk.type(f"agentshield agent create {name}").code == 0

    gateway = desk.start(f"agentshield gateway run --listen 127.0.0.1:0 --agent analyst=http://127.0.0.1:{free_port}")
    said = desk.wait_for(gateway, "->")
    url = next(word for word in said.split() if word.endswith("/agents/analyst"))

    (desk.home / "send.json").write_text(send("echo hello"))
    call = f"agentshield call {url}/rpc --as planner -X POST -H A2A-Version:1.0 -d @send.json -o json"
    refused = desk.type(call)
    assert refused.code != 0
    assert desk.type("agentshield policy allow planner analyst echo").code == 0
    assert desk.type("agentshield policy allow planner analyst book").code == 0
    allowed = desk.type(call)
    assert allowed.code == 0, allowed.err
    assert "TASK_STATE_COMPLETED" in allowed.out

    search = "agentshield audit search --agent planner --event call.decided -o json"
    assert len(desk.type(f"{search} --decision allow").data["items"]) == 1
    assert len(desk.type(f"{search} --decision deny").data["items"]) == 1

    secret = desk.type(call + " -H Authorization:x")
    assert (secret.code != 0, "is a credential" in secret.err) == (True, True)
    assert desk.type("agentshield agent suspend planner --yes").code == 0
    assert desk.type(call).code != 0

    gateway.send_signal(signal.SIGTERM)
    assert gateway.wait(timeout=20) == 0


def test_what_stands_in_the_way_is_said(desk, free_port):
    """An operator who mistypes is told what, and what to do."""
    desk.up()
    nobody = desk.type(f"agentshield gateway run --agent analyst=http://127.0.0.1:{free_port}")
    assert (nobody.code != 0, "agent create gateway" in nobody.err) == (True, True)
    assert desk.type("agentshield agent create gateway").code == 0
    away = desk.type(f"agentshield gateway run --listen 127.0.0.1:0 --agent analyst=http://127.0.0.1:{free_port}")
    assert (away.code != 0, "no card at" in away.err) == (True, True)
    far = desk.type("agentshield gateway run --agent analyst=http://agent.example.test")
    assert (far.code != 0, "neither https nor on this machine's loopback" in far.err) == (True, True)
