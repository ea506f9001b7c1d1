"""Model 2 of the seed (docs/explain/seed-samples.md), end to end with real processes.

SVID, exchange, token with AI.Task.Execute for api://agent-b, FastAPI agent-b accepts; each refusal by its own code. The
same with the token of a Kubernetes cluster and of a Keycloak realm, as a local OpenID provider signs them.
"""

import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import uuid

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from agentshield.identity.jwk import jwk_of
from agentshield.identity.jws import sign_compact

pytestmark = [pytest.mark.slow]

AUDIENCE, SCOPE = "api://agent-b", "AI.Task.Execute"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

AGENT_B = """
import os
from fastapi import Depends, FastAPI
from agentshield.fastapi import Caller, caller, protect
from agentshield.sdk.access_tokens import TokenVerifier

app = protect(FastAPI(), tokens=TokenVerifier(audience="api://agent-b", base_url=os.environ["BASE"]))


@app.post("/task")
async def task(who: Caller = Depends(caller("task:create", scopes=["AI.Task.Execute"]))):
    return {"caller": str(who.spiffe_id), "scopes": sorted(who.scopes)}
"""

# One agent, told on standard input what to do, one JSON line a step; it has one DPoP key for all of them.
AGENT = """
import asyncio, json, os, sys
from datetime import UTC, datetime
from agentshield import Shield
from agentshield.identity.dpop import sign_dpop_proof
from agentshield.identity.keys import generate_private_key

KEY = generate_private_key()
SERVER, BASE = os.environ["AGENTSHIELD_TOKEN_SERVICE"], os.environ["BASE"]


def proof(method, url, **more):
    return sign_dpop_proof(KEY, method=method, url=url, at=datetime.now(UTC), **more)


async def main():
    async with Shield.from_env() as me:
        domain = "spiffe://" + str(me.spiffe_id.trust_domain)
        server = me.client(expect=domain + "/agentshield/token-service")
        agent_b = me.client(expect=domain + "/agents/agent-b")
        async with server, agent_b:
            while line := await asyncio.to_thread(sys.stdin.readline):  # the loop goes on meanwhile
                step = json.loads(line)
                if "svid_for" in step:
                    told = (await me.fetch_jwt_svid(step["svid_for"])).token
                elif "form" in step:
                    url = SERVER + step["path"]
                    form = {"client_id": str(me.spiffe_id), **step["form"]}
                    answer = await server.post(url, data=form, headers={"dpop": proof("POST", url)})
                    told = answer.json()
                else:
                    url, token = BASE + "/task", step["present"]
                    headers = {"authorization": "DPoP " + token, "dpop": proof("POST", url, access_token=token)}
                    answer = await agent_b.post(url, headers=headers)
                    told = [answer.status_code, answer.headers.get("www-authenticate", ""), answer.json()]
                print(json.dumps(told), flush=True)


asyncio.run(main())
"""


class Agent:
    """An agent in a process of its own, which does one step after the other."""

    def __init__(self, desk, name, base):
        self.process = subprocess.Popen(
            ["agentshield", "run", "--as", name, "--", "python", "agent.py"],
            cwd=desk.home,
            env={**desk.environment, "BASE": base},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, **step):
        self.process.stdin.write(json.dumps(step) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        """Tell it that there are no more steps, which ends it."""
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def svid(self, audience):
        return self.do(svid_for=audience)

    def ask(self, **form):
        return self.do(path="/oauth/token", form={"audience": AUDIENCE, "scope": SCOPE} | form)

    def exchange(self, token, kind="jwt", **form):
        return self.ask(
            **{"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": TOKEN_TYPE + kind} | form
        )

    def present(self, token):
        return self.do(present=token)


class World:
    """`up`, agent-b serving, and two agents that call."""

    def __init__(self, desk, port):
        self.desk = desk
        self.base = base = f"https://localhost:{port}"
        (desk.home / "agent.py").write_text(AGENT)
        (desk.home / "agent_b.py").write_text(AGENT_B)
        desk.up("--trust-domain nextriad.ai")
        self.type(f"agentshield blueprint create callers --sponsor ann --scope {AUDIENCE}={SCOPE}")
        for name in ("agent-a", "agent-c"):
            self.type(f"agentshield agent create {name} --blueprint callers")
        self.type("agentshield agent create agent-b")
        self.type(f"agentshield resource create {AUDIENCE} --scope {SCOPE} --scope AI.Admin --server agent-b")
        self.type("agentshield resource create api://agent-d --scope AI.Task.Execute")
        for name in ("agent-a", "agent-c"):
            self.type(f"agentshield policy allow {name} agent-b task:create")
        self.issuer = desk.type("agentshield status -o json").data["token_service"]
        server = desk.start(f"agentshield run --as agent-b -- uvicorn agent_b:app --port {port}", BASE=base)
        desk.wait_for(server, "Application startup complete")
        self.agents = []
        self.a, self.c = self.start("agent-a"), self.start("agent-c")

    def start(self, name):
        self.agents.append(Agent(self.desk, name, self.base))
        return self.agents[-1]

    def type(self, line):
        done = self.desk.type(line)
        assert done.code == 0, f"{line}: {done.err}"
        return done

    def exchanged(self):
        """A token of agent-a's for its own SVID."""
        return self.a.exchange(self.a.svid(self.issuer))["access_token"]


@pytest.fixture(scope="module")
def world(module_desk):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    world = World(module_desk, port)
    yield world
    for agent in world.agents:
        agent.close()


def test_an_svid_is_exchanged_and_agent_b_accepts(world):
    """What the article promises, and its code did not do."""
    granted = world.a.exchange(world.a.svid(world.issuer))
    assert (granted["token_type"], granted["scope"]) == ("DPoP", SCOPE)
    assert granted["issued_token_type"] == TOKEN_TYPE + "access_token"
    assert granted["expires_in"] <= 300
    status, _, answer = world.a.present(granted["access_token"])
    assert (status, answer) == (200, {"caller": "spiffe://nextriad.ai/agents/agent-a", "scopes": [SCOPE]})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"scope": "AI.Admin"}, "invalid_scope"),
        ({"audience": "api://nobody"}, "invalid_target"),
        ({"subject_token_type": TOKEN_TYPE + "saml2"}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
    ids=["scope", "audience", "type", "grant"],
)
def test_the_token_service_says_what_was_wrong(world, change, error):
    """Each by the RFC's own code, which is what client libraries act on."""
    assert world.a.exchange(world.a.svid(world.issuer), **change)["error"] == error


def test_an_svid_for_somebody_else_is_not_exchanged(world):
    """Who was shown a JWT-SVID at its own door must not get a token for it."""
    assert world.a.exchange(world.a.svid("https://elsewhere.test"))["error"] == "invalid_request"


def test_another_agents_svid_is_not_exchanged(world):
    """The subject must be the one who asks: an SVID in the wrong hands is worth nothing."""
    assert world.c.exchange(world.a.svid(world.issuer))["error"] == "invalid_request"


def refused(answer, status, code):
    assert answer[0] == status, answer
    assert f'error="{code}"' in answer[1], answer


def test_a_token_for_somebody_else_is_refused_by_agent_b(world):
    """agent-d's token, in the same hands and with the right proof."""
    world.type("agentshield blueprint create both --sponsor ann --scope api://agent-d=AI.Task.Execute")
    world.type("agentshield agent create agent-e --blueprint both")
    world.type("agentshield policy allow agent-e agent-b task:create")
    other = world.start("agent-e")
    token = other.ask(grant_type="client_credentials", audience="api://agent-d")["access_token"]
    refused(other.present(token), 401, "invalid_token")


def test_a_stolen_token_is_refused_by_agent_b(world):
    """agent-c may call agent-b, with its own key and SVID; agent-a's token does not become its own by that."""
    token = world.exchanged()
    refused(world.c.present(token), 401, "invalid_token")
    assert world.a.present(token)[0] == 200


def test_a_revoked_token_is_refused_by_agent_b(world):
    """Known to agent-b within a second or so, without asking for each request."""
    token = world.exchanged()
    assert world.a.present(token)[0] == 200
    assert world.a.do(path="/oauth/revoke", form={"token": token}) == {}
    deadline = time.monotonic() + 10
    while (answer := world.a.present(token))[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    refused(answer, 401, "invalid_token")


def test_why_each_was_refused_is_on_record(world):
    """The client learns the RFC's code; who runs the server learns the rule."""
    world.c.exchange(world.a.svid(world.issuer))
    found = world.type("agentshield audit search --event token.refused -o json").out
    assert "TX-03" in found


@pytest.fixture(scope="module")
def provider():
    """An OpenID provider on loopback: discovery and keys, behind TLS of an authority of its own."""
    key, ca = rsa.generate_private_key(public_exponent=65537, key_size=2048), trustme.CA()
    documents = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = documents.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            """Nothing of interest."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(tls)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    base = f"https://localhost:{server.server_port}"
    for path in ("", "/realms/agents"):
        documents[f"{path}/.well-known/openid-configuration"] = json.dumps(
            {"issuer": base + path, "jwks_uri": base + "/keys"}
        ).encode()
    documents["/keys"] = json.dumps({"keys": [jwk_of(key.public_key(), kid="k1", use="sig", alg="RS256")]}).encode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield base, key, ca
    server.shutdown()
    server.server_close()


def signed(key, **claims):
    now = int(time.time())
    return sign_compact({"iat": now, "exp": now + 300, "jti": str(uuid.uuid4())} | claims, key, kid="k1")


@pytest.fixture(scope="module")
def cluster(world, provider):
    """A cluster's service account as agent-a; returns what makes its tokens."""
    base, key, ca = provider
    ca.cert_pem.write_to_path(world.desk.home / "ca.pem")
    world.type(f"agentshield issuer add cluster --preset kubernetes --issuer {base} --ca-file ca.pem")
    world.type(
        f"agentshield federated-credential create a-in-cluster --agent agent-a --issuer {base} "
        "--subject system:serviceaccount:prod:agent-a"
    )

    def token(account="agent-a", **changes):
        kubernetes = {"namespace": "prod", "serviceaccount": {"name": account, "uid": str(uuid.uuid4())}}
        claims = {"iss": base, "aud": [world.issuer], "kubernetes.io": kubernetes}
        return signed(key, **(claims | {"sub": f"system:serviceaccount:prod:{account}"} | changes))

    return token


def federated(agent, token):
    """The token as client assertion, by a federated credential."""
    return agent.ask(grant_type="client_credentials", client_assertion_type=JWT_BEARER, client_assertion=token)


def test_a_service_account_of_a_cluster_is_an_agent(world, cluster):
    """Its projected token is all it has, and all it needs: no secret was copied anywhere."""
    granted = federated(world.a, cluster())
    assert world.a.present(granted["access_token"])[0] == 200


@pytest.mark.parametrize(
    "changes",
    [{"account": "agent-x"}, {"aud": ["https://kubernetes.default.svc"]}, {"exp": int(time.time()) - 1}],
    ids=["account", "audience", "expired"],
)
def test_what_the_credential_does_not_name_is_no_agent(world, cluster, changes):
    """Another account of the same cluster, a token for its own API server, one of yesterday."""
    assert federated(world.a, cluster(**changes))["error"] == "invalid_client"


def test_a_service_accounts_token_in_another_agents_hands_is_refused(world, cluster):
    """The connection says agent-c; a token that says agent-a does not change that."""
    assert federated(world.c, cluster())["error"] == "invalid_client"


@pytest.fixture(scope="module")
def realm(world, provider):
    """A Keycloak realm whose users agents may act for; returns what makes its tokens."""
    base, key, ca = provider
    issuer = base + "/realms/agents"
    ca.cert_pem.write_to_path(world.desk.home / "ca.pem")
    world.type(f"agentshield issuer add realm --preset keycloak --issuer {issuer} --ca-file ca.pem --scope {SCOPE}")

    def token(**changes):
        claims = {"iss": issuer, "aud": world.issuer, "sub": "f6a7-ann", "typ": "Bearer", "azp": "portal"}
        return signed(key, **(claims | {"scope": "email profile", "preferred_username": "ann"} | changes))

    return token


def test_an_agent_acts_for_a_user_of_a_realm(world, realm):
    """The user stays the subject, the agent is the actor, and agent-b sees which agent calls."""
    granted = world.a.exchange(realm())
    status, _, answer = world.a.present(granted["access_token"])
    assert (status, answer.get("caller")) == (200, "spiffe://nextriad.ai/agents/agent-a")
    on_record = world.type("agentshield audit search --event token.issued -o json").out
    assert "f6a7-ann" in on_record


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"aud": "account"}, "invalid_request"), ({"sub": "spiffe://nextriad.ai/agents/agent-b"}, "invalid_request")],
    ids=["audience", "an agent's name"],
)
def test_what_a_realm_says_of_others_is_not_believed(world, realm, changes, error):
    """A realm speaks for its users, to whom it was asked to, and for no agent of ours."""
    assert world.a.exchange(realm(**changes))["error"] == error
