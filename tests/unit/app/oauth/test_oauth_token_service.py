"""The token service inside `up`: at an address that stays, for clients that speak no SPIFFE too."""

import asyncio
import ssl
import time
from contextlib import AsyncExitStack

import httpx2
import pytest

from agentshield.app.token_service import token_service
from agentshield.oauth.server import PortTakenError, listen
from agentshield.sdk.key_file import load_svid


async def asked(issuer, state, path):
    tls = ssl.create_default_context(cafile=str(state.ca_file))
    async with httpx2.AsyncClient(verify=tls) as client:
        return await client.get(issuer + path)


async def test_stock_client_finds_it_by_its_certificate(running, state):
    """The CA file and the issuer's name are all that a program of others needs."""
    answer = await asked(running.settings.issuer, state, "/.well-known/oauth-authorization-server")
    assert answer.json()["issuer"] == running.settings.issuer
    keys = await asked(running.settings.issuer, state, "/oauth/jwks")
    assert keys.headers["content-type"] == "application/jwk-set+json"
    assert "max-age" in keys.headers["cache-control"]
    assert all("d" not in key for key in keys.json()["keys"])


async def test_client_with_other_authorities_turns_away(running):
    """The CA file is what makes the difference: nobody else's certificate would do."""
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(running.settings.issuer + "/oauth/jwks")


async def test_issuer_keeps_its_name(authority, database, recorded, state):
    """Tokens and other services' registrations hold it."""
    names, keys = [], []
    for _ in range(2):
        async with token_service(authority, database, recorded, state) as running:
            names.append(running.settings.issuer)
            keys.append(running.service.jwks())
    assert names[0] == names[1]
    assert keys[0] == keys[1]


async def test_port_that_another_has_is_not_replaced(authority, database, recorded, state):
    """Another port would be another issuer; who took this one may be pretending to be us."""
    async with token_service(authority, database, recorded, state):
        pass
    with listen("127.0.0.1", state.kept_port()) as other:
        other.listen()
        with pytest.raises(PortTakenError) as caught:
            async with token_service(authority, database, recorded, state):
                pass
    assert caught.value.hint


async def test_suspension_reaches_live_tokens(running, authority, issued):
    """Within a second of the command, though the token has minutes to live."""
    token = issued()
    await running.store.tokens.issue(token, uses=(), at=token.issued_at)
    await authority.suspend_agent("planner")
    async with asyncio.timeout(1):
        while not await running.store.tokens.is_revoked("j"):
            await asyncio.sleep(0.01)


async def test_end_waits_for_nobody(authority, database, recorded, state):
    """A resource server that listens for revocations must not hold up `agentshield down`."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(token_service(authority, database, recorded, state))
        tls = ssl.create_default_context(cafile=str(state.ca_file))
        load_svid(tls, await authority.server_svid())
        async with httpx2.AsyncClient(verify=tls, timeout=30) as client:
            waiting = asyncio.create_task(client.get(running.settings.issuer + "/oauth/revocations?wait=25"))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            began = time.monotonic()
            ending = asyncio.create_task(stack.aclose())
            assert (await waiting).json()["revoked"] == []
        await ending
        assert time.monotonic() - began < 3
