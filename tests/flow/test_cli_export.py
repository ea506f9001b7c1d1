"""`agentshield export`, as an administrator types it."""

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/operate/export.md").read_text()

CASES = {
    "entra": "",
    "aws": "--account 123456789012",
    "gcp": "--audience pool --project-number 1 --pool p --provider q --token-file /run/t",
    "openai": "--project proj_1 --service-account user-1",
    "anthropic": "--service-account svac_1 --workspace wrkspc_1",
    "keycloak": "--audience https://kc.example.com/realms/r --bundle-endpoint https://b.example.com",
}


def test_every_service(desk):
    """Documents on standard output, advice beside it; one agent that exists, or none."""
    desk.up()
    assert desk.type("agentshield agent create planner").code == 0
    for service, flags in CASES.items():
        done = desk.type(f"agentshield export {service} --agent planner --issuer https://as.example.com {flags}")
        assert done.code == 0, (service, done.err)
        assert "spiffe://example.test/agents/planner" in json.dumps(json.loads(done.out))
        assert "warning" not in done.err
        whom = f"{service} --agent planner --issuer https://as.example.com {flags}"
        written = desk.type(f"agentshield export {whom} --out {service}.json")
        assert (written.code, written.out) == (0, "")
        assert (desk.home / f"{service}.json").read_text() == done.out
    ours = desk.type("agentshield export entra --agent planner")
    assert "warning: nobody outside can fetch" in ours.err
    assert json.loads(ours.out)["issuer"] == desk.type("agentshield status -o json").data["token_service"]
    assert desk.type("agentshield export entra --agent nobody").code == 6
    assert desk.type("agentshield export entra").code == 2
    assert desk.type("agentshield export aws --agent planner --account 7").code == 2
    (desk.home / "private.json").write_text('{"keys": [{"kty": "EC", "d": "c2VjcmV0"}]}')
    done = desk.type(f"agentshield export openai --agent planner {CASES['openai']} --jwks-file private.json")
    assert done.code == 2
    assert "c2VjcmV0" not in done.err


@pytest.mark.parametrize("service", CASES)
def test_help_says_what_it_is_for(desk, service):
    assert desk.type(f"agentshield export {service} --help").code == 0


def test_commands_of_the_page_run_as_written(desk):
    """Whoever copies a line must get a document, and not be told of a flag that is missing."""
    desk.up()
    assert desk.type("agentshield agent create planner").code == 0
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    assert {line.split()[2] for line in lines} == set(CASES)
    for line in lines:
        done = desk.type(line)
        assert done.code == 0, (line, done.err)
        assert "spiffe://example.test/agents/planner" in done.out
