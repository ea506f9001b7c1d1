"""Python values in the form Cedar reads: none can pass for another."""

import json
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address
from types import MappingProxyType

import pytest

from agentshield.policy.engine import Entity, EntityUid
from agentshield.policy.values import cedar_json, encode_record


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (7, 7),
        ("7", "7"),
        (Name("x"), "x"),
        (frozenset({"b"}), ["b"]),
        ((1, (2,)), [1, [2]]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (EntityUid("Agent", 'a"b'), {"__entity": {"type": "AgentShield::Agent", "id": 'a"b'}}),
        (ip_address("::1"), "::1"),
        (
            datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=1))),
            "2026-01-02T02:04:05.678Z",
        ),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000Z"),
    ],
    ids=repr,
)
def test_values_keep_their_meaning(value, expected):
    """What the decision point knows is what the policy reads."""
    assert cedar_json(value) == expected
    assert json.loads(encode_record({"x": value})) == {"x": expected}


@pytest.mark.parametrize(
    "value",
    [None, 0.5, b"x", object, datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), [None], {"a": {"b": 1.0}}],
    ids=repr,
)
def test_values_cedar_does_not_have_are_refused(value):
    """A guess at what was meant is a guess at what is allowed."""
    with pytest.raises(TypeError):
        cedar_json(value)


@pytest.mark.parametrize("name", ["__entity", "__extn", "__expr"])
def test_a_record_cannot_pass_for_an_entity(name):
    """Else a caller's record would become a reference to an agent or an address of its choice."""
    with pytest.raises(ValueError, match="reserved"):
        cedar_json({"a": {name: {"type": "AgentShield::Agent", "id": "spiffe://example.test/admin"}}})


def test_deep_nesting_is_refused():
    """Cedar's reader overruns its stack: one request would end the enforcement point."""
    value = 1
    for _ in range(17):
        value = [value]
    with pytest.raises(TypeError, match="nested more than 16"):
        encode_record({"a": value})


def test_an_entity_is_its_facts():
    """The engine's memory is keyed by facts: equal facts are one key, others another."""
    uid = EntityUid("Agent", "a")
    one = Entity(uid, {"x": 1, "y": 2}, (EntityUid("G", "2"), EntityUid("G", "1")))
    same = Entity(uid, {"y": 2, "x": 1}, (EntityUid("G", "1"), EntityUid("G", "2")))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Entity(uid, {"x": True, "y": 2}, one.parents)
    assert one != Entity(uid, {"x": 1, "y": 2}, ())
    assert one != "a"


def test_an_entity_does_not_follow_later_changes():
    """Facts are those of the moment the value was made."""
    facts = {"status": "active"}
    entity = Entity(EntityUid("Agent", "a"), facts)
    before = entity.encoded
    facts["status"] = "suspended"
    assert entity.encoded == before


def test_a_uid_reads_as_cedar_text():
    """People copy it into policies."""
    assert str(EntityUid("Agent", "spiffe://x/a")) == 'AgentShield::Agent::"spiffe://x/a"'
