"""Reading a card: one reading only, and what 8.4.1 of A2A counts as said."""

import copy
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "vectors"))  # test directories are no packages

from agent_cards import BINDING, ORIGIN, changed, whole_card, without

from agentshield.identity.agent_card.binding import IDENTITY_EXTENSION, IdentityBinding
from agentshield.identity.agent_card.canonical import canonical_bytes, left_out, sdk_form
from agentshield.identity.agent_card.card import AgentCard, SchemeKind, origin_of
from agentshield.identity.agent_card.errors import InvalidCardError


def parsed(members):
    return AgentCard.parse(json.dumps(members).encode())


def refused(data):
    with pytest.raises(InvalidCardError) as caught:
        AgentCard.parse(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(caught.value)


def test_whole_card_is_read():
    card = parsed(whole_card())
    assert (card.name, card.version, card.has_streaming, card.has_push, card.has_extended_card) == (
        "Analyst",
        "1.4.0",
        True,
        False,
        True,
    )
    assert {each.origin for each in card.interfaces} == {ORIGIN}
    assert card.schemes["mtls"].kind is SchemeKind.MUTUAL_TLS
    assert dict(card.requirements[0].schemes) == {"mtls": {"svid"}, "tokens": {"task.write"}}
    assert card.skills[0].requirements[0].schemes == {"tokens": {"task.read"}}
    assert IdentityBinding.of(card) == BINDING
    assert left_out(card.members) == ()
    assert card.unsigned == ()


def test_example_of_the_specification_comes_out_as_printed():
    """A2A 8.4.1, field presence: required stays, optional stays where written, the rest goes where it is empty."""
    written = {
        "name": "Example Agent",
        "description": "",
        "capabilities": {"streaming": False, "pushNotifications": False, "extensions": []},
        "skills": [],
    }
    strict = AgentCard.of(written).members
    kept = {name: value for name, value in strict.items() if name in written}
    assert canonical_bytes(kept) == (
        b'{"capabilities":{"pushNotifications":false,"streaming":false},"description":"",'
        b'"name":"Example Agent","skills":[]}'
    )


def test_null_is_not_written():
    """ProtoJSON: readers take null for absent."""
    card = whole_card()
    assert AgentCard.of(card | {"iconUrl": None, "provider": card["provider"]}).members == AgentCard.of(card).members


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), 7),
        (("capabilities", "streaming"), "yes"),
        (("skills",), {}),
        (("securitySchemes",), []),
        (("securityRequirements", 0), "mtls"),
        (("securityRequirements", 0, "schemes", "mtls", "list"), "svid"),
        (("capabilities", "streaming"), 1),
        (("supportedInterfaces", 0, "url"), ["https://a.example.test"]),
    ],
)
def test_wrong_type_is_named_by_its_place(path, value):
    assert "/" + "/".join(map(str, path)) in refused(changed(whole_card(), path, value))


def test_member_in_the_other_spelling_of_protojson_is_refused():
    """An SDK's reader would take it, ours would not: two cards in one."""
    card = whole_card()
    assert "another spelling" in refused(card | {"security_requirements": [{"schemes": {}}]})
    card["skills"][0]["security_requirements"] = []
    assert "another spelling" in refused(card)


def test_duplicate_member_is_refused():
    text = json.dumps(whole_card())
    assert "twice" in refused(b'{"securityRequirements":[],' + text[1:].encode())


def test_scheme_of_two_kinds_or_none_is_refused():
    card = whole_card()
    card["securitySchemes"]["mtls"]["httpAuthSecurityScheme"] = {"scheme": "Bearer"}
    assert "expected one" in refused(card)
    assert "of no kind" in refused(changed(whole_card(), ("securitySchemes", "mtls"), {}))


def test_two_skills_of_one_id_are_refused():
    """The stricter requirement would be the other one's."""
    card = whole_card()
    card["skills"].append(copy.deepcopy(card["skills"][0]))
    assert "two skills" in refused(card)


def test_card_without_end_is_refused():
    assert "at most" in refused(whole_card() | {"description": "x" * 300_000})
    deep = {}
    for _ in range(60):
        deep = {"a": deep}
    assert "nested too deep" in refused(changed(whole_card(), ("capabilities", "extensions", 0, "params"), deep))
    signatures = [{"protected": "e30", "signature": "AA"}] * 9
    assert "signatures" in refused(whole_card() | {"signatures": signatures})


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"name": NaN}'])
def test_what_is_no_json_object_is_refused(data):
    refused(data)


def test_members_nobody_knows_are_told_and_not_used():
    """The 0.3 members that servers merge in are legal, and under no signature."""
    card = parsed(whole_card() | {"url": "https://evil.example.test", "agentId": "a"})
    assert card.unsigned == ("/url", "/agentId")
    assert card.members == AgentCard.of(whole_card()).members


def test_sdk_form_leaves_out_what_is_empty_at_any_depth():
    card = whole_card()
    card["securitySchemes"]["plain"] = {"mtlsSecurityScheme": {}}
    card["securityRequirements"].append({"schemes": {"plain": {}}})
    strict = AgentCard.of(card).members
    assert left_out(strict) == ("/securitySchemes/plain", "/securityRequirements/1")
    assert sdk_form(strict) == AgentCard.of(whole_card()).members


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example.test/x", "https://a.example.test"),
        ("https://a.example.test:443/", "https://a.example.test"),
        ("https://a.example.test:8443", "https://a.example.test:8443"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("http://a.example.test", None),
        ("https://u@a.example.test", None),
        ("https://", None),
        ("file:///etc/passwd", None),
        ("https://a.example.test:99999", None),
        ("https://\u0430.example.test", None),
    ],
)
def test_origin(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "change",
    [
        {"spiffeId": "spiffe://example.test"},
        {"spiffeId": "https://example.test"},
        {"serial": 0},
        {"serial": 1.5},
        {"serial": True},
        {"serial": 2**53},
        {"issuedAt": "2026-11-24"},
        {"expiresAt": "2026-11-24T09:00:00Z"},
        {"proofs": "dpop"},
        {"proofs": ["trust-me"]},
        {"resourceMetadata": "http://example.test"},
        {"resourceMetadata": 7},
        {"more": 1},
    ],
)
def test_identity_extension_is_read_strictly(change):
    extension = BINDING.to_extension()
    card = whole_card(is_bound=False)
    card["capabilities"]["extensions"].append(extension | {"params": extension["params"] | change})
    if change.get("spiffeId") == "spiffe://example.test":
        assert IdentityBinding.of(AgentCard.of(card)).spiffe_id.path == ""
        return
    with pytest.raises(InvalidCardError):
        IdentityBinding.of(AgentCard.of(card))


def test_identity_extension_is_there_once_and_survives_a_struct():
    card = whole_card()
    card["capabilities"]["extensions"].append(BINDING.to_extension())
    with pytest.raises(InvalidCardError):
        IdentityBinding.of(AgentCard.of(card))
    as_double = whole_card()
    as_double["capabilities"]["extensions"][1]["params"]["serial"] = 7.0
    assert IdentityBinding.of(AgentCard.of(as_double)).serial == 7
    assert AgentCard.of(without(whole_card(), ("capabilities", "extensions"))).extension(IDENTITY_EXTENSION) is None
