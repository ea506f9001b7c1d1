"""A stock `uvicorn app:app` that only its environment tells who it is, as `agentshield run` starts it."""

import asyncio
import os
import signal
import sys

import pytest

from agentshield.testing import FakeTrustDomain, ShieldPair

APP = """
from fastapi import Depends, FastAPI
from agentshield.fastapi import Caller, caller, protect

app = protect(FastAPI())

@app.get("/hello")
async def hello(who: Caller = Depends(caller("hello"))):
    return {"hello": who.spiffe_id}
"""


async def line_with(stream, text):
    async with asyncio.timeout(20):
        while line := await stream.readline():
            if text in line:
                return line.decode()
    raise AssertionError(f"the server ended without saying {text!r}")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_five_line_server(tmp_path, loop):
    """One line says who listens; a call is refused, then allowed, then cut off; the server ends when told to."""
    (tmp_path / "analyst.py").write_text(APP)
    async with ShieldPair(FakeTrustDomain()) as pair:
        environment = {
            **os.environ,
            "SPIFFE_ENDPOINT_SOCKET": str(pair.analyst_api.endpoint),
            "UVICORN_HTTP": "agentshield.uvicorn:ShieldProtocol",
        }
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "analyst:app", "--app-dir", str(tmp_path)),
            *("--port", "0", "--loop", loop),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        said = await line_with(server.stderr, b"listening")
        assert said == "analyst listening, mTLS, callers allowed: none yet\n"
        port = (await line_with(server.stderr, b"running on")).split(" (")[0].rsplit(":", 1)[1]
        url = f"https://127.0.0.1:{port}/hello"
        async with pair.client() as http:
            assert (await http.get(url)).status_code == 403
            await pair.allow("planner", "analyst", "hello")
            assert (await http.get(url)).json() == {"hello": "spiffe://example.test/agents/planner"}
            await pair.suspend("planner")
            assert (await http.get(url)).status_code == 403
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await server.wait()
