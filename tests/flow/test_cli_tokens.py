"""`agentshield token` with real processes: from an SVID to a token, what it says, who believes it, and its end."""

import json
import stat

import pytest


@pytest.fixture
def desk(desk):
    """`up`, and three agents: a and c may call b, which serves two audiences, one of them with opaque tokens."""
    desk.up()
    for line in (
        "agentshield blueprint create workers --sponsor alice --scope api://agent-b=run --scope api://agent-c=run",
        "agentshield agent create agent-a --blueprint workers",
        "agentshield agent create agent-b",
        "agentshield agent create agent-c --blueprint workers",
        "agentshield resource create api://agent-b --server agent-b --scope run --scope admin",
        "agentshield resource create api://agent-c --server agent-c --scope run",
    ):
        done = desk.type(line)
        assert done.code == 0, done.err
    return desk


def test_a_token_from_its_mint_to_its_end(desk):
    """The whole life on the command line; the token itself is nowhere but in the file."""
    made = desk.type("agentshield token mint --audience api://agent-c --scope run --out a.token --as agent-a -o json")
    assert made.code == 0, made.err
    token = (desk.home / "a.token").read_text().strip()
    assert stat.S_IMODE((desk.home / "a.token").stat().st_mode) == 0o600
    assert (made.data["kind"], made.data["scopes"], made.data["audience"]) == ("AccessToken", ["run"], "api://agent-c")
    assert list(made.data["bound_to"]) == ["x5t#S256"]
    assert token not in made.out + made.err

    read = desk.type("agentshield token inspect --token-file a.token -o json").data
    assert (read["verified"], read["claims"]["sub"]) == (False, "spiffe://example.test/agents/agent-a")
    assert read["claims"]["cnf"] == made.data["bound_to"]

    good = desk.type("agentshield token verify --token-file a.token --audience api://agent-c --as agent-a -o json")
    assert good.code == 0, good.err
    found = {each["check"]: (each["result"], each["found"]) for each in good.data["items"]}
    assert {result for result, _ in found.values()} == {"passed"}
    assert "this agent's X509-SVID" in found["binding"][1]  # another process of the agent: the same certificate
    other = desk.type("agentshield token verify --token-file a.token --audience api://agent-b --as agent-b -o json")
    assert other.code == 3
    assert [each["check"] for each in other.data["items"] if each["result"] == "failed"] == ["audience"]

    served = desk.type("agentshield token introspect --token-file a.token --as agent-c -o json")
    assert (served.code, served.data["active"], served.data["scope"]) == (0, True, "run")
    assert desk.type("agentshield token introspect --token-file a.token --as agent-b").code == 3  # not for its eyes

    chained = desk.type(  # agent-c, whom the token is for, goes on as its subject's actor
        "agentshield token exchange --token-file - --audience api://agent-b --scope run --out c.token --as agent-c",
    )
    assert chained.code == 2  # nothing on stdin
    chained = desk.type(
        "agentshield token exchange --token-file - --audience api://agent-b --scope run --out c.token --as agent-c",
        stdin=token,
    )
    assert chained.code == 0, chained.err
    claims = desk.type("agentshield token inspect --token-file c.token -o json").data["claims"]
    assert claims["sub"] == "spiffe://example.test/agents/agent-a"
    assert claims["act"]["sub"] == "spiffe://example.test/agents/agent-c"

    assert desk.type("agentshield token revoke --token-file a.token --as agent-b --yes").code == 3  # not agent-b's
    assert desk.type("agentshield token revoke --token-file a.token --as agent-a").code == 2  # nobody to ask
    ended = desk.type("agentshield token revoke --token-file a.token --as agent-a --yes")
    assert ended.code == 0, ended.err
    for file, audience in (("a.token", "api://agent-c"), ("c.token", "api://agent-b")):  # what derives from it, too
        done = desk.type(f"agentshield token verify --token-file {file} --audience {audience} --as agent-b -o json")
        assert done.code == 3
        assert [each["check"] for each in done.data["items"] if each["result"] == "failed"] == ["not revoked"]
    logs = [desk.log_of(process) for process in desk.running]
    assert not any(token in text for text in (*logs, *(each.err for each in (made, good, other, served, ended))))


def test_an_agent_mints_in_its_own_process_and_the_administrator_revokes(desk):
    """As `svid` does: inside `run`, the environment says who we are and whom to ask; a pipe gets the token alone."""
    done = desk.type("agentshield run --as agent-a -- agentshield token mint --audience api://agent-b --scope run")
    assert done.code == 0, done.err
    token = done.out.strip()
    assert token.count(".") == 2
    assert "bound to this agent's X509-SVID" in done.err
    jti = json.loads(desk.type("agentshield token inspect --token-file - -o json", stdin=token).out)["claims"]["jti"]
    unknown = desk.type("agentshield token revoke --jti nobody --yes")
    assert (unknown.code, unknown.out) == (6, "")
    revoked = desk.type(f"agentshield token revoke --jti {jti} --yes -o json")
    assert (revoked.code, revoked.data["revoked"]) == (0, [jti])
    served = desk.type("agentshield token introspect --token-file - --as agent-b", stdin=token)
    assert served.code == 3


def test_an_opaque_token_is_looked_up_by_whom_it_is_for(desk):
    """Nothing is in it to read, so each command says who knows, and asks them."""
    for line in (
        "agentshield resource create api://agent-o --server agent-b --scope run --format opaque",
        "agentshield blueprint create opaque --sponsor alice --scope api://agent-o=run",
        "agentshield agent create agent-o --blueprint opaque",
        "agentshield token mint --audience api://agent-o --scope run --out o.token --as agent-o",
    ):
        done = desk.type(line)
        assert done.code == 0, done.err
    token = (desk.home / "o.token").read_text().strip()
    unread = desk.type("agentshield token inspect --token-file o.token")
    assert unread.code == 2
    assert "token introspect" in unread.err
    served = desk.type("agentshield token verify --token-file o.token --audience api://agent-o --as agent-b -o json")
    assert served.code == 0, served.err
    assert served.data["items"][0]["check"] == "active"
    assert desk.type("agentshield token verify --token-file o.token --audience api://agent-o --as agent-o").code == 3
    typed = desk.type(f"agentshield token revoke --jti {token} --yes")
    assert (typed.code, token in typed.err) == (2, False)
    assert desk.type("agentshield token revoke --token-file o.token --as agent-o --yes").code == 0
    assert desk.type("agentshield token introspect --token-file o.token --as agent-b").code == 3


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("mint --audience api://agent-b --scope admin --as agent-a", 3, "invalid_scope"),
        ("mint --audience api://nobody --as agent-a", 3, "invalid_target"),
        ("mint --audience api://agent-b --scope run --as agent-b", 3, "token_request_refused"),  # of no blueprint
        ("mint --audience api://agent-b --scope run --as nobody", 6, "agent_not_found"),
        ("mint --audience api://agent-b --scope run", 3, "no_identity"),
        ("exchange --token-file - --audience api://agent-b --scope run --as agent-a", 3, "token_request_refused"),
    ],
)
def test_what_is_refused_says_why_and_what_next(desk, line, code, said):
    """A no is an answer: its code, its reason and the next step, and nothing that a token could be read from."""
    forged = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsiLCJ0eXAiOiJhdCtqd3QifQ.eyJqdGkiOiJqIn0." + "A" * 86
    done = desk.type(f"agentshield token {line} --out refused.token", stdin=forged)
    assert (done.code, done.out) == (code, ""), done.err
    assert said in done.err
    assert "next:  " in done.err
    assert forged not in done.err
    assert not (desk.home / "refused.token").exists()
