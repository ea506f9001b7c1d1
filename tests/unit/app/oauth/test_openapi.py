"""The published descriptions of the endpoints name what is there, all of it, and nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentshield.app.admin import approvals, clients, oauth
from agentshield.identity.dpop import DpopNonces
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.api import LONGEST_WAIT, OAuthApp
from agentshield.oauth.errors import OAuthErrorCode
from agentshield.oauth.model import MAX_TOKEN_LIFETIME
from agentshield.oauth.registration import MAX_SECRET_LIFETIME
from agentshield.oauth.settings import CONSENT_PATH, OAuthSettings

REFERENCE = Path(__file__).parents[4] / "docs" / "reference"
PUBLIC = json.loads((REFERENCE / "openapi.json").read_text())
ADMIN = json.loads((REFERENCE / "admin-openapi.json").read_text())


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from references(each)


@pytest.mark.parametrize("document", [PUBLIC, ADMIN], ids=["public", "admin"])
def test_every_reference_leads_somewhere(document):
    """A description with holes cannot be read by programs."""
    for reference in references(document):
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_public_endpoints_are_all_described():
    """An endpoint that nobody describes is one that nobody tests."""
    app = OAuthApp(
        None,
        None,
        settings=OAuthSettings(issuer="https://localhost:8440", trust_domain=TrustDomain("example.test")),
        document=b"{}",
        nonces=DpopNonces(secret=b"n" * 32),
        clock=lambda: datetime.now(UTC),
    )
    assert set(PUBLIC["paths"]) == app.paths
    assert {path for path, methods in PUBLIC["paths"].items() if "post" in methods} == set(app._posts) | {CONSENT_PATH}


def test_admin_endpoints_are_all_described():
    """The command line is not their only client."""
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in (*oauth.ROUTES, *clients.ROUTES, *approvals.ROUTES)
        for method in route.methods - {"HEAD"}
    }
    described = {(path, method) for path, item in ADMIN["paths"].items() for method in item if method != "parameters"}
    assert served == described


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("NewResource", oauth._RESOURCE),
        ("NewIssuer", oauth._ISSUER),
        ("NewFederatedCredential", oauth._CREDENTIAL),
        ("NewClient", clients._CREATE),
    ],
)
def test_admin_bodies_are_described_member_by_member(name, members):
    """A member that is not known is refused, so each must be told of."""
    assert set(ADMIN["components"]["schemas"][name]["properties"]) == set(members)


def test_errors_that_are_described_are_the_codes_we_have():
    """A client that switches on `error` must not wait for one that never comes."""
    told = set()
    for response in PUBLIC["components"]["responses"].values():
        for media in response.get("content", {}).values():
            told |= set(media["schema"].get("properties", {}).get("error", {}).get("enum", ()))
    assert told <= {code.value for code in OAuthErrorCode}
    assert {"invalid_client", "invalid_scope", "invalid_target", "use_dpop_nonce", "server_error"} <= told


def test_limits_that_are_described_are_ours():
    """Said twice, so held together here."""
    wait = PUBLIC["paths"]["/oauth/revocations"]["get"]["parameters"][1]["schema"]
    assert wait["maximum"] == LONGEST_WAIT
    schemas = ADMIN["components"]["schemas"]
    assert schemas["NewResource"]["properties"]["lifetime"]["maximum"] == MAX_TOKEN_LIFETIME.total_seconds()
    secret = ADMIN["paths"]["/v1/clients/{key}/secret"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert secret["properties"]["lifetime"]["maximum"] == MAX_SECRET_LIFETIME.total_seconds()
