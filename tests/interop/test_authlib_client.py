"""Authlib, unchanged, as client of the authorization server: what its users type works, or is refused by the RFC."""

import time

import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from agentshield.identity.access_token import certificate_thumbprint, verify_access_token
from agentshield.identity.jwk import KeySet
from agentshield.identity.keys import private_key_to_pkcs8

AUDIENCE, SCOPE = "api://agent-b", "AI.Task.Execute"


@pytest.fixture
def svid(token_service):
    return token_service.domain.issue_svid("/agents/planner")


class ShortAssertions(PrivateKeyJWT):
    """Authlib's assertions are good for an hour, and it has no setting for that; for us they may be for 300 s."""

    def sign(self, auth, token_endpoint):
        self.claims = {"exp": int(time.time()) + 60}
        return super().sign(auth, token_endpoint)


def client_of(service, agent="planner", *, svid=None):
    """A client that signs assertions with its registered key; with an SVID, its tokens are bound to the connection."""
    client = AsyncOAuth2Client(
        f"{agent}-app",
        ECKey.import_key(private_key_to_pkcs8(service.client_key)),
        token_endpoint_auth_method="private_key_jwt",
        revocation_endpoint_auth_method="private_key_jwt",
        verify=service.client_context(svid=svid),
        trust_env=False,
    )
    client.register_client_auth_method(ShortAssertions(service.issuer, headers={"kid": "c"}, alg="ES256"))
    return client


@pytest.fixture
async def by_key(token_service, svid):
    async with client_of(token_service, svid=svid) as client:
        yield client


async def granted(client, service, **changes):
    form = {"grant_type": "client_credentials", "audience": AUDIENCE, "scope": SCOPE} | changes
    return await client.fetch_token(service.issuer + "/oauth/token", **form)


async def test_authlib_gets_a_token_with_its_key_and_revokes_it(token_service, by_key, svid):
    """private_key_jwt over a connection with a certificate: granted, bound to it, believed, introspected, revoked."""
    token = await granted(by_key, token_service)
    assert (token["token_type"], token["scope"]) == ("Bearer", SCOPE)
    jwks = (await by_key.request("GET", token_service.issuer + "/oauth/jwks", withhold_token=True)).content
    verified = verify_access_token(
        token["access_token"],
        keys=KeySet.from_jwks(jwks, algorithms=frozenset({"ES256"})),
        issuer=token_service.issuer,
        audience=AUDIENCE,
        at=token_service.domain.clock(),
    )
    assert verified.claims.confirmation.x5t_s256 == certificate_thumbprint(svid.chain[0].public_bytes(Encoding.DER))
    introspect = token_service.issuer + "/oauth/introspect"
    async with client_of(token_service, "analyst") as resource:  # only whom a token is for may ask about it
        assert (await resource.introspect_token(introspect, token["access_token"])).json()["active"] is True
        assert (await by_key.introspect_token(introspect, token["access_token"])).json() == {"active": False}
        revoked = await by_key.revoke_token(token_service.issuer + "/oauth/revoke", token["access_token"])
        assert revoked.status_code == 200
        assert (await resource.introspect_token(introspect, token["access_token"])).json() == {"active": False}


async def test_authlib_gets_a_token_with_an_svid_alone(token_service, svid):
    """The certificate of the connection is the client's proof; there is nothing else to configure."""
    async with AsyncOAuth2Client(
        str(svid.spiffe_id),
        token_endpoint_auth_method="none",
        verify=token_service.client_context(svid=svid),
        trust_env=False,
    ) as client:
        assert (await granted(client, token_service))["scope"] == SCOPE


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "AI.Task.Execute AI.Task.Delete"}, "invalid_scope"),
        ({"audience": "api://nobody"}, "invalid_target"),
        ({"grant_type": "password", "username": "ann", "password": "x"}, "unsupported_grant_type"),
    ],
    ids=["more scopes", "no such audience", "another grant"],
)
async def test_authlib_is_told_what_was_wrong(token_service, by_key, changes, error):
    """Its users act on the RFC's code, and on nothing else."""
    with pytest.raises(OAuthError) as refused:
        await granted(by_key, token_service, **changes)
    assert refused.value.error == error


async def test_authlib_without_a_bound_key_gets_no_token(token_service):
    """A token that anybody could present is nobody's wish."""
    async with client_of(token_service) as client:
        with pytest.raises(OAuthError) as refused:
            await granted(client, token_service)
    assert refused.value.error == "invalid_request"


async def test_authlib_is_refused_with_its_default_of_an_hour(token_service, by_key):
    """An assertion that is good for long is a password. Whoever meets this finds the remedy in docs/start/tokens.md."""
    by_key.register_client_auth_method(PrivateKeyJWT(token_service.issuer, headers={"kid": "c"}, alg="ES256"))
    with pytest.raises(OAuthError) as refused:
        await granted(by_key, token_service)
    assert refused.value.error == "invalid_client"
    assert token_service.audit.events[-1].detail == "assertion is good for over 300s"
