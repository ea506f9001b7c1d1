"""What the authorization server says of itself: all of it true, for clients do as it says."""

import json
from datetime import UTC, datetime

import pytest

from agentshield.identity.dpop import DpopNonces
from agentshield.identity.spiffe_id import TrustDomain
from agentshield.oauth.api import OAuthApp
from agentshield.oauth.client_auth import authenticator
from agentshield.oauth.metadata import CIBA, WELL_KNOWN, client_methods, metadata
from agentshield.oauth.settings import (
    ATTESTATION_DRAFT,
    ID_JAG_DRAFT,
    IDENTITY_CHAINING_DRAFT,
    KNOWN_DRAFTS,
    SPIFFE_WIT_DRAFT,
    OAuthSettings,
)

ISSUER = "https://localhost:8443"


def settings(*drafts):
    return OAuthSettings(issuer=ISSUER, trust_domain=TrustDomain("example.test"), drafts=frozenset(drafts))


def document(*drafts, grants=("client_credentials",)):
    return json.loads(metadata(settings(*drafts), grant_types=frozenset(grants)))


def test_every_address_in_it_is_served_below_the_issuer():
    """RFC 8414, 2: a client that follows the document must arrive, and nowhere else."""
    app = OAuthApp(
        None,
        None,
        settings=settings(),
        document=b"{}",
        nonces=DpopNonces(secret=b"n" * 32),
        clock=lambda: datetime.now(UTC),
    )
    told = {value for name, value in document().items() if name.endswith(("_endpoint", "_uri"))}
    assert len(told) == 4
    assert {url.removeprefix(ISSUER) for url in told} < app.paths
    assert set(WELL_KNOWN) < app.paths


def test_issuer_is_the_one_in_tokens_to_the_letter():
    """RFC 8414, 3.3: clients refuse any other."""
    assert document()["issuer"] == ISSUER


def test_asking_humans_is_promised_where_it_is_served():
    """CIBA Core, 4, and RFC 9396, 10: a client that is promised ping and gets none waits for nothing."""
    assert not any(name.startswith("backchannel") for name in document())
    told = json.loads(
        metadata(settings(), grant_types=frozenset({CIBA}), detail_types=frozenset({"payment", "agent_action"}))
    )
    assert told["backchannel_authentication_endpoint"] == settings().backchannel_authentication_endpoint
    assert told["backchannel_token_delivery_modes_supported"] == ["ping", "poll"]
    assert told["backchannel_user_code_parameter_supported"] is False
    assert told["authorization_details_types_supported"] == ["agent_action", "payment"]


def test_delegation_is_promised_where_it_is_served_and_by_its_one_way_in():
    """RFC 9126, 5; RFC 9207, 3; RFC 9700, 2.1: a client learns that PAR, S256 and `iss` are not matters of taste."""
    assert not {"authorization_endpoint", "require_pushed_authorization_requests"} & document().keys()
    assert document()["response_types_supported"] == []
    told = document(grants=("authorization_code", "refresh_token"))
    assert told["authorization_endpoint"] == ISSUER + "/oauth/authorize"
    assert told["pushed_authorization_request_endpoint"] == ISSUER + "/oauth/par"
    assert told["require_pushed_authorization_requests"] is True
    assert told["authorization_response_iss_parameter_supported"] is True
    assert (told["response_types_supported"], told["response_modes_supported"]) == (["code"], ["query"])
    assert told["code_challenge_methods_supported"] == ["S256"]


def test_grants_are_those_that_are_served():
    """What is not served must not be promised; a password is not taken by anybody."""
    assert document(grants=("b", "a"))["grant_types_supported"] == ["a", "b"]


@pytest.mark.parametrize("drafts", [(), tuple(KNOWN_DRAFTS)])
def test_methods_are_those_that_somebody_checks(drafts):
    """A client takes the first it knows: one that nobody checks would lock it out."""
    told = document(*drafts)
    checked = {method.value for method in authenticator._METHODS}
    for endpoint in ("token", "introspection", "revocation"):
        methods = told[f"{endpoint}_endpoint_auth_methods_supported"]
        assert set(methods) <= checked
        assert methods == [method.value for method in client_methods(settings(*drafts))]
        assert "none" not in told[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
        assert "tls_client_auth" not in methods  # our TLS takes no certificates but SVIDs


@pytest.mark.parametrize(
    ("draft", "method"), [(ATTESTATION_DRAFT, "attest_jwt_client_auth"), (SPIFFE_WIT_DRAFT, "spiffe_wit")]
)
def test_a_draft_s_method_is_offered_with_its_draft(draft, method):
    """And only with it: a client that takes one that is off is locked out."""
    assert method in document(draft)["token_endpoint_auth_methods_supported"]
    for other in KNOWN_DRAFTS - {draft}:
        assert method not in document(other)["token_endpoint_auth_methods_supported"]


def test_a_proof_s_algorithms_are_those_of_the_method():
    """WIT-SVID 3.2 allows PKCS#1 v1.5, which registered attesters and their clients do not use here."""
    name = "client_attestation_pop_signing_alg_values_supported"
    assert "RS256" not in document(ATTESTATION_DRAFT)[name]
    assert {"RS256", "ES256", "PS512"} < set(document(SPIFFE_WIT_DRAFT)[name])


def test_no_authorization_endpoint_is_promised():
    """Without one there are neither response types nor anything that belongs to them."""
    told = document()
    assert told["response_types_supported"] == []
    assert not [name for name in told if name.startswith("authorization_")]


@pytest.mark.parametrize(
    ("draft", "member"),
    [
        (ATTESTATION_DRAFT, "client_attestation_signing_alg_values_supported"),
        (ATTESTATION_DRAFT, "client_attestation_pop_methods_supported"),
        (SPIFFE_WIT_DRAFT, "client_attestation_pop_signing_alg_values_supported"),
        (ID_JAG_DRAFT, "authorization_grant_profiles_supported"),
        (IDENTITY_CHAINING_DRAFT, "identity_chaining_requested_token_types_supported"),
    ],
)
def test_drafts_are_told_of_when_they_are_on(draft, member):
    """Who does not want an unfinished standard is not offered it."""
    assert member in document(draft)
    assert member not in document()
