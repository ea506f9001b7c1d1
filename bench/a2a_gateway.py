"""What the gateway adds: to the time of a call, to the CPU, and for each stream that is held open.

The agent is the least there can be, so that what is measured is the way to it: straight, on loopback, without TLS, as
it serves the gateway; and through the gateway, over mTLS, with the decision on record before the agent hears of it.
"""

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx2
import uvicorn

from agentshield.policy.bundle import PolicyBundle
from agentshield.sdk.enforcement_snapshot import AgentFacts, EnforcementSnapshot
from agentshield.sdk.shield import Shield
from agentshield.testing import FakeTrustDomain
from agentshield.testing.workload_api import FakeWorkloadApi

CALLS = 600
BURST = 16  # calls at once, where the gateway has all it can do
STREAMS = 1_000
NAMES = ("gateway", "planner", "analyst")
TICK = os.sysconf("SC_CLK_TCK")
VERSION = {"a2a-version": "1.0"}


async def run():
    """Rows for calls, then for streams."""
    async with contextlib.AsyncExitStack() as stack:
        domain = FakeTrustDomain()
        apis = {name: FakeWorkloadApi(domain, f"/agents/{name}") for name in NAMES}
        for api in apis.values():
            await stack.enter_async_context(api)
            await api.publish(snapshot(domain))
        agent = await stack.enter_async_context(least_agent())
        planner = await stack.enter_async_context(Shield.from_socket(apis["planner"].endpoint, wait=5))
        gateway, pid = await stack.enter_async_context(gateway_process(apis["gateway"].endpoint, domain, agent))
        limits = httpx2.Limits(max_connections=STREAMS + 50, max_keepalive_connections=50)
        straight = await stack.enter_async_context(httpx2.AsyncClient(base_url=agent, limits=limits))
        through = await stack.enter_async_context(
            planner.client(expect=domain.agent_id("gateway"), base_url=gateway, limits=limits, timeout=60)
        )
        await calls(through, itertools.count(-100), 100)  # nothing is loaded for the first time after this
        streams = await stream_rows(through, pid)  # before calls have made the heap larger than streams need
        return [*await call_rows(straight, through, pid), *streams]


async def call_rows(straight, through, pid):
    """One after another in turns, for what is added; then many at once, for what it costs."""
    ids = itertools.count()
    times = {"straight": [], "through": []}
    for number in range(CALLS):
        for name, client, path in (("straight", straight, "/"), ("through", through, "/agents/analyst/rpc")):
            begin = time.perf_counter()
            await call(client, path, next(ids))
            if number >= CALLS // 10:  # the first open the connections
                times[name].append((time.perf_counter() - begin) * 1e3)
    before, begin = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(calls(through, ids, CALLS // 4) for _ in range(BURST)))
    spent, took = cpu_seconds(pid) - before, time.perf_counter() - begin
    count = BURST * (CALLS // 4)
    p50 = {name: statistics.median(each) for name, each in times.items()}
    p99 = {name: statistics.quantiles(each, n=100)[98] for name, each in times.items()}
    python = "two HTTP hops and a record, in Python"
    return [
        row("agent asked straight, p50", p50["straight"], "ms", bound_by="httpx2 and uvicorn"),
        row("gateway adds, p50", p50["through"] - p50["straight"], "ms", "<= 2", python),
        row("gateway adds, p99", p99["through"] - p99["straight"], "ms", "<= 8", python),
        row("gateway, CPU a call", spent / count * 1e6, "us", None, python),
        row("gateway, calls a second and core", count / spent, "/s", None, python),
        row("gateway, calls a second, asking included", count / took, "/s", None, "this machine's cores, shared"),
    ]


async def stream_rows(through, pid):
    """Streams on which nothing happens: each holds two connections and a task."""
    before = resident(pid)
    async with contextlib.AsyncExitStack() as stack:
        for start in range(0, STREAMS, 50):
            await asyncio.gather(*(open_stream(stack, through, start + each) for each in range(50)))
        held = resident(pid)
        assert connections(pid) >= 2 * STREAMS, "the streams are not held"
        idle = cpu_seconds(pid)
        await asyncio.sleep(2)
        idle = (cpu_seconds(pid) - idle) / 2
    tls = "two TLS and HTTP connections' buffers"
    return [
        row(f"{STREAMS} streams held, memory each", (held - before) / STREAMS / 1024, "KB", "<= 50", tls),
        row(f"{STREAMS} streams held, one core's share", idle * 100, "%", None, "a look at each four times a second"),
    ]


async def open_stream(stack, client, number):
    """Open one, and wait for its first event."""
    request = client.build_request(
        "POST", "/agents/analyst/rpc", json=body("SendStreamingMessage", f"s-{number}"), headers=VERSION
    )
    response = await client.send(request, stream=True)
    stack.push_async_callback(response.aclose)
    chunks = response.aiter_bytes()
    stack.push_async_callback(chunks.aclose)  # kept: an iterator that is dropped closes its stream
    assert b"TASK_STATE_WORKING" in await anext(chunks)


async def calls(client, ids, count):
    """Ask one after another."""
    for _ in range(count):
        await call(client, "/agents/analyst/rpc", next(ids))


async def call(client, path, number):
    """Ask once."""
    answer = await client.post(path, json=body("SendMessage", f"m-{number}"), headers=VERSION)
    assert "result" in answer.json(), answer.text


def body(method, message_id):
    """One message."""
    message = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


@contextlib.asynccontextmanager
async def gateway_process(endpoint, domain, agent):
    """Run the gateway, and yield its address and process id."""
    order = {"socket": str(endpoint), "agent": str(domain.agent_id("analyst")), "url": agent}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.a2a_gateway_server",
        json.dumps(order),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        assert url, "the gateway did not start"
        yield url, process.pid
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def least_agent():
    """An agent that answers with one and the same task, by its own id for each message."""
    url = "http://127.0.0.1:{}"
    card = {
        "name": "analyst",
        "description": "Answers",
        "version": "1",
        "capabilities": {"streaming": True},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "answer", "name": "answer", "description": "Answers", "tags": ["bench"]}],
    }

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        content = (await receive())["body"]
        if scope["method"] == "GET":
            address = url.format(scope["server"][1])
            interface = {"url": f"{address}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            await answer(send, json.dumps({**card, "supportedInterfaces": [interface]}).encode())
            return
        asked = json.loads(content)
        message = asked["params"]["message"]
        is_stream = asked["method"] == "SendStreamingMessage"
        state = "TASK_STATE_WORKING" if is_stream else "TASK_STATE_COMPLETED"
        task = {"id": f"t-{message['messageId']}", "contextId": f"c-{message['messageId']}", "status": {"state": state}}
        result = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"task": task}}).encode()
        if not is_stream:
            await answer(send, result)
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: " + result + b"\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def answer(send, content):
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            yield

    server = Quiet(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield url.format(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


def snapshot(domain):
    """Planner may have analyst answer."""
    rules = "rules: [{who: planner, may_call: analyst, actions: [answer]}]"
    return EnforcementSnapshot(
        version=1,
        issued_at=domain.clock(),
        lease=timedelta(hours=1),
        bundle=PolicyBundle.from_files({"rules.yaml": rules}, trust_domain=domain.trust_domain.name),
        agents=tuple(AgentFacts(spiffe_id=domain.agent_id(name), name=name) for name in NAMES),
    )


def cpu_seconds(pid):
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def connections(pid):
    """How many sockets a process has open."""
    links = (each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir())
    return sum(str(link).startswith("socket:") for link in links)


def resident(pid):
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row(name, value, unit, goal=None, bound_by=""):
    """One row of the table."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "bound_by": bound_by}
