"""`shield.auth`: the right token on each request of httpx and httpx2, and on no request elsewhere."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from token_world import AUDIENCE, body_of, token_world

from agentshield.errors import ConfigurationError, UnavailableError
from agentshield.identity.attestation_proof import verify_attestation_proof
from agentshield.identity.wit_svid import verify_wit_svid
from agentshield.sdk.access_tokens import TokenVerifier
from agentshield.sdk.asgi import ShieldMiddleware, authorized_caller
from agentshield.sdk.clients.oauth import VARIABLE
from agentshield.sdk.sync import SyncShield
from agentshield.sdk.tls import ClientCertificates
from agentshield.sdk.token_errors import TokenOriginError, TokenRequestRefusedError, TokenServiceUnavailableError
from agentshield.testing import FakeClock, FakeTrustDomain

FLAVORS = pytest.mark.parametrize("flavor", ["httpx2", "httpx"])
SCOPES = ["AI.Task.Execute"]


class Resource:
    """analyst's door, on a real server whose address it learns when it is there."""

    def __init__(self, world):
        self.world = world
        self.url = ""
        self.door = None
        self.callers, self.seen = [], []
        self.answers = []  # what to answer instead, each once

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["path"], headers))
        if self.answers:
            status, more = self.answers.pop(0)
            await body_of(receive)
            await respond(send, status, more)
            return
        await self.door(scope, receive, send)

    async def app(self, scope, receive, send):
        self.callers.append(await authorized_caller(scope, "run", scopes=SCOPES))
        await respond(send, 200, [], await body_of(receive))

    def tokens(self):
        return [headers.get("authorization") for _, headers in self.seen]


async def respond(send, status, headers, body=""):
    data = body.encode()
    head = [(b"content-length", b"%d" % len(data)), *((n.encode(), v.encode()) for n, v in headers)]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": data})


@contextlib.asynccontextmanager
async def resource_of(world):
    resource = Resource(world)
    async with world.pair.serving(resource, client_certificates=ClientCertificates.OPTIONAL) as url:
        verifier = TokenVerifier(audience=AUDIENCE, issuer=world.server.issuer, base_url=url)
        resource.url = url
        resource.door = ShieldMiddleware(resource.app, world.pair.analyst, tokens=verifier)
        yield resource


@pytest.fixture
async def resource(world, monkeypatch):
    monkeypatch.setenv(VARIABLE, world.server.issuer)
    async with resource_of(world) as resource:
        yield resource


def auth_of(resource, **changes):
    return resource.world.pair.planner.auth(resource.url, **{"audience": AUDIENCE, "scopes": SCOPES, **changes})


@FLAVORS
async def test_a_call_with_a_token(resource, flavor):
    """One token for many requests, a proof of its own for each, over our own mTLS."""
    async with resource.world.pair.client(flavor=flavor, auth=auth_of(resource)) as http:
        for _ in range(3):
            answer = await http.post(f"{resource.url}/run?x=1", content=b"hello")
            assert (answer.status_code, answer.text) == (200, "hello")
    assert len(resource.world.server.forms) == 1
    form = resource.world.server.forms[0]
    assert form["grant_type"] == "client_credentials"
    assert (form["resource"], form["scope"]) == (AUDIENCE, "AI.Task.Execute")
    assert len({headers["dpop"] for _, headers in resource.seen}) == 3
    assert {caller.proof for caller in resource.callers} == {"access-token"}


async def test_on_behalf_of_a_user(resource):
    """RFC 8693: the user's token goes to the token endpoint, and we become the actor."""
    auth = auth_of(resource, on_behalf_of="eyJhbGciOiJFUzI1NiJ9.e30.c2ln")
    async with resource.world.pair.client(auth=auth) as http:
        assert (await http.get(f"{resource.url}/run")).status_code == 200
    [form] = resource.world.server.forms
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
    [caller] = resource.callers
    assert (caller.subject, caller.spiffe_id) == ("a user", "spiffe://example.test/agents/planner")


async def test_on_behalf_of_a_caller(resource):
    """A service acts for whoever called it, with the token that the caller came with; an SVID is not exchanged."""
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        await http.get(f"{resource.url}/run")
    [caller] = resource.callers
    auth = auth_of(resource, on_behalf_of=caller)
    async with resource.world.pair.client(auth=auth) as http:
        assert (await http.get(f"{resource.url}/run")).status_code == 200
    assert resource.world.server.forms[-1]["subject_token_type"].endswith(":access_token")


async def test_many_at_once_ask_once(resource):
    """A hundred tasks that start together cost one token."""
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        answers = await asyncio.gather(*(http.get(f"{resource.url}/run") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(resource.world.server.forms) == 1


async def test_many_at_once_fail_at_once(resource):
    """A server that is away costs each of them one wait, not the waits of all before it."""
    resource.world.server.is_down = True
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        calls = (http.get(f"{resource.url}/run") for _ in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {TokenServiceUnavailableError}
        assert len(resource.world.server.asked) <= 2
        resource.world.server.is_down = False
        assert (await http.get(f"{resource.url}/run")).status_code == 200


async def test_who_stops_waiting_takes_nothing_from_the_others(resource):
    """One task's deadline is not everybody's."""
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        first = asyncio.create_task(http.get(f"{resource.url}/run"))
        second = asyncio.create_task(http.get(f"{resource.url}/run"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).status_code == 200
    assert len(resource.world.server.forms) == 1


async def test_a_jwt_svid_as_proof(resource):
    """spiffe_jwt: for the issuer alone, beside the connection's own certificate."""
    from agentshield.identity.jwt_svid import JwtSvid

    async with resource.world.pair.client(auth=auth_of(resource, proof="jwt-svid")) as http:
        assert (await http.get(f"{resource.url}/run")).status_code == 200
    [form] = resource.world.server.forms
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    assert JwtSvid.unsafe_from_own_agent(form["client_assertion"]).audience == (resource.world.server.issuer,)


async def test_a_wit_svid_as_proof(resource):
    """spiffe_wit: the WIT that the node agent gave us, and for each request a proof of its key that nobody has seen."""
    server = resource.world.server
    server.nonce = "one"  # so that one token takes two requests
    async with resource.world.pair.client(auth=auth_of(resource, proof="wit-svid")) as http:
        assert (await http.get(f"{resource.url}/run")).status_code == 200
    assert len(server.headers) == 2
    now, seen = server.clock(), set()
    for form, headers in zip(server.forms, server.headers, strict=True):
        assert "client_assertion" not in form
        wit = verify_wit_svid(headers["oauth-client-attestation"], server.domain.bundles(), at=now)
        proof = verify_attestation_proof(
            headers["oauth-client-attestation-pop"],
            key=wit.confirmation.public_key,
            algorithms=frozenset({wit.confirmation.algorithm}),
            audience=server.issuer,
            client=form["client_id"],
            at=now,
        )
        seen.add(proof.jti)
    assert len(seen) == 2


async def test_wishes_do_not_mix(resource):
    """Another scope or another user is another token: nobody acts with what was granted for somebody else."""
    for wish in ({}, {"scopes": ["b"]}, {"on_behalf_of": "opaque-one"}, {"on_behalf_of": "opaque-two"}, {}):
        async with resource.world.pair.client(auth=auth_of(resource, **wish)) as http:
            await http.get(f"{resource.url}/run")
    assert len(resource.world.server.forms) == 4


async def test_a_token_is_replaced_at_four_fifths_of_its_life(monkeypatch):
    """Before it ends under a request, and not on every request either."""
    clock = FakeClock()
    async with token_world(FakeTrustDomain(clock=clock)) as world, resource_of(world) as resource:
        monkeypatch.setenv(VARIABLE, world.server.issuer)
        async with world.pair.client(auth=auth_of(resource)) as http:
            resource.answers = [(204, [])] * 3
            await http.get(resource.url)
            clock.advance(timedelta(seconds=239))
            await http.get(resource.url)
            assert len(world.server.forms) == 1
            clock.advance(timedelta(seconds=2))
            await http.get(resource.url)
            assert len(world.server.forms) == 2


@FLAVORS
async def test_a_token_that_is_refused_is_replaced_once(resource, flavor):
    """Revoked or forgotten at the other side: one fresh token, one more try, and then the truth."""
    refusal = (401, [("www-authenticate", 'DPoP error="invalid_token"')])
    async with resource.world.pair.client(flavor=flavor, auth=auth_of(resource)) as http:
        resource.answers = [refusal]
        assert (await http.post(f"{resource.url}/run", content=b"again")).text == "again"
        first, second = resource.tokens()
        assert first != second
        resource.answers = [refusal, refusal]
        assert (await http.get(f"{resource.url}/run")).status_code == 401
    assert len(resource.seen) == 4


async def test_a_body_that_was_streamed_is_not_sent_again(resource):
    """It is gone; half of a request must not be repeated."""

    async def parts():
        yield b"once"

    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        resource.answers = [(401, [("www-authenticate", 'DPoP error="invalid_token"')])]
        assert (await http.post(f"{resource.url}/run", content=parts())).status_code == 401
    assert len(resource.seen) == 1


async def test_a_nonce_is_used_when_it_is_asked_for(resource):
    """RFC 9449, 8 and 9: by the authorization server and by the resource, once each, without a new token."""
    resource.world.server.nonce = "n-1"
    challenge = [("www-authenticate", 'DPoP error="use_dpop_nonce"'), ("dpop-nonce", "n-2")]
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        resource.answers = [(401, challenge)]
        assert (await http.get(f"{resource.url}/run")).status_code == 200
    assert len(resource.world.server.forms) == 2
    assert len(set(resource.tokens())) == 1


@FLAVORS
async def test_another_origin_gets_nothing(resource, flavor):
    """A client used for another address: an error in the program, before anything is sent."""
    async with resource.world.pair.client(flavor=flavor, auth=auth_of(resource)) as http:
        for url in ("https://127.0.0.1:1/", resource.url.replace("127.0.0.1", "localhost"), "https://evil.test/"):
            with pytest.raises(TokenOriginError):
                await http.get(url)
    assert resource.world.server.forms == []


@FLAVORS
@pytest.mark.parametrize("error", ["invalid_token", "use_dpop_nonce"])
async def test_a_redirect_to_another_origin_carries_no_token(resource, flavor, error):
    """Neither on the way there, nor when the other side asks for one."""
    async with resource_of(resource.world) as other:
        challenge = [("www-authenticate", f'DPoP error="{error}"'), ("dpop-nonce", "theirs")]
        other.answers = [(401, challenge)] * 5
        async with resource.world.pair.client(flavor=flavor, auth=auth_of(resource), follow_redirects=True) as http:
            resource.answers = [(307, [("location", f"{other.url}/run")])]
            answer = await http.get(f"{resource.url}/run")
            assert answer.status_code == 401
            assert (await http.get(f"{resource.url}/run")).status_code == 200
        assert other.tokens() == [None]


async def test_a_redirect_within_the_origin_is_signed_for_where_it_leads(resource):
    """The proof of the first address is refused at the second; there it is made anew, once."""
    resource.answers = [(307, [("location", f"{resource.url}/run")])]
    async with resource.world.pair.client(auth=auth_of(resource), follow_redirects=True) as http:
        assert (await http.get(f"{resource.url}/old")).status_code == 200
    assert [path for path, _ in resource.seen] == ["/old", "/run", "/run"]


async def test_what_the_server_refuses_is_an_error_with_its_code(resource):
    """A scope that is not ours to have."""
    resource.world.server.refusal = "invalid_scope"
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        with pytest.raises(TokenRequestRefusedError) as refused:
            await http.get(f"{resource.url}/run")
    assert refused.value.error == "invalid_scope"
    assert resource.seen == []


async def test_a_server_that_is_not_the_one_is_not_asked(resource):
    """Another agent that listens at the issuer's address learns nothing: it has not the server's SPIFFE ID."""
    auth = resource.world.pair.planner.auth(resource.url, issuer=resource.url)
    async with resource.world.pair.client(auth=auth) as http:
        with pytest.raises(TokenServiceUnavailableError):
            await http.get(f"{resource.url}/run")
    assert resource.seen == []


async def test_an_unbound_token_is_not_taken(resource):
    """A server that forgets to bind gives us a secret that anybody could use."""
    server = resource.world.server
    plain = server._token

    def bearer(*arguments):
        status, body, more = plain(*arguments)
        return status, {**body, "token_type": "Bearer"}, more

    server._token = bearer
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        with pytest.raises(TokenServiceUnavailableError, match="expected DPoP"):
            await http.get(f"{resource.url}/run")


async def test_tokens_go_with_the_identity(resource):
    """When our identity is taken away, what it was good for is forgotten too."""
    from agentshield.identity.bundle import BundleSet
    from agentshield.sdk.x509_context import X509Context

    planner = resource.world.pair.planner
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        await http.get(f"{resource.url}/run")
    planner._forget_tokens(X509Context(svids=(), bundles=BundleSet()))
    async with resource.world.pair.client(auth=auth_of(resource)) as http:
        await http.get(f"{resource.url}/run")
    assert len(resource.world.server.forms) == 2
    assert len({caller.binding for caller in resource.callers}) == 2


async def test_a_blocking_client_in_a_thread(resource):
    """SyncShield: the same tokens, for programs without asyncio."""
    url, domain = resource.url, resource.world.pair.domain

    def work():
        with SyncShield.from_socket(resource.world.pair.planner_api.endpoint) as me:
            auth = me.auth(url, audience=AUDIENCE, scopes=SCOPES)
            with me.client(expect=domain.agent_id("analyst"), auth=auth) as http:
                return [http.get(f"{url}/run").status_code for _ in range(2)]

    assert await asyncio.to_thread(work) == [200, 200]
    assert len(resource.world.server.forms) == 1


async def test_a_blocking_client_on_the_event_loop_is_an_error_and_no_deadlock(resource):
    """It would wait for itself."""
    auth = auth_of(resource)
    import httpx2

    with pytest.raises(ConfigurationError, match="event loop"):
        next(auth.sync_auth_flow(httpx2.Request("GET", resource.url)))


async def test_what_must_be_said(world, monkeypatch):
    """No issuer, a resource in the clear: told when the Auth is made."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigurationError, match=VARIABLE):
        world.pair.planner.auth("https://a.test")
    monkeypatch.setenv(VARIABLE, world.server.issuer)
    for resource in ("http://a.test", "api://a", "a.test", ""):
        with pytest.raises(ConfigurationError, match="https URL"):
            world.pair.planner.auth(resource)


async def test_nothing_secret_is_shown(resource):
    """Neither token nor key in what a debugger, a log or an error prints."""
    auth = auth_of(resource)
    async with resource.world.pair.client(auth=auth) as http:
        await http.get(f"{resource.url}/run")
    [token] = {each.removeprefix("DPoP ") for each in resource.tokens()}
    client = auth._client
    assert token not in repr([auth, client, client._cache._held, resource.callers])


async def test_a_closed_shield_has_no_tokens(world, monkeypatch):
    """After the end nothing is asked for any more."""
    monkeypatch.setenv(VARIABLE, world.server.issuer)
    await world.pair.planner.__aexit__(None, None, None)
    with pytest.raises(UnavailableError):
        world.pair.planner.auth("https://a.test")
