"""A human, a stock oidc-provider (npm) where they sign in, stock and own clients, and our token service, over TLS."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2
import pytest
import trustme
from joserfc.jwk import ECKey

from agentshield.identity.access_token import verify_access_token
from agentshield.identity.client_assertion import sign_client_assertion
from agentshield.identity.dpop import sign_dpop_proof
from agentshield.identity.jwk import KeySet
from agentshield.identity.keys import PrivateKey, generate_private_key, private_key_to_pkcs8
from agentshield.oauth.authorize.browser import challenge_of
from agentshield.oauth.model import IssuerRecord, SignIn

pytestmark = [pytest.mark.slow]

AUDIENCE, SCOPE = "api://agent-b", "AI.Task.Execute"
REDIRECT_URI = "https://app.test/cb"
VERIFIER = "v" * 43
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
OURS_THERE = "agentshield"


@pytest.fixture
async def provider(node_program, token_service) -> AsyncIterator[tuple[str, trustme.CA]]:
    """oidc-provider, which knows us as a client by our own key set, and its humans by whatever they type."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ca, issuer = trustme.CA(), f"https://localhost:{port}"
    certificate = ca.issue_cert("localhost")
    async with httpx2.AsyncClient(verify=token_service.client_context(), trust_env=False) as http:
        (our_key,) = (await http.get(token_service.issuer + "/oauth/jwks")).json()["keys"]
    signing = ECKey.import_key(private_key_to_pkcs8(generate_private_key())).as_dict(private=True)
    settings = {
        "issuer": issuer,
        "port": port,
        "tls_key": certificate.private_key_pem.bytes().decode(),
        "tls_certificate": b"".join(each.bytes() for each in certificate.cert_chain_pems).decode(),
        "signing_jwk": {**signing, "kid": "s", "alg": "ES256", "use": "sig"},
        "clients": [
            {
                "id": OURS_THERE,
                "jwk": our_key,  # by value: it fetches none from loopback
                "redirect_uri": token_service.issuer + "/oauth/callback",
                "scope": "openid",
            }
        ],
        "scopes": ["openid"],
        "signs_humans_in": True,
    }
    process = await node_program("oidc_provider.mjs", settings)
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"ready\n"
        await token_service.store.issuers.put(
            IssuerRecord(
                name="corp",
                issuer=issuer,
                algorithms=frozenset({"ES256"}),
                audiences=frozenset({token_service.issuer}),
                ca_pem=ca.cert_pem.bytes(),
                scopes=frozenset({SCOPE}),
                sign_in=SignIn(client_id=OURS_THERE),
                created_at=token_service.domain.clock(),
                created_by="ann",
            )
        )
        yield issuer, ca
    finally:
        process.kill()
        await process.wait()


class Client:
    """The planner as a client: private_key_jwt and DPoP, in a few lines."""

    def __init__(self, service, http: httpx2.AsyncClient) -> None:
        self.service = service
        self.key: PrivateKey = generate_private_key()
        self.http = http

    async def post(self, path: str, **form: str) -> httpx2.Response:
        now = datetime.now(UTC)
        assertion = sign_client_assertion(
            self.service.client_key,
            kid="c",
            client_id=self.service.client_id,
            issuer_audience=self.service.issuer,
            at=now,
        )
        url = self.service.issuer + path
        proof = sign_dpop_proof(self.key, method="POST", url=url, at=now)
        form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return await self.http.post(url, data=form, headers={"DPoP": proof})


def form_of(page: str) -> tuple[str, dict[str, str]]:
    action = re.search(r'<form[^>]* action="([^"]+)"', page)
    hidden = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    assert action is not None, page
    return unescape(action[1]), {name: unescape(value) for name, value in hidden}


async def follow(human: httpx2.AsyncClient, answer: httpx2.Response) -> httpx2.Response:
    """Go where a browser would go, until there is a page to read, or the application is reached."""
    while answer.status_code in (302, 303):
        location = urljoin(str(answer.url), answer.headers["location"])
        if location.startswith(REDIRECT_URI):
            return answer
        answer = await human.get(location)
    assert answer.status_code == 200, answer.text
    return answer


async def agreed(token_service, issuer: str, context: ssl.SSLContext, link: str) -> str:
    """A human follows the client's link, signs in there, agrees here; return where their browser is sent."""
    async with httpx2.AsyncClient(verify=context, trust_env=False, follow_redirects=False) as human:
        page = await follow(human, await human.get(link))
        assert str(page.url).startswith(issuer)
        action, form = form_of(page.text)  # who are you?
        typed = form | {"login": "ann", "password": "x"}
        page = await follow(human, await human.post(urljoin(str(page.url), action), data=typed))
        if str(page.url).startswith(issuer):  # may AgentShield know that?
            action, form = form_of(page.text)
            page = await follow(human, await human.post(urljoin(str(page.url), action), data=form))
        assert str(page.url).startswith(token_service.issuer + "/oauth/consent?"), token_service.audit.events[-1].detail
        assert SCOPE in page.text
        action, form = form_of(page.text)
        back = await human.post(
            urljoin(str(page.url), action),
            data=form | {"decision": "allow"},
            headers={"Origin": token_service.issuer, "Sec-Fetch-Site": "same-origin"},
        )
    location: str = back.headers["location"]
    return location


def check(token_service, issuer: str, keys: KeySet, token: dict[str, str]) -> None:
    """It names Ann, where she is known, and the planner."""
    claims = verify_access_token(
        token["access_token"], keys=keys, issuer=token_service.issuer, audience=AUDIENCE, at=datetime.now(UTC)
    ).claims
    assert (claims.subject, claims.subject_issuer, claims.scopes) == ("ann", issuer, {SCOPE})
    assert claims.act_chain.actors[0].subject == str(token_service.domain.agent_id("planner"))


async def keys_of(token_service, context: ssl.SSLContext) -> KeySet:
    async with httpx2.AsyncClient(verify=context, trust_env=False) as http:
        answer = await http.get(token_service.issuer + "/oauth/jwks")
    return KeySet.from_jwks(answer.content, algorithms=frozenset({"ES256"}))


async def test_a_human_signs_in_there_agrees_here_and_the_agent_acts_for_them(provider, token_service):
    """Two servers, two private authorities, cookies, redirects: what stock software makes of what we send."""
    issuer, ca = provider
    context = token_service.client_context()
    ca.configure_trust(context)
    async with httpx2.AsyncClient(verify=context, trust_env=False) as http:
        client = Client(token_service, http)
        pushed = await client.post(
            "/oauth/par",
            response_type="code",
            redirect_uri=REDIRECT_URI,
            state="s",
            code_challenge=challenge_of(VERIFIER),
            code_challenge_method="S256",
            audience=AUDIENCE,
            scope=f"{SCOPE} offline_access",
        )
        assert pushed.status_code == 201, pushed.text
        link = {"client_id": token_service.client_id, "request_uri": pushed.json()["request_uri"]}
        back = await agreed(token_service, issuer, context, f"{token_service.issuer}/oauth/authorize?{urlencode(link)}")
        answer = {name: value for name, (value,) in parse_qs(urlsplit(back).query).items()}
        assert (answer["state"], answer["iss"]) == ("s", token_service.issuer)
        redeemed = await client.post(
            "/oauth/token",
            grant_type="authorization_code",
            code=answer["code"],
            redirect_uri=REDIRECT_URI,
            code_verifier=VERIFIER,
        )
        assert redeemed.status_code == 200, redeemed.text
        renewed = await client.post(
            "/oauth/token", grant_type="refresh_token", refresh_token=redeemed.json()["refresh_token"]
        )
        assert renewed.status_code == 200, renewed.text
    keys = await keys_of(token_service, context)
    for token in (redeemed.json(), renewed.json()):
        check(token_service, issuer, keys, token)


async def test_openid_client_has_a_human_delegate_to_it(node_program, provider, token_service):
    """A stock client, from the issuer's name alone: PAR by metadata, `iss` in the answer, DPoP, and a second token."""
    issuer, ca = provider
    context = token_service.client_context()
    ca.configure_trust(context)
    key = ECKey.import_key(private_key_to_pkcs8(token_service.client_key)).as_dict(private=True)
    order = {
        "issuer": token_service.issuer,
        "client_id": token_service.client_id,
        "jwk": {**key, "kid": "c", "alg": "ES256"},
        "redirect_uri": REDIRECT_URI,
        "audience": AUDIENCE,
        "scope": f"{SCOPE} offline_access",
    }
    process = await node_program("openid_client_code.mjs", order, NODE_EXTRA_CA_CERTS=str(token_service.ca))
    async with asyncio.timeout(30):
        told = json.loads(await process.stdout.readline())
        assert "link" in told, told
        back = await agreed(token_service, issuer, context, told["link"])
        out, _ = await process.communicate(back.encode() + b"\n")
    granted = json.loads(out)
    assert "error" not in granted, granted
    keys = await keys_of(token_service, context)
    for token in (granted["first"], granted["second"]):
        assert token["token_type"].lower() == "dpop"
        check(token_service, issuer, keys, token)
