"""What holds for every method: one at a time, and a DPoP proof that is for this request."""

from dataclasses import replace
from datetime import timedelta

import pytest
from oauth_world import AS, MINUTE

from agentshield.identity.dpop import DpopNonces, sign_dpop_proof
from agentshield.oauth.client_auth.authenticator import ClientAuthenticator
from agentshield.oauth.client_auth.dpop import UseDpopNonceError
from agentshield.oauth.errors import AlreadyUsedError, OAuthError, OAuthErrorCode


async def code_of(world, request) -> OAuthErrorCode:
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    return caught.value.error


async def test_a_request_without_any_authentication_is_refused(world):
    """There are no public clients."""
    assert await code_of(world, world.request(client_id="planner-app")) is OAuthErrorCode.INVALID_CLIENT


@pytest.mark.parametrize(
    "extra",
    [
        {"authorization": "Basic eDp5"},
        {"authorization": "Bearer x"},
        {"client_attestation": ("x",)},
        {"client_attestation_pop": ("x",)},
        {"form": {"client_secret": ("x",)}},
        {"form": {"client_secret": ("",)}},
    ],
)
async def test_two_methods_in_one_request_are_refused(world, extra):
    """RFC 6749, 2.3: of two proofs, one would go unchecked, and a log would name the wrong one."""
    request = world.jwt_svid()
    extra = {name: {**request.form, **value} if name == "form" else value for name, value in extra.items()}
    assert await code_of(world, replace(request, **extra)) is OAuthErrorCode.INVALID_REQUEST


async def test_a_doubled_assertion_is_refused(world):
    """Two readers would each take another one."""
    request = world.jwt_svid()
    doubled = {**request.form, "client_assertion": request.form["client_assertion"] * 2}
    assert await code_of(world, replace(request, form=doubled)) is OAuthErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("kind", ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "", None])
async def test_an_assertion_of_an_unknown_type_is_refused(world, kind):
    """What we do not know we do not guess."""
    request = world.jwt_svid()
    form = {**request.form, "client_assertion_type": () if kind is None else (kind,)}
    assert await code_of(world, replace(request, form=form)) is OAuthErrorCode.INVALID_CLIENT


async def test_a_type_without_an_assertion_is_refused(world):
    """Half a method is not none."""
    form = {"client_assertion_type": world.jwt_svid().form["client_assertion_type"]}
    assert await code_of(world, replace(world.request(), form=form)) is OAuthErrorCode.INVALID_CLIENT


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"url": AS + "/oauth/introspect"},
        {"url": "https://other.example.test/oauth/token"},
    ],
)
async def test_a_dpop_proof_for_another_request_is_refused(world, changes):
    """RFC 9449, 4.3 (8, 9): a proof that was made for another server must not be good here."""
    request = world.with_dpop(world.jwt_svid(), **changes)
    assert await code_of(world, request) is OAuthErrorCode.INVALID_DPOP_PROOF


async def test_an_old_dpop_proof_is_refused(world):
    """4.3 (11)."""
    request = world.with_dpop(world.jwt_svid())
    world.clock.advance(timedelta(seconds=62))
    assert await code_of(world, request) is OAuthErrorCode.INVALID_DPOP_PROOF


async def test_two_dpop_headers_are_refused(world):
    """4.3 (1): which of them would the token be bound to?"""
    request = world.with_dpop(world.jwt_svid())
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(replace(request, dpop=request.dpop * 2))
    assert (caught.value.error, caught.value.rule) == (OAuthErrorCode.INVALID_DPOP_PROOF, "RFC 9449 4.3 (1)")


async def test_a_nonce_is_asked_for_and_then_taken(world):
    """RFC 9449, 8: with our nonce in it, nobody can have made the proof in advance."""
    world.settings = replace(world.settings, dpop_nonce_required=True)
    nonces = DpopNonces(secret=bytes(32), lifetime=2 * MINUTE)
    gate = ClientAuthenticator(
        world.settings, world.store, world.directory, world.domain.bundles(), world.federation, nonces=nonces
    )
    with pytest.raises(UseDpopNonceError) as asked:
        await gate.authenticate(world.with_dpop(world.jwt_svid()), at=world.clock())
    assert asked.value.error is OAuthErrorCode.USE_DPOP_NONCE
    again = world.with_dpop(world.jwt_svid(), nonce=asked.value.nonce)
    assert (await gate.authenticate(again, at=world.clock())).binding
    world.clock.advance(3 * MINUTE)
    for nonce in (asked.value.nonce, "made-up"):
        with pytest.raises(UseDpopNonceError):
            await gate.authenticate(world.with_dpop(world.jwt_svid(), nonce=nonce), at=world.clock())


async def test_a_dpop_proof_is_claimed_once_for_its_key_and_address(world):
    """Replayed, it is refused when its use is claimed; another key's proof with the same jti is another proof."""
    request = world.with_dpop(world.jwt_svid(), jti="one")
    uses = (await world.authenticate(request)).uses
    await world.store.tokens.issue(None, uses=uses, at=world.clock())
    with pytest.raises(AlreadyUsedError):
        await world.store.tokens.issue(None, uses=(await world.authenticate(request)).uses, at=world.clock())
    other = sign_dpop_proof(world.client_key, method="POST", url=request.url, at=world.clock(), jti="one")
    uses = (await world.authenticate(replace(request, dpop=(other,)))).uses
    await world.store.tokens.issue(None, uses=uses, at=world.clock())


async def test_a_refusal_shows_the_client_nothing_and_the_log_the_rule(world):
    """Standards 10.3: the client reads a code; the operator reads which rule, and what was expected."""
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(world.jwt_svid(audience=("https://b.test",)))
    refusal = caught.value
    assert (refusal.description, refusal.status) == ("client authentication failed", 401)
    assert refusal.rule == "spiffe-client-auth-02 spiffe_jwt"
    assert "b.test" in str(refusal)
