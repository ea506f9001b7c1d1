"""Each client authentication method: the client it lets in, and those it does not."""

from dataclasses import replace
from datetime import timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from oauth_world import AS, BILLING, MINUTE, PLANNER, jwks

from agentshield.identity.access_token import certificate_thumbprint
from agentshield.identity.jwk import jwk_of, thumbprint
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import generate_private_key
from agentshield.oauth.errors import OAuthError, OAuthErrorCode
from agentshield.oauth.model import ClientAuthMethod, FederatedCredential
from agentshield.oauth.settings import ATTESTATION_DRAFT

M = ClientAuthMethod


async def refusal(world, request, code=OAuthErrorCode.INVALID_CLIENT) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        await world.authenticate(request)
    assert caught.value.error is code, caught.value
    if code is OAuthErrorCode.INVALID_CLIENT:
        assert caught.value.description in ("client authentication failed", "request has no client authentication")
    return caught.value


async def test_a_jwt_svid_is_a_client(world):
    """Every agent is a client by its SVID alone; nobody hands it a secret."""
    client = await world.authenticate(world.with_dpop(world.jwt_svid()))
    assert (client.client_id, client.agent.spiffe_id, client.method) == (str(PLANNER), PLANNER, M.SPIFFE_JWT)
    assert client.binding.jkt == thumbprint(world.dpop_key.public_key())
    assert client.thumbprints == {f"jkt:{client.binding.jkt}"}
    assert [use.kind for use in client.uses] == ["dpop"]


@pytest.mark.parametrize("audience", [("https://other.example.test",), (AS + "/oauth/token",), (AS, "https://b.test")])
async def test_a_jwt_svid_for_others_is_refused(world, audience):
    """Whoever else it is for could show it here."""
    await refusal(world, world.jwt_svid(audience=audience))


async def test_a_jwt_svid_whose_time_is_over_is_refused(world):
    """It was good once."""
    request = world.jwt_svid()
    world.clock.advance(6 * MINUTE)
    await refusal(world, request)


async def test_a_client_id_that_is_not_the_proof_s_is_refused(world):
    """RFC 7521, 4.2: the planner's proof must not make billing the client, by its ID or an alias."""
    await world.store.clients.put(world.client(M.SPIFFE_JWT, client_id="billing-app", spiffe_id=BILLING))
    await world.store.clients.put(world.client(M.SPIFFE_JWT, M.SPIFFE_X509))
    request = world.jwt_svid()
    for name in (str(BILLING), "billing-app", "nobody"):
        await refusal(world, replace(request, form={**request.form, "client_id": (name,)}))
    named = replace(request, form={**request.form, "client_id": ("planner-app",)})
    assert (await world.authenticate(named)).client_id == "planner-app"


async def test_an_x509_svid_is_a_client_that_names_itself(world):
    """The draft: client_id is always sent; tokens are bound to the certificate and end with it."""
    svid = world.domain.issue_svid(str(PLANNER))
    client = await world.authenticate(world.with_svid(world.request(client_id=str(PLANNER)), svid))
    leaf = svid.leaf.public_bytes(Encoding.DER)
    assert client.method is M.SPIFFE_X509
    assert client.binding.x5t_s256 == certificate_thumbprint(leaf)
    assert client.binding_ends_at == svid.not_after
    assert client.thumbprints == {f"x5t:{client.binding.x5t_s256}"}
    await refusal(world, world.with_svid(world.request(), svid))
    await refusal(world, world.with_svid(world.request(client_id=str(BILLING)), svid))


async def test_an_x509_svid_on_an_old_connection_is_verified_anew(world):
    """The connection may outlive the SVID, and the authority that signed it."""
    request = world.with_svid(world.request(client_id=str(PLANNER)), world.domain.issue_svid(str(PLANNER)))
    world.domain.add_authority()
    world.domain.activate_next_authority()
    world.domain.drop_authority()
    await refusal(world, request)
    again = world.with_svid(world.request(client_id=str(PLANNER)), world.domain.issue_svid(str(PLANNER)))
    world.clock.advance(timedelta(hours=2))
    await refusal(world, again)


async def test_a_dpop_proof_takes_precedence_over_the_certificate(world):
    """X509-SVIDs rotate within the hour; whoever proves a key wants tokens that outlive them."""
    request = world.with_dpop(world.with_svid(world.jwt_svid(), world.domain.issue_svid(str(PLANNER))))
    client = await world.authenticate(request)
    assert client.binding.jkt is not None
    assert client.binding_ends_at is None
    assert len(client.thumbprints) == 2


async def test_a_connection_of_another_agent_is_refused(world):
    """Else billing could have the planner's token bound to its own certificate."""
    await refusal(world, world.with_svid(world.jwt_svid(), world.domain.issue_svid(str(BILLING))))


@pytest.mark.parametrize("gone", ["suspended", "deleted"])
async def test_an_agent_that_is_not_active_is_no_client(world, gone):
    """One suspension stops SVIDs and tokens alike."""
    if gone == "suspended":
        world.directory.suspend(PLANNER)
    else:
        world.directory.agents.pop(PLANNER)
    await refusal(world, world.jwt_svid())


@pytest.mark.parametrize("typ", ["JWT", "client-authentication+jwt"])
async def test_a_registered_key_signs_an_assertion_for_one_use(world, typ):
    """RFC 7523: the jti is claimed with whatever is issued."""
    await world.store.clients.put(world.client(M.PRIVATE_KEY_JWT))
    client = await world.authenticate(world.assertion(typ=typ))
    assert (client.client_id, client.agent.spiffe_id) == ("planner-app", PLANNER)
    assert [(use.kind, use.scope, use.value) for use in client.uses] == [("client-assertion", "planner-app", "j-1")]


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": 1},
        {"exp": 2**34},
        {"iat": 2**34},
        {"nbf": 2**34},
        {"jti": None},
        {"iss": "somebody", "sub": "somebody"},
        {"key": generate_private_key()},
        {"typ": "at+jwt"},
    ],
)
async def test_an_assertion_that_is_not_the_client_s_or_not_for_now_is_refused(world, changes):
    """Each claim that is missing or beyond its bound is somebody's way in."""
    await world.store.clients.put(world.client(M.PRIVATE_KEY_JWT))
    await refusal(world, world.assertion(**changes))


async def test_an_assertion_of_a_client_without_that_method_is_refused(world):
    """A key that was registered is not yet leave to use it."""
    await world.store.clients.put(world.client(M.CLIENT_SECRET_POST, jwks=jwks(world.client_key, "c1")))
    await refusal(world, world.assertion())


@pytest.fixture
async def federated(world):
    await world.store.issuers.put(world.issuer())
    await world.store.credentials.put(
        FederatedCredential(
            name="ci",
            agent=PLANNER,
            issuer="https://idp.example.test",
            subject="job-7",
            audience=AS,
            created_at=world.clock(),
            created_by="ann",
        )
    )
    return world


async def test_a_foreign_token_is_the_agent_its_credential_names(federated):
    """A platform's token replaces a secret on the platform."""
    client = await federated.authenticate(federated.foreign())
    assert (client.client_id, client.method) == (str(PLANNER), M.FEDERATED_JWT)
    assert client.binding.jkt


@pytest.mark.parametrize(
    "changes", [{"sub": "job-8"}, {"aud": "https://b.test"}, {"iss": "https://idp.example.test/"}, {"exp": 1}]
)
async def test_a_foreign_token_that_is_not_the_credential_s_is_refused(federated, changes):
    """Exact, on every condition."""
    await refusal(federated, federated.foreign(**changes))


async def test_a_foreign_token_without_a_dpop_proof_is_refused(federated):
    """It proves no key; what we issued for it would be a bearer token twice over."""
    request = replace(federated.foreign(), dpop=())
    assert "DPoP" in (await refusal(federated, request, OAuthErrorCode.INVALID_REQUEST)).description


async def test_a_client_secret_works_until_its_end(world):
    """The exception, for what cannot do better yet."""
    await world.registrations.clients.create(world.client(M.CLIENT_SECRET_BASIC, M.CLIENT_SECRET_POST), by="ann")
    made = await world.registrations.issue_client_secret(
        "planner-app", lifetime=timedelta(days=1), reason="seed sample", by="ann"
    )
    basic = world.with_basic(world.request(), "planner-app", made.secret)
    post = world.request(client_id="planner-app", client_secret=made.secret)
    for request in (basic, post):
        client = await world.authenticate(request)
        assert (client.binding, client.bearer_until) == (None, made.expires_at)
    world.clock.advance(timedelta(days=1))
    for request in (basic, post):
        await refusal(world, request)


@pytest.mark.parametrize("header", ["Basic !!!", "Basic cGxhbm5lcg==", "Bearer abc", "Basic", "", "Basic cGw6/w=="])
async def test_an_authorization_header_that_is_not_basic_credentials_is_refused(world, header):
    """Whatever it holds is not a client."""
    await refusal(world, replace(world.request(), authorization=header))


async def test_a_wrong_secret_and_an_unknown_client_look_alike(world):
    """Who guesses must not learn which clients there are."""
    await world.registrations.clients.create(world.client(M.CLIENT_SECRET_BASIC), by="ann")
    unmade = await refusal(world, world.with_basic(world.request(), "planner-app", "guess"))
    await world.registrations.issue_client_secret("planner-app", lifetime=MINUTE, reason="test", by="ann")
    wrong = await refusal(world, world.with_basic(world.request(), "planner-app", "guess"))
    unknown = await refusal(world, world.with_basic(world.request(), "nobody", "guess"))
    assert len({(each.error, each.description, each.rule, each.status) for each in (unmade, wrong, unknown)}) == 1
    assert "guess" not in str(wrong)


@pytest.fixture
def web_client(world):
    """A client with a certificate of a company's own authority; and what that authority issues."""
    ca = trustme.CA()
    der = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).public_bytes(Encoding.DER)

    def request(name: str, issuer: trustme.CA = ca):
        leaf = x509.load_pem_x509_certificate(issuer.issue_cert(name).cert_chain_pems[0].bytes())
        return replace(world.request(client_id="planner-app"), certificate=leaf.public_bytes(Encoding.DER))

    registration = world.client(M.TLS_CLIENT_AUTH, tls_ca=der, tls_san_dns="planner.example.test")
    return registration, request


async def test_a_certificate_with_the_registered_name_is_a_client(world, web_client):
    """RFC 8705, 2.1, for clients outside the trust domain."""
    registration, request = web_client
    await world.registrations.clients.create(registration, by="ann")
    client = await world.authenticate(request("planner.example.test"))
    assert (client.method, client.agent.spiffe_id) == (M.TLS_CLIENT_AUTH, PLANNER)
    assert client.binding.x5t_s256
    assert client.binding_ends_at


async def test_a_certificate_of_another_name_or_authority_is_refused(world, web_client):
    """Every public authority issues certificates for names; only the registered one speaks for this client."""
    registration, request = web_client
    await world.registrations.clients.create(registration, by="ann")
    await refusal(world, request("other.example.test"))
    await refusal(world, request("planner.example.test", trustme.CA()))
    await refusal(world, replace(request("planner.example.test"), certificate=registration.tls_ca))
    await refusal(world, replace(request("planner.example.test"), certificate=b"junk"))
    old = request("planner.example.test")
    world.clock.advance(timedelta(days=365 * 1000))
    await refusal(world, old)


@pytest.fixture
def attested(world):
    """A client whose key somebody vouches for, with the draft switched on."""
    world.settings = replace(world.settings, drafts=frozenset({ATTESTATION_DRAFT}))
    attester = generate_private_key()

    def request(*, key=attester, proof_key=world.client_key, audience=AS, sub="planner-app", age=0, ends=300):
        now = int(world.clock().timestamp())
        confirmation = {"jwk": jwk_of(world.client_key.public_key())}
        attestation = sign_compact(
            {"sub": sub, "exp": now + ends, "cnf": confirmation}, key, kid="a1", typ="oauth-client-attestation+jwt"
        )
        proof = sign_compact(
            {"aud": audience, "jti": "p", "iat": now - age},
            proof_key,
            kid="any",
            typ="oauth-client-attestation-pop+jwt",
        )
        return replace(world.request(), client_attestation=(attestation,), client_attestation_pop=(proof,))

    return world.client(M.ATTESTATION, attester_jwks=jwks(attester, "a1")), request


async def test_an_attested_key_is_a_client(world, attested):
    """The draft, by its number: the attester vouches for the key, the proof shows that the client has it."""
    registration, request = attested
    await world.registrations.clients.create(registration, by="ann")
    client = await world.authenticate(request())
    assert client.method is M.ATTESTATION
    assert client.thumbprints == {f"jkt:{thumbprint(world.client_key.public_key())}"}
    assert [use.kind for use in client.uses] == ["attestation-pop"]


@pytest.mark.parametrize(
    "changes",
    [
        {"key": generate_private_key()},
        {"proof_key": generate_private_key()},
        {"audience": "https://b.test"},
        {"audience": [AS, "https://b.test"]},
        {"sub": "nobody"},
        {"age": 61},
        {"age": -60},
        {"ends": -1},
    ],
)
async def test_an_attestation_or_proof_that_does_not_hold_is_refused(world, attested, changes):
    """Both must hold, for this server, now."""
    registration, request = attested
    await world.store.clients.put(registration)
    await refusal(world, request(**changes))


async def test_attestation_is_off_unless_its_draft_is_on(world, attested):
    """A draft's next number may mean another thing."""
    registration, request = attested
    await world.store.clients.put(registration)
    world.settings = replace(world.settings, drafts=frozenset())
    await refusal(world, request())
