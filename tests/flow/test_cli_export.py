"""`agentshield export`, as an administrator types it."""

import json

import pytest

CASES = {
    "entra": "",
    "aws": "--account 123456789012",
    "gcp": "--audience pool --project-number 1 --pool p --provider q --token-file /run/t",
    "openai": "--project proj_1 --service-account user-1",
    "anthropic": "--service-account svac_1",
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
