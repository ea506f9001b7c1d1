"""Files that say what should be registered: read to the letter, and refused with file and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentshield.app.admin.sign_in import MEMBERS
from agentshield.app.manifest import KINDS, InvalidManifestError, read_manifests
from agentshield.app.manifest_values import SIGN_IN
from agentshield.app.registration_plan import (
    Action,
    FixedObjectError,
    body_of,
    missing_documents,
    plan,
)
from agentshield.identity.spiffe_id import TrustDomain

DOMAIN = TrustDomain("example.test")
WHOLE = """
kind: Client
client_id: nightly
agent: planner
methods: [private_key_jwt]
jwks_file: jwks.json
---
apiVersion: agentshield/v1
kind: Resource
audience: api://b
scopes: [read, write]
server: planner
---
kind: Agent
name: planner
blueprint: workers
skills: {summarise: high}
---
kind: Blueprint
name: workers
sponsor: ben
scopes:
  api://b: [read]
"""


def read(text, directory=Path()):
    return read_manifests([("team.yaml", text, directory)])


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    return tmp_path


def after(steps, registered):
    """What the server would show once the steps were done."""
    state = {kind: dict(objects) for kind, objects in registered.items()}
    for step in steps:
        objects = state.setdefault(step.kind.name, {})
        if step.action is Action.DELETE:
            del objects[step.key]
        else:
            objects[step.key] = {**objects.get(step.key, {}), **step.manifest.wanted(DOMAIN)}
    return state


def test_objects_come_in_the_order_in_which_they_rest_on_each_other(directory):
    manifests = read(WHOLE, directory)
    assert [(each.kind.name, each.key) for each in manifests] == [
        ("Blueprint", "workers"),
        ("Agent", "planner"),
        ("Resource", "api://b"),
        ("Client", "nightly"),
    ]
    assert manifests[0].place == "team.yaml:19"


def test_body_is_what_the_admin_api_takes(directory):
    agent, client = read(WHOLE, directory)[1], read(WHOLE, directory)[3]
    assert agent.body() == {"name": "planner", "blueprint": "workers", "skills": ["summarise=high"]}
    assert client.body()["jwks"] == "eyJrZXlzIjogW119"
    assert client.wanted(DOMAIN)["agent"] == "spiffe://example.test/agents/planner"
    assert "keys" not in repr(client)


def test_plan_says_member_by_member_what_differs(directory):
    manifests = read(WHOLE, directory)
    resource = {"audience": "api://b", "scopes": ["read"], "server": None, "lifetime": 300}
    steps = plan(manifests, {"Resource": {"api://b": resource}}, domain=DOMAIN)
    assert [step.action for step in steps] == [Action.CREATE, Action.CREATE, Action.CHANGE, Action.CREATE]
    assert {(each.member, str(each.before), str(each.after)) for each in steps[2].changes} == {
        ("scopes", "['read']", "['read', 'write']"),
        ("server", "None", "spiffe://example.test/agents/planner"),
    }
    assert body_of(steps[2], resource) == {
        "audience": "api://b",
        "scopes": ["read", "write"],
        "server": "planner",
        "lifetime": 300,
    }


NAMES = st.text("abc", min_size=1, max_size=2)
BLUEPRINTS = st.fixed_dictionaries(
    {"kind": st.just("Blueprint"), "name": NAMES, "sponsor": NAMES},
    optional={"risk": NAMES, "scopes": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2)},
)
RESOURCES = st.fixed_dictionaries(
    {"kind": st.just("Resource"), "audience": NAMES, "scopes": st.lists(NAMES, max_size=3, unique=True)},
    optional={"server": NAMES, "lifetime": st.integers(1, 9)},
)
ISSUERS = st.fixed_dictionaries(
    {"kind": st.just("Issuer"), "name": NAMES, "preset": NAMES, "issuer": NAMES},
    optional={"sign_in": st.fixed_dictionaries({"client_id": NAMES}, optional={"scopes": st.lists(NAMES, max_size=2)})},
)
FILES = st.lists(BLUEPRINTS | RESOURCES | ISSUERS, max_size=6, unique_by=lambda each: (each["kind"], str(each)[:60]))


@given(FILES, FILES, st.booleans())
def test_to_apply_twice_is_to_apply_once(first, second, is_pruned):
    """Whatever was there, and whatever the files say: afterwards there is nothing to do."""

    def manifests(files):
        named = {(each["kind"], each.get("name") or each.get("audience")): each for each in files}
        return read("\n---\n".join(json.dumps(each) for each in named.values()))

    prune = frozenset(kind.name for kind in KINDS) if is_pruned else frozenset()
    state = after(plan(manifests(first), {}, domain=DOMAIN), {})
    state = after(plan(manifests(second), state, domain=DOMAIN, prune=prune), state)
    again = plan(manifests(second), state, domain=DOMAIN, prune=prune)
    assert {step.action for step in again} <= {Action.KEEP}


def test_prune_takes_the_kinds_that_were_named_and_what_rests_on_others_first(directory):
    state = {"Blueprint": {"old": {}, "workers": {}}, "Agent": {"stale": {}}, "Issuer": {"idp": {}}}
    steps = plan(read(WHOLE, directory)[:1], state, domain=DOMAIN, prune=frozenset({"Blueprint", "Agent"}))
    assert [(step.action, step.key) for step in steps if step.action is Action.DELETE] == [
        (Action.DELETE, "stale"),
        (Action.DELETE, "old"),
    ]


def test_agent_that_would_have_to_change_stops_everything(directory):
    """Its SVIDs, selectors and history hang on it: it is deleted and made anew, by somebody who means that."""
    registered = {"Agent": {"planner": {"name": "planner", "blueprint": "others", "skills": {"summarise": "high"}}}}
    with pytest.raises(FixedObjectError) as caught:
        plan(read(WHOLE, directory), registered, domain=DOMAIN)
    assert "blueprint" in str(caught.value)
    assert caught.value.hint


def test_change_that_would_lose_a_document_is_seen(directory):
    current = {"client_id": "nightly", "agent": "x", "methods": [], "jwks_sha256": "a", "tls_ca_sha256": "b"}
    (step,) = plan(read(WHOLE, directory)[3:], {"Client": {"nightly": current}}, domain=DOMAIN)
    assert missing_documents(step, current) == ("tls_ca_file",)


def test_what_show_prints_can_be_read_back():
    text = """
apiVersion: agentshield/v1
kind: Blueprint
name: workers
status: enabled
status_reason: null
owner: ann
sponsor: ben
scopes: {}
risk: low
description: ''
created_at: '2026-11-24T10:00:00+00:00'
"""
    (manifest,) = read(text)
    assert "status" not in manifest.body()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("kind: Blueprint\nsponsor: ben\n", "team.yaml:1", "has no name"),
        ("kind: Blueprnt\n", "team.yaml:1", "kind is"),
        ("name: a\n", "team.yaml:1", "kind is"),
        ("apiVersion: agentshield/v2\nkind: Agent\nname: a\n", "team.yaml:1", "apiVersion"),
        ("kind: Agent\nname: a\nblueprnt: b\n", "team.yaml:3", "did you mean 'blueprint'"),
        ("kind: Agent\nname: a\nname: b\n", "team.yaml:3", "stands twice"),
        ("kind: Agent\nname: 7\n", "team.yaml:2", "name must be text"),
        ("kind: Agent\nname: a\ngroups: b\n", "team.yaml:3", "groups must be a list"),
        ("kind: Resource\naudience: a\nlifetime: true\n", "team.yaml:3", "whole number"),
        ("kind: Client\nclient_id: a\nclient_secret: hunter2\n", "team.yaml:3", "looks like a secret"),
        ("kind: Resource\naudience: a\nscopes:\n- 1\n", "team.yaml:3", "scopes, item 1: must be text"),
        ("kind: Blueprint\nname: a\nscopes:\n  b: read\n", "team.yaml:4", "b must be a list of texts"),
        ("kind: Agent\nname: a\nskills:\n  b: 3\n", "team.yaml:4", "b must be text"),
        ("kind: Issuer\nname: a\nsign_in:\n  client_secret: hunter2\n", "team.yaml:4", "unknown key"),
        ("kind: Issuer\nname: a\nsign_in:\n  scopes: openid\n", "team.yaml:4", "list of texts"),
        ("kind: Agent\nname: a\nowner: '-----BEGIN PRIVATE KEY-----hunter2'\n", "team.yaml:3", "private key"),
        ("kind: Client\nclient_id: a\njwks_file: nowhere.json\n", "team.yaml:3", "cannot be read"),
        ("kind: Agent\nname: &a x\nowner: *a\n", "team.yaml:3", "aliases"),
        ("kind: Agent\nname: a\n---\nkind: Agent\nname: a\n", "team.yaml:4", "stands in team.yaml:1 already"),
        ("- kind: Agent\n", "team.yaml:1", "expected a mapping"),
        ("kind: Agent\n  name: [\n", "team.yaml:2", ""),
        ("x" * 1_100_000, "team.yaml", "at most"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(text, place, words):
    with pytest.raises(InvalidManifestError) as caught:
        read(text)
    assert str(caught.value).startswith(place)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        '{"keys": [{"kty": "EC", "d": "hunter2"}]}',
        '{"kty": "oct", "k": "hunter2"}',
        "-----BEGIN EC PRIVATE KEY-----\nhunter2\n",
    ],
)
def test_private_key_beside_a_file_is_never_sent(tmp_path, content):
    """Whoever takes the wrong file of a pair must learn it before it has left the machine's disk."""
    (tmp_path / "jwks.json").write_text(content)
    with pytest.raises(InvalidManifestError) as caught:
        read(WHOLE, tmp_path)
    assert "holds a private key" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_members_of_sign_in_are_those_of_the_admin_api():
    assert set(MEMBERS) == SIGN_IN
