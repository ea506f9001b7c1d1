"""What the token service goes by, registered over the admin socket: each noun from its creation to its end."""

import base64
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agentshield.app.admin.api import admin_app
from agentshield.app.admin.context import AdminContext
from agentshield.app.admin.peer_protocol import PEER_UID
from agentshield.identity.jwk import jwk_of
from agentshield.identity.keys import generate_private_key

PLANNER = "spiffe://example.test/agents/planner"
IDP = "https://token.actions.githubusercontent.com"
KEYS = base64.b64encode(
    json.dumps({"keys": [jwk_of(generate_private_key().public_key(), kid="c", alg="ES256")]}).encode()
).decode()


@dataclass
class Answer:
    status: int
    headers: dict
    json: dict


@pytest.fixture
def ask(authority, running, recorded, state):
    """Ask the admin API, as the owner of the process unless told."""
    context = AdminContext(
        authority=authority,
        store=None,
        audit=recorded,
        events=None,
        supervisor=None,
        state=state,
        authority_address="",
        issuer="",
        enforcement=None,
        clock=lambda: datetime.now(UTC),
        tokens=running,
    )
    app = admin_app(context)

    async def ask(method, path, body=None, *, uid=None):
        sent = []

        async def receive():
            return {"type": "http.request", "body": json.dumps(body or {}).encode(), "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "server": ("localhost", 80),
            PEER_UID: os.geteuid() if uid is None else uid,
        }
        await app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(status=sent[0]["status"], headers=headers, json=json.loads(sent[1]["body"]))

    return ask


NOUNS = {
    "resources": {"audience": "api://b", "scopes": ["read"], "server": "planner", "lifetime": 60},
    "issuers": {"name": "actions", "preset": "github", "issuer": IDP},
    "clients": {"client_id": "app", "agent": "planner", "methods": ["private_key_jwt"], "jwks": KEYS},
    "federated-credentials": {
        "name": "build",
        "agent": "planner",
        "issuer": IDP,
        "claims": {"repository_id": "1", "repository_owner_id": "2"},
    },
}


async def made(ask, noun):
    if noun == "federated-credentials":
        await ask("POST", "/v1/issuers", NOUNS["issuers"])
    return await ask("POST", f"/v1/{noun}", NOUNS[noun])


@pytest.mark.parametrize("noun", NOUNS)
async def test_registration_from_its_creation_to_its_end(ask, recorded, noun):
    """Created, listed, shown, refused a second time, deleted, and gone; each change on record by who made it."""
    key = next(iter(NOUNS[noun].values()))
    created = await made(ask, noun)
    assert created.status == 201, created.json
    assert created.json in (await ask("GET", f"/v1/{noun}")).json["items"]
    assert (await ask("GET", f"/v1/{noun}/{key}")).json == created.json
    again = await ask("POST", f"/v1/{noun}", NOUNS[noun])
    assert (again.status, again.json["family"]) == (409, "conflict")
    assert (await ask("DELETE", f"/v1/{noun}/{key}")).status == 200
    for method in ("GET", "DELETE"):
        assert (await ask(method, f"/v1/{noun}/{key}")).status == 404
    changes = [event for event in recorded.events if getattr(event, "key", "") == key or key in str(event)]
    assert len(changes) >= 2
    assert all(event.by.startswith("local-admin/") for event in changes)


@pytest.mark.parametrize("noun", NOUNS)
async def test_only_the_owner_registers(ask, running, noun):
    """Another user of the machine must not say who gets which token."""
    answer = await ask("POST", f"/v1/{noun}", NOUNS[noun], uid=os.geteuid() + 1)
    assert answer.status == 401
    assert await running.registrations.clients.list() == ()


async def test_where_humans_sign_in_and_come_back_to_is_shown_as_it_was_registered(ask):
    """An administrator who cannot read it back cannot notice that it is wrong."""
    realm = {"name": "staff", "preset": "keycloak", "issuer": IDP + "/realms/a"}
    sign_in = {"client_id": "agentshield", "method": "none", "scopes": ["profile"], "name_claim": "name"}
    created = await ask("POST", "/v1/issuers", realm | {"sign_in": sign_in})
    assert created.json["sign_in"] == sign_in | {"scopes": ["openid", "profile"]}
    uris = ["https://app.test/cb", "http://127.0.0.1/cb"]
    client = await ask("POST", "/v1/clients", NOUNS["clients"] | {"redirect_uris": uris})
    assert client.json["redirect_uris"] == sorted(uris)


@pytest.mark.parametrize(
    ("noun", "changes"),
    [
        ("resources", {"scopes": []}),
        ("resources", {"scopes": [1]}),
        ("resources", {"token_format": "xml"}),
        ("resources", {"lifetime": 10_000}),
        ("resources", {"server": "stranger"}),
        ("resources", {"colour": "red"}),
        ("issuers", {"preset": "mine"}),
        ("issuers", {"issuer": "http://idp.example.test"}),
        ("issuers", {"jwks": "%"}),
        ("issuers", {"preset": "keycloak", "issuer": IDP + "/realms/a", "sign_in": {}}),
        ("issuers", {"preset": "keycloak", "issuer": IDP + "/realms/a", "sign_in": {"client_id": 1}}),
        ("issuers", {"preset": "keycloak", "issuer": IDP + "/realms/a", "sign_in": {"client_id": "a", "secret": "s"}}),
        (
            "issuers",
            {"preset": "keycloak", "issuer": IDP + "/realms/a", "sign_in": {"client_id": "a", "method": "basic"}},
        ),
        ("clients", {"redirect_uris": ["http://app.test/cb"]}),
        ("clients", {"redirect_uris": "https://app.test/cb"}),
        ("clients", {"methods": []}),
        ("clients", {"methods": ["none"]}),
        ("clients", {"methods": ["tls_client_auth"]}),
        ("clients", {"jwks": None}),
        ("clients", {"agent": "stranger"}),
        ("clients", {"agent": "spiffe://"}),
        ("clients", {"client_id": "spiffe://example.test/agents/loner"}),
        ("federated-credentials", {"issuer": "https://other.example.test"}),
        ("federated-credentials", {"claims": {"repository_id": "*"}}),
        ("federated-credentials", {"agent": "stranger"}),
    ],
)
async def test_odd_registrations_are_refused(ask, noun, changes):
    """What could never work, or would let in too many, is said so at once, in words."""
    if noun == "federated-credentials":
        await ask("POST", "/v1/issuers", NOUNS["issuers"])
    answer = await ask("POST", f"/v1/{noun}", NOUNS[noun] | changes)
    assert 400 <= answer.status < 500
    assert answer.json["message"]
    assert (await ask("GET", f"/v1/{noun}")).json["items"] == []


async def test_secret_is_shown_once_and_ends(ask, recorded):
    """Neither a list, nor the log, nor a second look gives it away."""
    client = {"client_id": "app", "agent": "planner", "methods": ["client_secret_basic"]}
    assert (await ask("POST", "/v1/clients", client)).status == 201
    made = await ask("POST", "/v1/clients/app/secret", {"lifetime": 3600, "reason": "the seed's sample"})
    assert made.status == 201
    assert made.headers["cache-control"] == "no-store"
    secret = made.json["secret"]
    shown = (await ask("GET", "/v1/clients/app")).json
    assert shown["secret_expires_at"] == made.json["expires_at"]
    assert secret not in str(shown)
    assert secret not in str(recorded.events)


@pytest.mark.parametrize("body", [{"reason": "r"}, {"lifetime": 3600}, {"lifetime": 3600, "reason": " "}])
async def test_secret_without_an_end_or_a_reason_is_not_made(ask, body):
    """An exception that nobody has to explain becomes the rule."""
    client = {"client_id": "app", "agent": "planner", "methods": ["client_secret_basic"]}
    await ask("POST", "/v1/clients", client)
    assert (await ask("POST", "/v1/clients/app/secret", body)).status == 400
    assert (await ask("GET", "/v1/clients/app")).json["secret_expires_at"] is None


async def test_secret_is_for_clients_that_are_registered_for_it(ask):
    """A client that has keys needs none."""
    await ask("POST", "/v1/clients", NOUNS["clients"])
    answer = await ask("POST", "/v1/clients/app/secret", {"lifetime": 3600, "reason": "r"})
    assert answer.status == 400


async def test_token_is_revoked_with_what_derives_from_it(ask, running, issued, recorded):
    """By its jti, which is in the audit log: whoever finds a stolen one needs nothing else."""
    for token in (issued("j"), issued("k", agent="loner", parents=("j",)), issued("l")):
        await running.store.tokens.issue(token, uses=(), at=token.issued_at)
    answer = await ask("POST", "/v1/tokens/revoke", {"jti": "j"})
    assert (answer.status, sorted(answer.json["revoked"])) == (200, ["j", "k"])
    assert not await running.store.tokens.is_revoked("l")
    assert recorded.named("token.revoked")


@pytest.mark.parametrize("named", ["planner", PLANNER])
async def test_tokens_of_an_agent_are_revoked_together(ask, running, issued, named):
    """Without suspending it: it may go on with new ones."""
    for token in (issued("j"), issued("k"), issued("l", agent="loner")):
        await running.store.tokens.issue(token, uses=(), at=token.issued_at)
    answer = await ask("POST", "/v1/tokens/revoke", {"agent": named})
    assert sorted(answer.json["revoked"]) == ["j", "k"]
    assert not await running.store.tokens.is_revoked("l")


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ({"jti": "j", "agent": "planner"}, 400), ({"jti": "x"}, 404), ({"jti": 1}, 400)]
)
async def test_revocation_names_what_it_means(ask, body, status):
    """A slip must not read as a success."""
    assert (await ask("POST", "/v1/tokens/revoke", body)).status == status
