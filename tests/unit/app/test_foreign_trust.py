"""What other services are told: one agent, whole, and never more."""

import json

import pytest

from agentshield.app import foreign_trust
from agentshield.app.foreign_trust import ForeignTrust, UnfitForExportError
from agentshield.identity.spiffe_id import SpiffeId

AGENT = SpiffeId.parse("spiffe://example.test/agents/planner")
ISSUER = "https://as.example.com"


def trust(**changes):
    values = {"issuer": ISSUER, "agent": AGENT, "audience": "aud", "name": "planner"}
    return ForeignTrust(**(values | changes))


EVERY = {
    "entra": lambda t: foreign_trust.entra(t),
    "aws": lambda t: foreign_trust.aws(t, account="123456789012"),
    "gcp": lambda t: foreign_trust.gcp(t, project_number="1", pool="p", provider="q", token_file="/run/t"),
    "openai": lambda t: foreign_trust.openai(t, project="proj", service_account="user-1", jwks=None),
    "anthropic": lambda t: foreign_trust.anthropic(t, service_account="svac_1", workspace="wrkspc_1", jwks=None),
    "keycloak": lambda t: foreign_trust.keycloak(t, bundle_endpoint="https://b.example.com", client="c"),
}


@pytest.mark.parametrize("service", EVERY)
def test_every_service_is_told_the_whole_subject_and_no_pattern(service):
    text = json.dumps(EVERY[service](trust()))
    assert str(AGENT) in text
    assert "*" not in text
    assert "StringLike" not in text
    assert "subject_prefix" not in text


@pytest.mark.parametrize("service", sorted(EVERY.keys() - {"keycloak"}))
def test_every_service_is_told_the_issuer_and_the_audience(service):
    text = json.dumps(EVERY[service](trust(audience="the-audience")))
    assert ISSUER in text
    assert "the-audience" in text


def test_entra_takes_it_as_it_is():
    assert foreign_trust.entra(trust()) == {
        "name": "planner",
        "issuer": ISSUER,
        "subject": str(AGENT),
        "audiences": ["aud"],
        "description": f"AgentShield agent {AGENT}",
    }


def test_aws_asks_for_both_audience_and_subject():
    statement = foreign_trust.aws(trust(), account="123456789012")["trust_policy"]["Statement"][0]
    assert statement["Principal"] == {"Federated": "arn:aws:iam::123456789012:oidc-provider/as.example.com"}
    assert statement["Condition"] == {"StringEquals": {"as.example.com:aud": "aud", "as.example.com:sub": str(AGENT)}}


def test_google_maps_and_checks_the_subject():
    provider = EVERY["gcp"](trust())["provider"]
    assert provider["attributeMapping"] == {"google.subject": "assertion.sub"}
    assert provider["attributeCondition"] == f"assertion.sub == '{AGENT}'"


def test_key_set_is_uploaded_where_nobody_can_fetch_it():
    jwks = {"keys": [{"kty": "EC"}]}
    made = foreign_trust.openai(trust(), project="p", service_account="s", jwks=jwks)
    assert made["workload_identity_provider"]["verification"] == {"type": "uploaded_jwks", "jwks": jwks}
    made = foreign_trust.anthropic(trust(), service_account="s", workspace="w", jwks=jwks)
    assert made["federation_issuer"]["jwks"] == {"type": "inline", **jwks}
    assert made["federation_rule"]["workspace_id"] == "w"


def test_keycloak_finds_the_trust_domain_where_its_release_looks():
    """Releases of 26.x read it from `trustDomain` or from `issuer`; either must be this one."""
    config = EVERY["keycloak"](trust())["identity_provider"]["config"]
    assert config["trustDomain"] == config["issuer"] == "spiffe://example.test"


@pytest.mark.parametrize(
    "make",
    [
        lambda: trust(agent=SpiffeId.parse("spiffe://example.test")),
        lambda: trust(issuer="http://as.example.com"),
        lambda: trust(issuer="spiffe://example.test"),
        lambda: trust(issuer="https://user@as.example.com"),
        lambda: trust(audience=""),
        lambda: foreign_trust.aws(trust(), account="12"),
        lambda: foreign_trust.aws(trust(), account="*"),
        lambda: EVERY["gcp"](trust(agent=SpiffeId.parse("spiffe://example.test/agents/" + "a" * 120))),
        lambda: foreign_trust.entra(trust(name="n" * 121)),
        lambda: EVERY["anthropic"](trust(name="my.planner")),
        lambda: EVERY["anthropic"](trust(issuer="https://as.example.com:8440")),
        lambda: foreign_trust.keycloak(trust(), bundle_endpoint="http://b.example.com", client="c"),
    ],
)
def test_what_would_trust_too_much_or_not_work_is_refused(make):
    with pytest.raises(UnfitForExportError):
        make()


@pytest.mark.parametrize(
    ("issuer", "is_public"),
    [
        ("https://as.example.com", True),
        ("https://localhost:8440", False),
        ("https://127.0.0.1:8440", False),
        ("https://10.0.0.1", False),
        ("https://as", False),
        ("https://as.example.test", False),
    ],
)
def test_issuer_that_nobody_can_reach_is_seen(issuer, is_public):
    assert trust(issuer=issuer).is_public is is_public
