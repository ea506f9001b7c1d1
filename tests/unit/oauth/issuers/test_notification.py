"""A notification on its whole way: from a human's answer to the client's own HTTPS server."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from ciba_world import NOTIFICATION_TOKEN, CibaWorld
from exchange_world import PLANNER

from agentshield.oauth.issuers.fetch import IssuerFetch
from agentshield.oauth.model import ClientAuthMethod


async def told(world: CibaWorld, foreign, *, path: str):
    client = world.client(
        ClientAuthMethod.SPIFFE_JWT,
        client_id=str(PLANNER),
        spiffe_id=PLANNER,
        notification_endpoint=foreign.url + path,
        notification_ca_pem=foreign.ca_pem,
    )
    await world.registrations.clients.create(client, by="ann")
    world.notifications._post = IssuerFetch(replace(world.settings, allow_loopback_issuers=True))
    answer = await world.question(client_notification_token=NOTIFICATION_TOKEN)
    await world.say(answer)
    return answer


async def test_a_client_is_told_over_tls_and_comes_for_its_token(foreign, tmp_path):
    """Registered, asked, answered, told, fetched: with the authority that the registration names."""
    foreign.answers["/told"] = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    world = await CibaWorld(keys_directory=tmp_path).open()
    answer = await told(world, foreign, path="/told")
    assert foreign.asked == ["/told"]
    assert (await world.poll(answer)).access_token


async def test_a_client_whose_server_sends_us_on_is_not_told(foreign, tmp_path, caplog):
    """The answer stands, the redirect is not followed, and our log has neither token nor id."""
    foreign.answers["/told"] = (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    world = await CibaWorld(keys_directory=tmp_path).open()
    answer = await told(world, foreign, path="/told")
    assert foreign.asked == ["/told"]
    assert "answered 307" in caplog.text
    assert NOTIFICATION_TOKEN not in caplog.text
    assert answer.auth_req_id not in caplog.text
    assert (await world.poll(answer)).access_token
