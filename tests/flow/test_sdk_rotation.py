"""Three-second SVIDs and a rolling authority under load: nothing may fail, and nothing old may stay trusted."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agentshield.identity.bundle import TrustBundle
from agentshield.sdk.asgi import PEER
from agentshield.sdk.http import refusal_in
from agentshield.sdk.shield import Shield
from agentshield.testing import FakeTrustDomain, FakeWorkloadApi
from agentshield.testing.server import serving

LIFETIME = timedelta(seconds=3)  # certificates count whole seconds: two and a bit in the worst case
PERIOD = 0.7  # seconds between rotations: before half-life plus slack


async def name_the_peer(scope: Any, receive: Any, send: Any) -> None:
    body = str(scope[PEER].spiffe_id).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
            await receive()
            await send({"type": answer})
        return
    await name_the_peer(scope, receive, send)


async def roll_authority(domain: FakeTrustDomain, parties: dict[FakeWorkloadApi, Shield]) -> None:
    """Publish the next root, sign with it one period later, drop the old one when all it signed has ended.

    A step is done when everybody has heard of it: that is what an operator waits for, however busy the machine.
    """
    await everybody_rotates(domain, parties, after=domain.add_authority)
    await everybody_rotates(domain, parties, after=domain.activate_next_authority)
    for _ in range(math.ceil(LIFETIME.total_seconds() / PERIOD)):
        await everybody_rotates(domain, parties)
    await everybody_rotates(domain, parties, after=domain.drop_authority)


async def everybody_rotates(
    domain: FakeTrustDomain, parties: dict[FakeWorkloadApi, Shield], *, after: Callable[[], object] = lambda: None
) -> None:
    after()
    for api in parties:
        await api.rotate()
    async with asyncio.timeout(30):
        while any(roots(shield, domain) != roots_of(domain.bundle) for shield in parties.values()):
            await asyncio.sleep(0.01)
    await asyncio.sleep(PERIOD)


def roots(shield: Shield, domain: FakeTrustDomain) -> set[Any]:
    return roots_of(shield.source.bundles.bundle_for(domain.trust_domain))


def roots_of(bundle: TrustBundle) -> set[Any]:
    return {each.certificate for each in bundle.x509_authorities}


@pytest.mark.parametrize("flavor", ["httpx2", "httpx"])
async def test_no_request_fails_while_svids_and_roots_rotate(flavor: Any) -> None:
    """Three-second SVIDs and two rolls of the authority under load lose no request, or operators stop rotating."""
    domain = FakeTrustDomain()
    async with (
        FakeWorkloadApi(domain, "/agents/planner", svid_lifetime=LIFETIME) as planner_api,
        FakeWorkloadApi(domain, "/agents/analyst", svid_lifetime=LIFETIME) as analyst_api,
        Shield.from_socket(planner_api.endpoint) as planner,
        Shield.from_socket(analyst_api.endpoint) as analyst,
        serving(bare_app, analyst.server_tls()) as url,
        planner.client(expect=analyst.spiffe_id, flavor=flavor) as http,
    ):
        outcomes: Counter[str] = Counter()
        is_over = asyncio.Event()

        async def load() -> None:
            while not is_over.is_set():
                try:
                    outcomes[(await http.get(url)).text] += 1
                except Exception as error:
                    outcomes[repr(error)] += 1
                await asyncio.sleep(0.001)

        workers = [asyncio.create_task(load()) for _ in range(6)]
        first_root = domain.issuers[0].certificate
        for _ in range(2):
            await roll_authority(domain, {planner_api: planner, analyst_api: analyst})
        is_over.set()
        await asyncio.gather(*workers)

        assert set(outcomes) == {"spiffe://example.test/agents/planner"}, outcomes
        assert outcomes.total() > 200
        assert first_root not in [
            each.certificate for each in analyst.source.bundles.bundle_for(domain.trust_domain).x509_authorities
        ]


async def test_a_removed_root_ends_connections_that_it_vouched_for() -> None:
    """A dropped authority's peer is refused at its next request, also on an open connection."""
    domain = FakeTrustDomain()
    async with (
        FakeWorkloadApi(domain, "/agents/planner") as planner_api,
        FakeWorkloadApi(domain, "/agents/analyst") as analyst_api,
        Shield.from_socket(planner_api.endpoint) as planner,
        Shield.from_socket(analyst_api.endpoint) as analyst,
        serving(bare_app, analyst.server_tls()) as url,
        planner.client(expect=analyst.spiffe_id) as http,
    ):
        assert (await http.get(url)).status_code == 200
        domain.add_authority()
        domain.activate_next_authority()
        domain.drop_authority()
        await analyst_api.rotate()  # planner still holds, and believes, what the old root signed
        await asyncio.sleep(0.1)

        assert (await http.get(url)).status_code == 401
        with pytest.raises(Exception) as refused:  # the new connection meets a server of an unknown root
            await http.get(url)
        assert refusal_in(refused.value) is not None
