"""Events: OCSF form, bounded, neutral, free of credentials, and only the members they should have."""

import dataclasses
import json
import time
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentshield.audit import events as module
from agentshield.audit.canonical import MAX_SAFE_INTEGER, canonical_event, canonical_json
from agentshield.audit.errors import InvalidEventError
from agentshield.audit.events import (
    AgentChanged,
    ApprovalAnswered,
    ApprovalRequested,
    ApprovalUsed,
    AuditErased,
    AuditEvent,
    AuditLost,
    AuditRead,
    AuthorityRotated,
    AuthorizationStep,
    BlueprintChanged,
    CallDecided,
    Decision,
    EntryChanged,
    EventName,
    FederationChanged,
    JoinTokenChanged,
    NodeAttested,
    NodeChanged,
    NodeRefused,
    OAuthRegistrationChanged,
    PeerAuthenticated,
    PeerRefused,
    PolicyActivated,
    SvidIssued,
    SvidRefused,
    TokenIssued,
    TokenRefused,
    TokenRevoked,
    WorkloadAttested,
    WorkloadRefused,
    parse_event,
)
from agentshield.audit.redaction import fingerprint

AT = datetime(2026, 3, 16, 9, 59, 19, 123456, tzinfo=UTC)
A, B = "spiffe://example.test/agents/planner", "spiffe://example.test/agents/analyst"
NODE = "spiffe://example.test/spire/agent/join_token/1"
ONE_OF_EACH: list[AuditEvent] = [
    CallDecided(at=AT, caller=A, callee=B, action="invoke", decision=Decision.DENY, reasons=("no-rule",)),
    PeerAuthenticated(at=AT, peer=A, service=B, proof="x509-svid", fingerprint=fingerprint(b"certificate")),
    PeerRefused(at=AT, peer=A, service=B, reasons=("untrusted_svid",)),
    WorkloadAttested(at=AT, workload=A, node=NODE, pid=7, uid=1000, selectors=("unix:uid:1000",)),
    WorkloadRefused(at=AT, node=NODE, pid=7, uid=1000, reasons=("no-identity-issued",)),
    SvidIssued(at=AT, spiffe_id=A, svid_type="x509-svid", expires_at=AT + timedelta(hours=1), node=NODE),
    SvidRefused(at=AT, svid_type="jwt-svid", node=NODE, reasons=("not_authorized",)),
    NodeAttested(at=AT, node=NODE, method="join_token"),
    NodeRefused(at=AT, method="join_token", reasons=("join_token_used",)),
    NodeChanged(at=AT, change="banned", node=NODE, by="admin"),
    EntryChanged(at=AT, change="created", entry_id="e1", spiffe_id=A, selectors=("unix:uid:1000",)),
    AgentChanged(at=AT, change="suspended", agent=A, by="admin", reasons=("incident 7",)),
    BlueprintChanged(at=AT, change="disabled", blueprint="analysts", owner="data", sponsor="alice", by="admin"),
    JoinTokenChanged(at=AT, change="created", fingerprint=fingerprint(b"token"), expires_at=AT),
    FederationChanged(at=AT, change="set", trust_domain="other.test"),
    PolicyActivated(at=AT, bundle_digest=fingerprint(b"bundle"), version=3),
    AuthorityRotated(at=AT, change="prepared", authority_id="ab12", authority_type="x509"),
    TokenIssued(
        at=AT,
        grant="token_exchange",
        agent=A,
        client_id=A,
        token_type="access_token",
        jti="j1",
        expires_at=AT + timedelta(minutes=5),
        subject="alice",
        subject_issuer="https://idp.test",
        audience="https://billing.test",
        scope=("invoices.read",),
        actors=(A, B),
        parent="j0",
    ),
    TokenRefused(at=AT, grant="token_exchange", agent=A, error="invalid_request", rule="TX-02"),
    TokenRevoked(at=AT, by=A, agent=B, jti="j1", derived=2),
    OAuthRegistrationChanged(at=AT, noun="resource", record="https://billing.test", change="updated", by="admin"),
    ApprovalRequested(
        at=AT,
        approval="r1",
        digest="ab" * 32,
        agent=A,
        approver="local-admin/ann",
        resource="api://ledger",
        scope=("pay",),
        reason="invoice 7",
        expires_at=AT + timedelta(minutes=5),
        request_id="q1",
    ),
    *(
        ApprovalAnswered(
            at=AT, approval="r1", digest="ab" * 32, agent=A, verdict=verdict, approver="local-admin/ann", method="cli"
        )
        for verdict in ("granted", "denied")
    ),
    ApprovalUsed(at=AT, approval="r1", digest="ab" * 32, agent=A, approver="local-admin/ann", request_id="q2"),
    *(
        AuthorizationStep(
            at=AT,
            step=step,
            authorization="r1",
            agent=A,
            client_id="planner-app",
            subject="ann",
            subject_issuer="https://idp.test",
            resource="https://billing.test",
            scope=("pay",),
            rule="RFC 9700 4.14" if step in ("failed", "replayed", "revoked") else "",
        )
        for step in (
            "requested",
            "consented",
            "denied",
            "failed",
            "code_issued",
            "redeemed",
            "refreshed",
            "replayed",
            "revoked",
        )
    ),
    AuditRead(at=AT, by="admin", query="agent=planner"),
    AuditErased(at=AT, by="admin", erased_id="e", erased_index=3),
    AuditLost(at=AT, count=12),
]


def by_name(event: AuditEvent) -> str:
    return event.name.value


def test_there_is_an_example_of_every_event():
    """The tests below speak for each event only if none is left out."""
    kinds = {type(event) for event in ONE_OF_EACH}
    assert kinds == set(module._KINDS)
    assert {name for kind in kinds for name in kind.names} == set(EventName)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=by_name)
def test_an_event_is_ocsf(event: AuditEvent):
    """A SIEM that reads OCSF must find class, activity, outcome, time and product where OCSF says they are."""
    ocsf = event.to_ocsf()
    assert (ocsf["class_uid"], ocsf["category_uid"]) in {(3002, 3), (3004, 3), (6003, 6)}
    assert ocsf["type_uid"] == ocsf["class_uid"] * 100 + ocsf["activity_id"]
    assert ocsf["time"] == 1773655159123
    assert ocsf["metadata"]["version"] == "1.8.0"
    assert ocsf["metadata"]["product"] == {"name": "AgentShield", "vendor_name": "AgentShield"}
    assert ocsf["metadata"]["uid"] == event.event_id
    assert ocsf["metadata"]["event_code"] == event.name
    required = {3002: {"user", "service"}, 3004: {"entity", "actor"}, 6003: {"actor", "api", "src_endpoint"}}
    assert required[ocsf["class_uid"]] <= ocsf.keys()
    if (decision := event.index_terms().decision) is not None:
        expected = (1, 1, 1) if decision is Decision.ALLOW else (2, 2, 2)
        assert (ocsf["action_id"], ocsf["disposition_id"], ocsf["status_id"]) == expected


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=by_name)
def test_an_event_travels_unchanged(event: AuditEvent):
    """What an enforcement point saw is what the log keeps, id and time included."""
    assert parse_event(event.to_json(), allowed=frozenset(EventName)) == event


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=by_name)
def test_the_fast_canonical_form_is_rfc_8785s(event: AuditEvent):
    """A verifier in another language must come to the same bytes, or an honest event looks tampered with."""
    assert canonical_event(event.to_ocsf()) == canonical_json(event.to_ocsf())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=6), inner)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(st.characters(codec="ascii"), max_size=6), _JSON, max_size=5))
def test_on_the_domain_of_events_three_canonical_encoders_agree(members: dict[str, Any]):
    """Ours, RFC 8785 in full, and the one line in the offline verifier: differing on any text breaks proofs."""
    plain = json.dumps(members, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert canonical_event(members) == canonical_json(members) == plain


def test_canonical_json_refuses_what_has_no_canonical_form():
    """An integer that readers round differently has two hashes."""
    for value in (2**53, float("nan"), {"a": "\ud800"}):
        with pytest.raises(InvalidEventError):
            canonical_json(value)


@given(st.text(max_size=400), st.text(max_size=4000))
def test_any_text_becomes_bounded_and_neutral(action: str, caller: str):
    """A peer chooses its own names: no escape sequence, hidden character or megabyte of it may reach a terminal."""
    event = CallDecided(at=AT, caller=caller, callee=B, action=action, decision=Decision.DENY, detail=action)
    for text, limit in ((event.action, 256), (event.caller, 2048), (event.detail, 256)):
        assert len(text) <= 6 * limit
        assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)
    assert canonical_event(event.to_ocsf()) == canonical_json(event.to_ocsf())


def test_a_cut_is_visible():
    """A reader must know that there was more."""
    event = AuditLost(at=AT, count=1, detail="x" * 1000, reasons=tuple(str(n) for n in range(40)))
    assert event.detail.endswith("…(+756)")
    assert event.reasons[-1] == "…(+24)"


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmUifQ.c2lnbmF0dXJlc2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIC4d",
        "Authorization: Bearer abcdefgh.ijklmnop-12345",
        "client_secret=hunter2hunter2",
        '"password": "correct horse"',
        "api-key: 0123456789abcdef",
        "AKIAIOSFODNN7EXAMPLEXX",
        "sk-abcdefghijklmnopqrstuvwx",
        "postgresql://agentshield:s3cr3tpassword@db/agents",
    ],
)
def test_a_canary_credential_never_enters_free_text(secret: str):
    """Errors quote what they were given; the log keeps it for ever, and auditors read it."""
    event = PeerRefused(at=AT, peer=A, detail=f"cannot use {secret}", reasons=(f"got {secret} instead",))
    canary = secret.partition("=")[2] or secret.split()[-1].strip('"')
    text = canonical_event(event.to_ocsf()).decode()
    assert canary not in text
    assert "s3cr3tpassword" not in text
    assert "[removed]" in text


def test_ordinary_free_text_is_left_alone():
    """A scrubber that eats reasons makes the log useless."""
    reason = (
        "token for https://billing.example.test expired at 2026-03-16T09:59:19Z, 41s ago; see planner-analyst-hello"
    )
    assert PeerRefused(at=AT, detail=reason).detail == reason


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b'{"event":"call.decided"', "not JSON"),
        (b'{"event":"no.such"}', "no.such"),
        (b'{"event":7}', "7"),
        (b'{"event":"agent.created","at":"2026-03-16T09:59:19Z","agent":"x","change":"created"}', "may be reported"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z"}', "count"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z","count":"1"}', "count"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19","count":1}', "time zone"),
        (b'{"event":"audit.lost","at":"1969-03-16T09:59:19Z","count":1}', "1970"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z","count":1,"headers":{"a":"b"}}', "headers"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z","count":9007199254740993}', "2\\*\\*53"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z","count":1,"event_id":"x"}', "UUID"),
        (b'{"event":"audit.lost","at":"2026-03-16T09:59:19Z","count":1,"event_id":"' + b"0" * 32 + b'"}', "canonical"),
        (b'{"detail":"' + b"x" * 40_000 + b'"}', "at most"),
        (b"[" * 30_000, "not JSON"),
    ],
)
def test_an_event_from_outside_has_only_the_members_it_should(raw: bytes, says: str):
    """A compromised agent must not put dumps, foreign events or ids of its choosing form into the log."""
    with pytest.raises(InvalidEventError, match=says):
        parse_event(raw)


def test_the_receiver_says_who_reported_it():
    """Who reported an event is the connection's identity, not the message's word."""
    event = parse_event(AuditLost(at=AT, count=1, reported_by="spiffe://example.test/liar").to_json())
    assert dataclasses.replace(event, reported_by=NODE).members()["reported_by"] == NODE


def test_a_change_nobody_knows_is_refused():
    """Every event name is in the one list."""
    with pytest.raises(InvalidEventError, match="exploded"):
        AgentChanged(at=AT, change="exploded", agent=A)


def test_two_events_of_one_moment_have_two_ids():
    """Ids must be unique where times are not."""
    assert AuditLost(at=AT, count=1).event_id != AuditLost(at=AT, count=1).event_id


@pytest.mark.parametrize(
    "text", ["a-" * 50_000, "-eyJ" * 25_000, "://" * 30_000, "bearer " * 15_000, "secret" * 20_000]
)
def test_scrubbing_hostile_text_is_quick(text: str):
    """Whoever provokes an error chooses its text; a regular expression must not stall the event loop over it."""
    started = time.perf_counter()
    for _ in range(5):
        AuditLost(at=AT, count=1, detail=text, reasons=(text,))
    assert time.perf_counter() - started < 0.5
