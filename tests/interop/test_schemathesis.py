"""schemathesis over the published OpenAPI documents: no answer that they do not promise, to whatever it makes up."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
# A form that is well made is still refused for what it says, by 400 (RFC 6749, 5.2); and what is not known in it is
# ignored (3.2). So these two checks look for answers that OAuth does not give.
NOT_OAUTH = "positive_data_acceptance,negative_data_rejection"


async def findings(document: str, *options: str) -> tuple[int | None, str]:
    """Run it as its users do; a finding is an exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(REFERENCE / document)),
        *("--max-examples", "25", "--seed", "1", "--no-shrink", "--warnings", "off", "--request-timeout", "40"),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1"},
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize("has_svid", [True, False], ids=["agent", "stranger"])
async def test_the_token_service_answers_as_it_says(token_service, tmp_path, has_svid):
    """Who has a certificate gets further than who has none; neither may find an answer nobody told of, or a 500."""
    options = ["--url", token_service.issuer, "--tls-verify", str(token_service.ca), "--exclude-checks", NOT_OAUTH]
    if has_svid:
        svid = token_service.domain.issue_svid("/agents/planner")
        certificate = tmp_path / "svid.pem"
        certificate.write_bytes(svid.chain_pem() + svid.key_pem())
        options += ["--request-cert", str(certificate)]
    code, out = await findings("openapi.json", *options)
    assert code == 0, out[-6000:]
