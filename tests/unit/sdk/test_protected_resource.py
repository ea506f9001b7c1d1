"""RFC 9728: what a protected resource tells of itself, to whom, and under which address."""

import json

import pytest
from token_world import AUDIENCE, BASE_URL

from agentshield.errors import ConfigurationError
from agentshield.sdk.errors import CallerUnknownError
from agentshield.sdk.protected_resource import ProtectedResource
from agentshield.sdk.token_errors import DpopReplayedError, InsufficientScopeError, TokenEndedError, TokenMissingError

RESOURCE = ProtectedResource(audience=AUDIENCE, issuer="https://as.test", scopes=frozenset({"b", "a"}))


async def test_the_document_is_for_everybody_and_only_there(world):
    """A client without a token finds the authorization server; the paths beside it stay closed."""
    answer = await world.ask(world.door(scopes=["a"]), path="/.well-known/oauth-protected-resource/tasks")
    assert answer.status == 200
    document = json.loads(answer.body)
    assert document["resource"] == AUDIENCE
    assert document["authorization_servers"] == [world.server.issuer]
    assert document["bearer_methods_supported"] == ["header"]
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/tasks/"):
        assert (await world.ask(world.door(), path=path)).status == 401
    assert world.ran == []


def test_scopes_are_published():
    """A client can see what to ask for."""
    assert json.loads(RESOURCE.metadata())["scopes_supported"] == ["a", "b"]


def test_an_audience_that_is_no_url_has_no_document():
    """RFC 9728 knows https URLs only; the challenge then names the audience as its realm."""
    resource = ProtectedResource(audience="api://tasks", issuer="https://as.test", base_url=BASE_URL)
    assert resource.metadata_path is None
    assert 'Bearer realm="api://tasks"' in resource.challenge(TokenMissingError("none"))


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (TokenMissingError("none"), None),
        (TokenEndedError("late"), "invalid_token"),
        (DpopReplayedError("again"), "invalid_dpop_proof"),
        (InsufficientScopeError(["a"], held=[]), "insufficient_scope"),
    ],
)
def test_challenges_carry_the_rfcs_words(refusal, error):
    """RFC 6750, 3.1 and RFC 9449, 7.1; what our code for it is stays in our log."""
    challenge = RESOURCE.challenge(refusal)
    assert ("error=" in challenge) is (error is not None)
    assert error is None or f'error="{error}"' in challenge
    assert refusal.code not in challenge or refusal.code == error


def test_other_refusals_have_no_challenge():
    """No token would help."""
    assert RESOURCE.challenge(CallerUnknownError()) is None


@pytest.mark.parametrize("base_url", ["http://a.test", "https://", "https://a.test?x=1", "a.test"])
def test_addresses_that_a_proof_cannot_name(base_url):
    """A mistake in the configuration, told at start."""
    with pytest.raises(ConfigurationError, match="base_url"):
        ProtectedResource(audience=AUDIENCE, issuer="https://as.test", base_url=base_url)


def test_the_address_is_the_configurations_and_the_path_the_wires():
    """`Host` names whatever the caller likes; a percent-encoded path stays as it was sent."""
    resource = ProtectedResource(audience=AUDIENCE, issuer="https://as.test", base_url=f"{BASE_URL}/api/")
    scope = {"path": "/a b", "raw_path": b"/a%20b", "headers": [(b"host", b"evil.test")]}
    assert resource.url_of(scope) == f"{BASE_URL}/api/a%20b"
