"""The demo's agent that calls: a process of its own, told on stdin what to do, answering on stdout.

One JSON object a line. `{"do": "call", "method": …, "url": …}` makes one request; `{"do": "rotate", "url": …,
"seconds": …}` calls without pause until its certificate has been replaced. `{"do": "hoard"}` copies the certificate and
key of the moment, as a program gone wrong would, and `{"do": "call", …, "with": "hoarded"}` calls with that copy.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx2

from agentshield import Shield
from agentshield.identity.spiffe_id import SpiffeId
from agentshield.sdk.authorizers import only
from agentshield.sdk.http import async_client
from agentshield.sdk.peer import peer_of
from agentshield.sdk.tls import SpiffeContext


async def main() -> None:
    """Do what each line of stdin says, until it ends."""
    async with Shield.from_env() as me:
        analyst = SpiffeId.of(me.spiffe_id.trust_domain, "/agents/analyst")
        hoarding = SpiffeContext.for_client(authorize=only(analyst))
        async with (
            me.client(expect=analyst, timeout=10) as http,
            async_client(hoarding, flavor="httpx2", clock=me.clock, timeout=10) as hoarder,
        ):
            _say({"ready": str(me.spiffe_id)})
            while line := await asyncio.to_thread(sys.stdin.readline):
                task = json.loads(line)
                match task["do"]:
                    case "rotate":
                        _say(await _rotate(me, http, task))
                    case "hoard":
                        hoarding.update(me.source.svid, me.source.bundles)
                        _say({"expires_at": me.source.svid.not_after.isoformat()})
                    case _:
                        _say(await _call(hoarder if task.get("with") == "hoarded" else http, task))


async def _call(http: httpx2.AsyncClient, task: dict[str, Any]) -> dict[str, Any]:
    try:
        async with http.stream(task["method"], task["url"]) as response:
            tls = response.extensions["network_stream"].get_extra_info("ssl_object")
            peer = peer_of(tls)
            body = json.loads(await response.aread())
    except httpx2.TransportError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "status": response.status_code,
        "body": body,
        "tls": tls.version(),
        "peer": None if peer is None else str(peer.spiffe_id),
    }


async def _rotate(me: Shield, http: httpx2.AsyncClient, task: dict[str, Any]) -> dict[str, Any]:
    """Call again and again while our certificate is replaced, and for some calls more."""
    before = me.source.svid.leaf.serial_number
    calls, failed, after_rotation = 0, 0, 0
    deadline = time.monotonic() + task["seconds"]
    while time.monotonic() < deadline and after_rotation < 50:
        answer = await _call(http, {"method": "GET", "url": task["url"]})
        calls += 1
        failed += answer.get("status") != 200
        after_rotation += me.source.svid.leaf.serial_number != before
    after = me.source.svid.leaf.serial_number
    return {"calls": calls, "failed": failed, "before": f"{before:x}", "after": f"{after:x}"}


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
