"""The page about approvals, with real processes: an agent asks, a human answers by command, a token arrives."""

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "start" / "approvals.md").read_text()
RUN = re.search(r"\$ (agentshield run .*payer\.py .*) &", PAGE).group(1)


@pytest.fixture
def payer(desk):
    """What the page says, done."""
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (desk.home / name).write_text(source)
    for line in re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL).group(1).splitlines():
        done = desk.type(line)
        assert done.code == 0, f"{line}: {done.err}"
    yield desk
    desk.type("agentshield down")


def asks(desk, line=RUN):
    """The agent asks; return its process and the approval as the human sees it."""
    process = desk.start(line)
    desk.wait_for(process, "asked")
    (waiting,) = desk.type("agentshield approve list -o json").data["items"]
    return process, waiting


def events(desk, name):
    return [
        json.loads(each) for each in desk.type(f"agentshield audit search --event {name} -o jsonl").out.splitlines()
    ]


def test_a_yes_on_the_command_line_becomes_a_token(payer):
    """What was granted is what was shown, the digest is what binds the two, and the log has all of it."""
    process, waiting = asks(payer)
    shown = payer.type(f"agentshield approve show {waiting['id']}").out
    assert waiting["short_digest"] in shown
    assert '"identifier": "invoice-7"' in shown
    assert "agent says\tplease pay invoice-7" in shown

    other = payer.type(f"agentshield approve grant {waiting['id']} --digest '0000 0000 0000 0000'")
    assert other.code != 0
    assert "another action than the one shown" in other.err
    missing = payer.type(f"agentshield approve grant {waiting['id']}")
    assert missing.code != 0

    granted = payer.type(f"agentshield approve grant {waiting['id']} --digest '{waiting['short_digest']}' -o json")
    assert (granted.code, granted.data["status"]) == (0, "approved")
    log = payer.wait_for(process, "granted")
    (detail,) = json.loads(log.splitlines()[-1])["granted"]
    assert detail == waiting["details"][0]
    assert payer.type(f"agentshield approve show {waiting['id']} -o json").data["status"] == "used"
    again = payer.type(f"agentshield approve grant {waiting['id']} --digest '{waiting['short_digest']}'")
    assert "is used" in again.err

    for name in ("approval.requested", "approval.granted", "approval.used"):
        assert len(events(payer, name)) == 1, name
    assert str(waiting["subject"]["subject"]) in payer.type("agentshield audit search --event token.issued -o json").out


def test_a_no_on_the_command_line_is_the_end_of_it(payer):
    """The agent is told, and asking at once for the same gets it nothing; a restart does not change that."""
    _, waiting = asks(payer)
    assert payer.type("agentshield down").code == 0  # what waits survives it
    assert payer.type("agentshield up --detach").code == 0
    denied = payer.type(f"agentshield approve deny {waiting['id']} -o json")
    assert (denied.code, denied.data["status"]) == (0, "denied")
    assert "access_denied" in payer.type(RUN).out
    assert len(events(payer, "approval.denied")) == 1


def test_owner_of_an_agent_is_not_asked(payer):
    """Four eyes: without another owner the agent is the user's own."""
    assert payer.type("agentshield agent create mine --blueprint payers").code == 0
    assert "access_denied" in payer.type(RUN.replace("--as payer", "--as mine")).out


def test_an_unknown_approval_is_said_to_be_unknown(payer):
    """A slip in an id must not look like an answer."""
    for verb in ("show x", "deny x", "grant x --digest y"):
        done = payer.type(f"agentshield approve {verb}")
        assert done.code != 0
        assert "there is no approval 'x'" in done.err


def test_a_client_says_where_it_is_told(payer):
    """The address is the administrator's to register, and one that we would not post to is refused at once."""
    create = "agentshield client create payer-app --agent payer --method spiffe_x509 --notification-endpoint"
    refused = payer.type(f"{create} http://127.0.0.1/told")
    assert refused.code != 0
    assert "expected https" in refused.err
    made = payer.type(f"{create} https://payer.example.test/told -o json")
    assert made.data["notification_endpoint"] == "https://payer.example.test/told"
