"""openid-client (npm), unchanged, as client: discovery, private_key_jwt, DPoP, introspection and revocation."""

import asyncio
import json

import pytest
from joserfc.jwk import ECKey

from agentshield.identity.keys import generate_private_key, private_key_to_pkcs8

pytestmark = [pytest.mark.slow]

AUDIENCE, SCOPE = "api://agent-b", "AI.Task.Execute"


async def told(node_program, service, **changes):
    """Run the client once, and return what it was told."""
    key = changes.pop("key", service.client_key)
    order = {
        "issuer": service.issuer,
        "client_id": service.client_id,
        "resource_id": service.resource_id,
        "jwk": {**ECKey.import_key(private_key_to_pkcs8(key)).as_dict(private=True), "kid": "c", "alg": "ES256"},
        "algorithm": "oauth2",
        "scope": SCOPE,
        "audience": AUDIENCE,
    }
    process = await node_program("openid_client.mjs", order | changes, NODE_EXTRA_CA_CERTS=str(service.ca))
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return json.loads(out)


@pytest.mark.parametrize("algorithm", ["oauth2", "oidc"])
async def test_openid_client_is_granted_a_bound_token_and_revokes_it(node_program, token_service, algorithm):
    """From the issuer's name alone: what it finds in the metadata works, and its token is bound to its DPoP key."""
    answer = await told(node_program, token_service, algorithm=algorithm)
    assert "error" not in answer, answer
    assert (answer["token"]["token_type"].lower(), answer["token"]["scope"]) == ("dpop", SCOPE)
    assert (answer["before"]["active"], answer["after"]["active"]) == (True, False)
    assert answer["before"]["cnf"].keys() == {"jkt"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "AI.Task.Delete"}, "invalid_scope"),
        ({"audience": "api://nobody"}, "invalid_target"),
        ({"key": generate_private_key()}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
    ],
    ids=["scope", "audience", "key", "client"],
)
async def test_openid_client_is_told_what_was_wrong(node_program, token_service, changes, error):
    """Each by its own code, and a stranger learns no more than that it is one."""
    assert (await told(node_program, token_service, **changes))["error"] == error
