"""`agentshield client` and `up --token-port`, as an administrator types them."""

import json
import re
import stat

from agentshield.identity.jwk import jwk_of
from agentshield.identity.keys import generate_private_key


def test_a_client_is_registered_shown_and_deleted(desk):
    """Public keys in, the same agent out; nothing of a private key is taken, and a client that is gone is gone."""
    desk.up()
    assert desk.type("agentshield agent create planner").code == 0
    jwk = jwk_of(generate_private_key().public_key(), kid="k1")
    (desk.home / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    made = desk.type(
        "agentshield client create nightly --agent planner --method private_key_jwt --jwks-file jwks.json -o json"
    )
    assert made.code == 0, made.err
    assert (made.data["kind"], made.data["client_id"]) == ("Client", "nightly")
    assert made.data["agent"] == "spiffe://example.test/agents/planner"
    assert desk.type("agentshield client list -o name").out == "nightly\n"
    assert desk.type("agentshield client show nightly -o json").data["methods"] == ["private_key_jwt"]

    refusals = {
        "agentshield client create nightly --agent planner --method private_key_jwt --jwks-file jwks.json": 6,
        "agentshield client create other --agent nobody --method private_key_jwt --jwks-file jwks.json": 6,
        "agentshield client create other --agent planner --method private_key_jwt": 2,  # no keys
        "agentshield client create other --agent planner --method tls_client_auth": 2,  # not served
        "agentshield client create other --agent planner": 2,
        "agentshield client show other": 6,
        "agentshield client delete other --yes": 6,
        "agentshield client delete nightly": 2,  # nobody there to ask
    }
    for line, code in refusals.items():
        done = desk.type(line)
        assert (done.code, done.out) == (code, ""), (line, done.err)
        assert "code:  " in done.err
    (desk.home / "private.json").write_text(json.dumps({"keys": [jwk | {"d": "c2VjcmV0LXNjYWxhcg"}]}))
    done = desk.type("agentshield client create p --agent planner --method private_key_jwt --jwks-file private.json")
    assert done.code == 2
    assert "c2VjcmV0" not in done.err

    assert desk.type("agentshield client delete nightly --yes").code == 0
    assert desk.type("agentshield client list -o name").out == ""


def test_a_client_with_a_certificate_of_another_authority(desk, free_port):
    """Offered where there is a port for it; the authority is a certificate, and the name is one."""
    assert desk.type(f"agentshield up --detach --mtls-port {free_port}").code == 0
    assert desk.type("agentshield agent create planner").code == 0
    authority = next((desk.home / "state").rglob("*ca*.pem"))  # any will do
    create = "agentshield client create batch --agent planner --method tls_client_auth"
    done = desk.type(f"{create} --tls-ca-file {authority} --tls-san-dns batch.corp.example.test -o json")
    assert done.code == 0, done.err
    assert done.data["methods"] == ["tls_client_auth"]
    (desk.home / "text.pem").write_text("no certificate")
    assert desk.type(f"{create} --tls-ca-file text.pem --tls-san-dns a.example.test").code == 2
    assert desk.type(f"{create} --tls-ca-file {authority}").code == 2
    names = "--tls-san-dns a.example.test --tls-san-uri https://a.example.test"
    assert desk.type(f"{create} --tls-ca-file {authority} {names}").code == 2


def test_a_client_secret_is_an_exception_with_an_end_and_a_reason(desk):
    """Written to a new file for its owner only, and nowhere else: not on the screen, not in the log."""
    desk.up()
    assert desk.type("agentshield agent create planner").code == 0
    assert desk.type("agentshield client create old --agent planner --method client_secret_basic").code == 0
    make = "agentshield client secret old --ttl 30d --reason 'vendor product without workload identity'"
    done = desk.type(f"{make} --out secret.txt")
    assert done.code == 0, done.err
    file = desk.home / "secret.txt"
    secret = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(secret) >= 40
    assert secret not in done.out + done.err
    assert secret not in desk.type("agentshield client show old -o json").out
    assert desk.type("agentshield client show old -o json").data["secret_expires_at"]
    assert secret not in desk.type("agentshield audit export").out
    for line, code in {
        f"{make} --out secret.txt": 2,  # it is there already
        "agentshield client secret old --ttl 91d --reason x --out other.txt": 2,
        "agentshield client secret old --ttl 30d --out other.txt": 2,
        "agentshield client secret nobody --ttl 30d --reason x --out other.txt": 6,
    }.items():
        assert desk.type(line).code == code, line
    assert not (desk.home / "other.txt").exists()


def test_the_token_service_listens_where_it_is_told(desk, free_port):
    """The port is in the issuer's name, so who plans ahead must be able to choose it, detached or not."""
    assert desk.type(f"agentshield up --detach --token-port {free_port}").code == 0
    issuer = desk.type("agentshield status -o json").data["token_service"]
    assert issuer == f"https://localhost:{free_port}"
    assert desk.type("agentshield down").code == 0
    shown = desk.wait_for(desk.start("agentshield up"), "AgentShield is up")  # and keeps it
    assert re.search(rf"https://localhost:{free_port}\b", shown) or issuer in shown
    taken = desk.type(f"agentshield up --state-dir {desk.home}/other --token-port {free_port}")
    assert taken.code == 5
    assert "code:  port_taken" in taken.err
    assert desk.type("agentshield up --token-port 70000").code == 2
