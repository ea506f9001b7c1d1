"""Why a process gets, or does not get, an identity: the node agent's report, as a person reads it."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from agentshield.app.cli.shapes import EXPLANATION
from agentshield.app.exit_codes import ExitCode
from agentshield.app.identity import endpoint_of
from agentshield.app.invocation import Invocation
from agentshield.sdk.wire import methods, node_pb2
from agentshield.sdk.workload_api import FAULTS, WorkloadApiClient, explain_fault


def explain_process(invocation: Invocation, pid: int | None) -> None:
    """Ask the node agent about a process, and print what it found; exit code 3 when there is no identity."""
    report = asyncio.run(_ask(invocation, pid or 0))
    if invocation.output.chosen in ("table", "wide"):
        print("\n".join(_lines(report)))
    else:
        invocation.output.show(EXPLANATION, report)
    if not any(entry["problem"] is None for entry in report["matching"]):
        raise SystemExit(ExitCode.ANSWER_IS_NO)


async def _ask(invocation: Invocation, pid: int) -> dict[str, Any]:
    seconds = invocation.timeout.total_seconds()
    async with WorkloadApiClient(endpoint_of(invocation), deadline=seconds) as api:
        try:
            reply = await methods.EXPLAIN_PROCESS.call(api.channel, node_pb2.ExplainRequest(pid=pid), timeout=seconds)
        except FAULTS as error:
            raise explain_fault(error, api.endpoint) from error
    report: dict[str, Any] = json.loads(reply.report_json)
    return report


def _lines(report: Mapping[str, Any]) -> list[str]:
    lines = [f"process    {report['pid']}, user {report['uid']}, group {report['gid']}: {report['proof']}"]
    for attestor in report["attestors"]:
        found = ", ".join(attestor["selectors"]) or "nothing"
        lines.append(f"attested   {attestor['name']}: {attestor['problem'] or found}")
    for entry in report["matching"]:
        state = entry["problem"] or f"SVID until {entry['svid_expires_at'] or 'it is asked for'}"
        lines.append(f"identity   {entry['spiffe_id']} ({state})")
    if not report["matching"]:
        lines.append("identity   none: no registration entry's selectors are all among those above")
        lines += [f"nearest    {entry['spiffe_id']} lacks {', '.join(entry['missing'])}" for entry in report["nearest"]]
    cache = report["cache"]
    age = "never" if cache["age_seconds"] is None else f"{cache['age_seconds']:.0f}s ago"
    lines.append(f"node agent {cache['entries']} entries, last change {age}")
    return lines
