"""Why a process got an identity, or none."""

import asyncio
import json
import os
import sys

from node_harness import Node

from agentshield.sdk.wire import methods, node_pb2


async def explained(node: Node, pid: int = 0) -> dict:
    async with node.channel() as channel:
        reply = await methods.EXPLAIN_PROCESS.call(channel, node_pb2.ExplainRequest(pid=pid), timeout=5)
    return json.loads(reply.report_json)


async def test_the_missing_selector_is_named(node: Node):
    """The oldest complaint in this field: "no identity issued", and no word about why."""
    await node.authority.add("/near", node.me, "launch:agent:planner")
    await node.authority.add("/far", node.me, "launch:agent:x", "launch:script_sha256:00")
    await node.authority.add("/unrelated", "unix:uid:4242424")
    report = await explained(node)
    assert report["matching"] == []
    assert [(each["spiffe_id"], each["missing"]) for each in report["nearest"]] == [
        ("spiffe://example.test/near", ["launch:agent:planner"]),
        ("spiffe://example.test/far", ["launch:agent:x", "launch:script_sha256:00"]),
    ]


async def test_every_step_is_there(node: Node):
    """Attestors, selectors, matching entry, age of what the node knows: each may be the one that is wrong."""
    entry = await node.authority.add("/me", node.me)
    report = await explained(node)
    assert (report["pid"], report["uid"]) == (os.getpid(), os.geteuid())
    assert [(each["name"], each["problem"]) for each in report["attestors"]] == [("unix", None), ("launch", None)]
    assert node.me in report["selectors"]
    assert [each["entry_id"] for each in report["matching"]] == [entry.id]
    assert report["cache"]["entries"] == 1
    assert report["cache"]["age_seconds"] < 5


async def test_another_process_is_explained_by_its_number(node: Node):
    """The program that fails is rarely the shell that asks."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    report = await explained(node, process.pid)
    assert report["pid"] == process.pid
    process.stdin.close()
    await process.wait()
