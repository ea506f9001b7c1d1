"""`agentshield demo`: every step happens, and is proved by evidence from the processes that did it."""

import json

import pytest

NAMES = [
    "trust domain is up",
    "allowed call",
    "denied call",
    "rogue with a certificate of another CA",
    "certificate rotated while calls run",
    "suspended agent",
    "audit log verified, a call proved",
]


@pytest.mark.slow
def test_demo_json(desk):
    """The first thing a stranger runs must show what it says, and say so when it does not."""
    shown = desk.type("agentshield demo --json", timeout=90)
    assert shown.code == 0, shown.err
    demo = json.loads(shown.out)
    assert demo["ok"] is True
    assert [step["name"] for step in demo["steps"]] == NAMES
    assert all(step["expected"] == step["got"] for step in demo["steps"])
    evidence = {step["name"]: step["evidence"] for step in demo["steps"]}
    assert evidence["allowed call"]["tls"] == "TLSv1.3"
    assert evidence["denied call"]["reason"] == "default-deny"
    assert evidence["denied call"]["allow_with"] == "agentshield policy allow planner analyst place-order"
    assert evidence["rogue with a certificate of another CA"]["refused_because"] == "untrusted_svid"
    rotation = evidence["certificate rotated while calls run"]
    assert rotation["failed"] == 0
    assert rotation["calls"] > 50
    assert rotation["before"] != rotation["after"]
    assert evidence["suspended agent"]["reason"] == "agent-suspended"
    assert "verified" in evidence["audit log verified, a call proved"]["verifier"]


@pytest.mark.slow
def test_demo_table(desk):
    """The table is what the README shows; a demo that leaves files or processes behind is a bad guest."""
    before = set(desk.type("ls -d /tmp/agentshield-demo-* 2>/dev/null").out.split())
    shown = desk.type("agentshield demo", timeout=90)
    assert shown.code == 0, shown.err
    assert len(shown.out.splitlines()) == len(NAMES)
    assert "planner → analyst" in shown.out
    assert set(desk.type("ls -d /tmp/agentshield-demo-* 2>/dev/null").out.split()) <= before
