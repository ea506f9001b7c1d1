"""One call over mTLS, seen from the caller's side: who answered, what was decided, and why."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import CALL
from agentshield.app.failure import failed
from agentshield.app.identity import shield_as
from agentshield.app.invocation import Invocation
from agentshield.errors import AgentShieldError, AuthorizationError, InvalidInputError, UnavailableError
from agentshield.policy.engine import DEFAULT_DENY, POLICY_ERROR
from agentshield.sdk.authorizers import Expected
from agentshield.sdk.http import refusal_in
from agentshield.sdk.pdp import (
    AGENT_LOCKED,
    AGENT_SUSPENDED,
    AGENT_UNKNOWN,
    IDENTITY_EXPIRED,
    NO_POLICY,
    STALE_LEASE,
)
from agentshield.sdk.peer import peer_of
from agentshield.sdk.shield import Shield

MAX_SHOWN: Final = 1 << 20
_REFUSED: Final = (401, 403)
_SECRET_FIELDS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "dpop", "x-api-key"})
_IN_WORDS: Final = {
    DEFAULT_DENY: "no rule allows it",
    POLICY_ERROR: "a policy could not be evaluated, so nothing is allowed",
    NO_POLICY: "the callee has no policy yet",
    STALE_LEASE: "the callee has not heard from its node agent for too long",
    AGENT_UNKNOWN: "caller or callee is not a registered agent",
    AGENT_SUSPENDED: "caller or callee is suspended",
    AGENT_LOCKED: "caller or callee is locked",
    IDENTITY_EXPIRED: "the caller's certificate has expired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What was asked for on the command line."""

    url: str
    method: str = "GET"
    agent: str | None = None
    body: bytes | None = None
    expected: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


def headers_of(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read `-H`. What is a secret does not belong on a command line: everybody on the machine can read it there.

    Raises:
        InvalidInputError: not NAME:VALUE, or a field that holds a credential.
    """
    pairs = tuple((name.strip().lower(), value.strip()) for name, _, value in (each.partition(":") for each in given))
    for name, value in pairs:
        if not name or not value:
            raise InvalidInputError("a header field is not NAME:VALUE", hint="-H 'A2A-Version: 1.0'")
        if name in _SECRET_FIELDS:
            raise InvalidInputError(
                f"{name} is a credential, and would be seen by everybody on this machine",
                hint="identities are proved by TLS",
            )
    return pairs


def body_of(data: str | None) -> bytes | None:
    """Read `-d`: JSON as it stands, `@FILE`, or `-` for stdin.

    Raises:
        InvalidInputError: it is not JSON.
    """
    if data is None:
        return None
    if data == "-":
        content = sys.stdin.buffer.read()
    else:
        content = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    try:
        json.loads(content)
    except ValueError as error:
        raise InvalidInputError("the data is not JSON", hint="""-d '{"skill": "hello"}', @FILE, or -""") from error
    return content


async def make_call(invocation: Invocation, request: CallRequest) -> dict[str, Any]:
    """Call, and find out what was decided.

    Raises:
        CommandError: no identity to call with, or no connection to one we expect.
    """
    if urlsplit(request.url).scheme != "https":
        raise InvalidInputError(f"{request.url[:200]!a} is not an https URL", hint="identities are proved by TLS")
    async with shield_as(invocation, request.agent) as me:
        expect: Expected = request.expected or me.spiffe_id.trust_domain
        headers = {} if request.body is None else {"content-type": "application/json"}
        headers.update(request.headers)
        async with me.client(expect=expect, timeout=invocation.timeout.total_seconds()) as http:
            try:
                async with http.stream(request.method, request.url, content=request.body, headers=headers) as response:
                    return await _result(invocation, me, response)
            except httpx2.TransportError as error:
                raise _not_connected(error, request) from error


def report(invocation: Invocation, result: dict[str, Any]) -> None:
    """Show identities and decision as talk and the answer as data; or all of it as one object."""
    output = invocation.output
    if output.chosen not in ("table", "wide"):
        output.show(CALL, result)
        return
    output.say(f"caller    {result['caller']}")
    output.say(f"callee    {result['callee']}")
    reasons = ", ".join(_explained(reason) for reason in result["reasons"])
    output.say(f"decision  {result['decision']}" + (f" ({reasons})" if reasons else ""))
    if result["decision_id"]:
        output.say(f"record    agentshield audit show {result['decision_id']}")
    if result["remedy"]:
        output.say(f"allow it  {result['remedy']}")
    if result["body"]:
        print(result["body"].rstrip("\n"))


def _explained(reason: str) -> str:
    """Put a reason of ours in words; a policy's id stands for itself."""
    words = _IN_WORDS.get(reason)
    return f"{reason}: {words}" if words else reason


async def _result(invocation: Invocation, me: Shield, response: httpx2.Response) -> dict[str, Any]:
    peer = peer_of(response.extensions["network_stream"])
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part[: MAX_SHOWN - len(content)]
    result: dict[str, Any] = {
        "url": str(response.url),
        "caller": str(me.spiffe_id),
        "callee": None if peer is None else str(peer.spiffe_id),
        "status": response.status_code,
        "decision": _decision(response.status_code),
        "decision_id": None,
        "reasons": [],
        "remedy": None,
        "body": content.decode("utf-8", "replace"),
    }
    return result | _decided(invocation, result) if result["decision"] == "deny" else result


def _decision(status: int) -> str:
    """Read the decision off the status; another error, such as 404, came before or after any decision."""
    if status in _REFUSED:
        return "deny"
    return "allow" if status < 400 else "none"


def _decided(invocation: Invocation, result: dict[str, Any]) -> dict[str, Any]:
    """Look the decision up in the audit log: the peer told us its id and nothing more, as it must."""
    try:
        decision_id = json.loads(result["body"]).get("decision_id")
    except (ValueError, AttributeError):
        return {}
    if not isinstance(decision_id, str):
        return {}
    try:
        record = invocation.admin.get(f"/v1/audit/decisions/{segment(decision_id)}")
    except AgentShieldError as error:
        return {"decision_id": decision_id, "reasons": [f"not looked up: {error}"]}
    now = record["now"]
    return {"decision_id": decision_id, "reasons": record["reasons"], "remedy": now.get("remedy")}


def _not_connected(error: httpx2.TransportError, request: CallRequest) -> AgentShieldError:
    """Say who was at the other end, if it was the wrong one; else that nobody was."""
    refusal = refusal_in(error)
    if refusal is not None:
        return _wrong_peer(refusal)
    where = urlsplit(request.url).netloc
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UnavailableError(
            f"nobody answers at {where}: {error}", hint="is the agent running? agentshield run --as …"
        )
    return failed(
        f"{where} ended the connection: {str(error) or type(error).__name__}",
        code="connection_refused_by_peer",
        family="not_authorized",
        why="with TLS 1.3 a server that does not accept our certificate says so by closing",
        next_step=f"agentshield ping {where}" + (f" --as {request.agent}" if request.agent else ""),
    )


def _wrong_peer(refusal: AgentShieldError) -> AgentShieldError:
    """Make the wrong peer an answer: whoever is there, it is not who we talk to."""
    if isinstance(refusal, AuthorizationError):
        return refusal
    return failed(str(refusal), code=refusal.code, family="not_authorized", next_step=refusal.hint)
