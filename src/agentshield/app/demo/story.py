"""The demo's story: what must happen, what did, and the evidence. Each step is checked; none is only told."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from agentshield.app.demo.stage import Actor, Stage

TRUST_DOMAIN: Final = "example.test"
SVID_TTL: Final = "8s"  # replaced after four: the rotation comes while we look
_ROTATION_SECONDS: Final = 15
_READ, _ORDER = "read-portfolio", "place-order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that the demo shows. `row` is its line in the table, in columns."""

    name: str
    expected: str
    got: str
    evidence: dict[str, Any] = field(default_factory=dict)
    row: tuple[str, str, str, str]

    @property
    def is_as_expected(self) -> bool:
        """Whether it happened."""
        return self.expected == self.got


class Story:
    """Tells the steps in their order on a `Stage`; a step that needs an earlier one's process finds it here."""

    def __init__(self, stage: Stage, *, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._tell = tell
        self._port = 0
        self._planner: Actor

    def steps(self) -> Iterator[Step]:
        """Yield each step when it has happened."""
        yield self._trust_domain()
        self._agents()
        yield self._allowed()
        yield self._denied()
        yield self._rogue()
        yield self._rotated()
        yield self._suspended()
        yield self._proved()

    def _trust_domain(self) -> Step:
        began = time.monotonic()
        facts = self._stage.start_up(TRUST_DOMAIN)
        seconds = time.monotonic() - began
        status = json.loads(self._stage.run("status", "-o", "json"))
        is_up = all(component["state"] == "ready" for component in status["components"])
        evidence = {"ready_in_seconds": round(seconds, 2), "components": [c["name"] for c in status["components"]]}
        return Step(
            name="trust domain is up",
            expected="up",
            got="up" if is_up else "not ready",
            evidence=evidence | {"workload_api": facts["workload_api"]},
            row=("trust domain", TRUST_DOMAIN, "up", "authority, node agent, audit log"),
        )

    def _agents(self) -> None:
        for name in ("planner", "analyst"):
            self._stage.run("agent", "create", name, "--ttl", SVID_TTL)
        self._stage.run("policy", "allow", "planner", "analyst", _READ)
        self._port = self._stage.start_analyst()
        self._planner = self._stage.start_planner()

    def _allowed(self) -> Step:
        answer = self._call("GET", "/portfolio")
        is_mutual = answer.get("peer", "").endswith("/agents/analyst") and answer.get("tls") == "TLSv1.3"
        event = self._last_decision("allow")
        return Step(
            name="allowed call",
            expected="allow",
            got="allow" if answer.get("status") == 200 and is_mutual and event else "not allowed",
            evidence={**answer, "rule": event.get("reason"), "event": event.get("id")},
            row=("planner → analyst", _READ, "allow", f"rule {event.get('reason')}, {answer.get('tls')}"),
        )

    def _denied(self) -> Step:
        answer = self._call("POST", "/orders")
        decision = self._decision_behind(answer)
        remedy = decision.get("now", {}).get("remedy")
        reason = ", ".join(decision.get("reasons", ()))
        return Step(
            name="denied call",
            expected="deny",
            got="deny" if answer.get("status") == 403 and reason and remedy else "not denied",
            evidence={**answer, "reason": reason, "allow_with": remedy},
            row=("planner → analyst", _ORDER, "deny", f"{reason}; {remedy} would allow it"),
        )

    def _rogue(self) -> Step:
        stolen = f"spiffe://{TRUST_DOMAIN}/agents/planner"
        told = self._stage.send_rogue(self._port, stolen)
        refusal = self._wait_for_event("peer.refused")
        is_refused = not told["answered"] and bool(refusal)
        return Step(
            name="rogue with a certificate of another CA",
            expected="refused in the handshake",
            got="refused in the handshake" if is_refused else "answered",
            evidence={**told, "refused_because": refusal.get("reason"), "event": refusal.get("id")},
            row=("rogue   → analyst", _READ, "refused", f"in the handshake: {refusal.get('reason')}"),
        )

    def _rotated(self) -> Step:
        self._tell("calling while a certificate is rotated")
        told = self._planner.ask({"do": "rotate", "url": self._url("/portfolio"), "seconds": _ROTATION_SECONDS})
        is_rotated = told["before"] != told["after"]
        got = f"{'rotated' if is_rotated else 'not rotated'}, {told['failed']} failed"
        return Step(
            name="certificate rotated while calls run",
            expected="rotated, 0 failed",
            got=got,
            evidence=told,
            row=("planner → analyst", _READ, "allow", f"{told['calls']} calls while its certificate was {got}"),
        )

    def _suspended(self) -> Step:
        """Show both halves: the agent loses its identity, and a copy it kept of its valid certificate is refused."""
        hoarded = self._planner.ask({"do": "hoard"})
        said = json.loads(self._stage.run("agent", "suspend", "planner", "-o", "json"))
        answer = self._call("GET", "/portfolio", kept="hoarded")
        decision = self._decision_behind(answer)
        reason = ", ".join(decision.get("reasons", ()))
        own = self._call("GET", "/portfolio")
        is_refused = answer.get("status") == 403 and "error" in own
        return Step(
            name="suspended agent",
            expected="refused at its next request",
            got="refused at its next request" if is_refused else "answered",
            evidence={
                **answer,
                "reason": reason,
                "enforcement_points_confirmed": f"{said['confirmed']} of {said['enforcement_points']}",
                "with_certificate_valid_until": hoarded["expires_at"],
                "own_identity": own.get("error", "still there"),
            },
            row=("planner → analyst", _READ, "deny", f"{reason}, at its next request, with a certificate still valid"),
        )

    def _proved(self) -> Step:
        event = self._last_decision("allow")
        report = json.loads(self._stage.run("audit", "verify", "-o", "json"))
        proof = self._stage.directory / "proof.json"
        self._stage.run("audit", "prove", event["id"], "--out", str(proof))
        verified, said = self._verify_as_a_stranger(proof)
        is_good = bool(report["verified"]) and verified
        return Step(
            name="audit log verified, a call proved",
            expected="verified",
            got="verified" if is_good else "not verified",
            evidence={"size": report["size"], "root": report["root"], "event": event["id"], "verifier": said},
            row=(
                "audit log",
                f"size {report['size']}",
                "verified",
                f"root {report['root'][:8]}…, event {event['index']} proved",
            ),
        )

    def _verify_as_a_stranger(self, proof: Path) -> tuple[bool, str]:
        """Check the proof as somebody would who has Python, the verifier's file and the log's key, and nothing else."""
        verifier = str(files("agentshield.audit").joinpath("verify_offline.py"))
        command = [
            sys.executable,
            "-I",
            "-S",
            verifier,
            "--key",
            str(self._stage.state.audit / "checkpoint.pub"),
            str(proof),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        return done.returncode == 0, (done.stdout or done.stderr).strip()

    def _call(self, method: str, path: str, *, kept: str = "") -> dict[str, Any]:
        return self._planner.ask({"do": "call", "method": method, "url": self._url(path), "with": kept})

    def _url(self, path: str) -> str:
        return f"https://localhost:{self._port}{path}"

    def _decision_behind(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Look up in the audit log what the caller was told only the id of."""
        decision_id = (answer.get("body") or {}).get("decision_id")
        return self._stage.admin.get(f"/v1/audit/decisions/{decision_id}") if decision_id else {}

    def _last_decision(self, decision: str) -> dict[str, Any]:
        events = self._stage.admin.items("/v1/audit/events", event="call.decided", decision=decision, limit=1)
        return events[-1] if events else {}

    def _wait_for_event(self, name: str) -> dict[str, Any]:
        """Wait for an event that is reported in the background."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if events := self._stage.admin.items("/v1/audit/events", event=name, limit=1):
                return events[-1]
            time.sleep(0.05)
        return {}
