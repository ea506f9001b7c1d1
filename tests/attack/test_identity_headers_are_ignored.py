"""A caller writes its identity into header fields that proxies use. Only the TLS handshake says who calls."""

from typing import Annotated

import pytest

from agentshield.fastapi import Caller, caller, protect
from agentshield.sdk.tls import ClientCertificates
from agentshield.testing import FakeTrustDomain, ShieldPair

fastapi = pytest.importorskip("fastapi")
httpx2 = pytest.importorskip("httpx2")

CLAIMS = {
    "X-Forwarded-Client-Cert": "By=spiffe://example.test/proxy;URI=spiffe://example.test/agents/admin",
    "X-SPIFFE-ID": "spiffe://example.test/agents/admin",
    "X-Client-Cert": "-----BEGIN CERTIFICATE-----",
    "X-Forwarded-User": "admin",
    "Forwarded": "for=127.0.0.1;by=spiffe://example.test/agents/admin",
}


def app_of(pair):
    app = protect(fastapi.FastAPI(), pair.analyst)

    @app.get("/whoami")
    async def whoami(who: Annotated[Caller, fastapi.Depends(caller("whoami"))]):
        return {"caller": who.spiffe_id}

    return app


async def test_a_verified_caller_stays_who_it_is():
    """planner must not become admin by saying so."""
    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "whoami")
        async with pair.serving(app_of(pair)) as url, pair.client() as http:
            answer = await http.get(f"{url}/whoami", headers=CLAIMS)
            assert answer.json() == {"caller": "spiffe://example.test/agents/planner"}


async def test_an_anonymous_caller_stays_nobody():
    """Where certificates are optional, a header must not stand in for the one that was not shown."""
    async with ShieldPair(FakeTrustDomain()) as pair:
        await pair.allow("planner", "analyst", "whoami")
        serving = pair.serving(app_of(pair), client_certificates=ClientCertificates.OPTIONAL)
        async with serving as url, httpx2.AsyncClient(verify=False) as stranger:
            answer = await stranger.get(f"{url}/whoami", headers=CLAIMS)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert "admin" not in answer.text
