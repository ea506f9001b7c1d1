"""`agentshield token` without a server: reading, writing, explaining and checking tokens, and never showing one."""

import io
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from agentshield.app.exit_codes import ExitCode
from agentshield.app.failure import CommandError
from agentshield.app.main import main
from agentshield.app.token_checks import Verifying, check_opaque, check_signed
from agentshield.app.token_claims import inspect_token
from agentshield.app.token_text import read_token, write_token
from agentshield.errors import InvalidInputError
from agentshield.identity.access_token import (
    AccessTokenClaims,
    Confirmation,
    read_introspection,
    sign_access_token,
    verify_access_token,
)
from agentshield.identity.jwk import KeySet, jwk_of
from agentshield.identity.jws import sign_compact
from agentshield.identity.keys import generate_private_key
from agentshield.sdk.token_errors import RevocationsUnknownError, TokenRevokedError

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
ISSUER, AUDIENCE = "https://localhost:8444", "api://agent-b"
PLANNER = "spiffe://example.test/agents/planner"
OURS = "A" * 43
KEY = generate_private_key()
KEYS = KeySet.from_jwks(json.dumps({"keys": [jwk_of(KEY.public_key(), kid="k1")]}).encode(), algorithms={"ES256"})


def claims_of(**changes):
    values = {
        "issuer": ISSUER,
        "subject": PLANNER,
        "audience": AUDIENCE,
        "client_id": PLANNER,
        "scopes": frozenset({"AI.Task.Execute"}),
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=5),
        "jti": "j-1",
        "confirmation": Confirmation(x5t_s256=OURS),
    }
    return AccessTokenClaims(**(values | changes))


def token_of(*, key=KEY, **changes):
    return sign_access_token(claims_of(**changes), key, kid="k1")


def checked(token, *, revoked=(), at=NOW):
    def not_revoked(jti):
        if jti in revoked:
            raise TokenRevokedError("token was revoked")

    verifying = Verifying(issuer=ISSUER, audience=AUDIENCE, at=at, not_revoked=not_revoked, own_thumbprint=OURS)

    def believe(issuer, audience):
        return verify_access_token(token, keys=KEYS, issuer=issuer, audience=audience, at=at)

    return check_signed(token, KEYS, believe, verifying)


def results(checks):
    return {each["check"]: each["result"] for each in checks.items}


def test_a_good_token_passes_every_check():
    """Each rule of a resource has a line, and each names its clause."""
    checks = checked(token_of())
    assert checks.all_passed
    assert list(results(checks)) == [
        *("type", "key", "signature", "claims", "issuer", "audience", "times", "binding", "not revoked", "caller")
    ]
    assert all(each["clause"].startswith("RFC ") for each in checks.items)
    found = {each["check"]: each["found"] for each in checks.items}
    assert found["caller"] == PLANNER
    assert "this agent's X509-SVID" in found["binding"]


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"issuer": "https://localhost:1"}, {"issuer"}),
        ({"audience": "api://other"}, {"audience"}),
        ({"expires_at": NOW}, {"times"}),
        ({"issued_at": NOW + timedelta(minutes=2)}, {"times"}),
        ({"confirmation": None}, {"binding"}),
        ({"jti": "gone"}, {"not revoked"}),
        ({"subject": "kim@corp.test", "subject_profile": "user"}, {"caller"}),
        ({"issuer": "https://x.test", "audience": "api://x", "expires_at": NOW}, {"issuer", "audience", "times"}),
    ],
)
def test_each_fault_is_found_by_its_own_check(changes, failing):
    """Whoever mends a token must see every fault at once, and no fault that is not there."""
    checks = checked(token_of(**changes), revoked={"gone"})
    assert {check for check, result in results(checks).items() if result == "failed"} == failing
    assert not checks.all_passed


def test_behind_a_bad_signature_nothing_is_checked():
    """What a forged token says is nobody's word: a line that passes would be read as one."""
    forged = results(checked(token_of(key=generate_private_key())))
    assert forged.pop("signature") == "failed"
    assert (forged.pop("type"), forged.pop("key")) == ("passed", "passed")
    assert set(forged.values()) == {"not checked"}
    unknown = results(checked(sign_access_token(claims_of(), KEY, kid="k2")))
    assert (unknown["key"], unknown["signature"], unknown["caller"]) == ("failed", "not checked", "not checked")
    other_kind = results(checked(sign_compact(claims_of().to_claims(), KEY, kid="k1")))
    assert (other_kind["type"], other_kind["signature"]) == ("failed", "not checked")
    assert results(checked("no.token.at-all"))["type"] == "failed"


@pytest.mark.parametrize(
    ("confirmation", "words"),
    [
        (Confirmation(jkt="B" * 43), "DPoP key " + "B" * 43),
        (Confirmation(x5t_s256="B" * 43), "not this agent's"),
    ],
)
def test_a_binding_says_to_whose_key(confirmation, words):
    """A token that is bound to another key is good, and not for us to use."""
    checks = checked(token_of(confirmation=confirmation))
    assert checks.all_passed
    assert words in next(each["found"] for each in checks.items if each["check"] == "binding")


def test_what_cannot_be_known_is_no_answer():
    """A no that means "ask again" must not be read as a no."""

    def unknown(_):
        raise RevocationsUnknownError("not heard in time")

    token = token_of()
    verifying = Verifying(issuer=ISSUER, audience=AUDIENCE, at=NOW, not_revoked=unknown, own_thumbprint=OURS)
    with pytest.raises(RevocationsUnknownError):
        check_signed(
            token, KEYS, lambda i, a: verify_access_token(token, keys=KEYS, issuer=i, audience=a, at=NOW), verifying
        )


def test_an_opaque_token_is_what_its_issuer_says():
    """The same rules, on an answer that is taken for nothing more than a token that can be read."""

    def opaque(answer):
        verifying = Verifying(issuer=ISSUER, audience=AUDIENCE, at=NOW, not_revoked=lambda _: None, own_thumbprint=OURS)
        return check_opaque(
            answer, lambda i, a: read_introspection(answer, token="t", issuer=i, audience=a, at=NOW), verifying
        )

    active = {"active": True, "token_type": "Bearer"}
    assert opaque(active | claims_of().to_claims()).all_passed
    wrong = results(opaque(active | claims_of(audience="api://other").to_claims()))
    assert (wrong["active"], wrong["audience"], wrong["caller"]) == ("passed", "failed", "not checked")
    assert results(opaque({"active": False}))["active"] == "failed"
    assert not opaque({"active": False}).all_passed


def test_inspection_explains_each_claim_and_believes_none():
    """A reader must not mistake what a token says for what is so."""
    shown = inspect_token(token_of(key=generate_private_key()), at=NOW + timedelta(minutes=1))
    rows = {row["claim"]: row for row in shown["explained"]}
    assert shown["verified"] is False
    assert shown["explained"][0]["value"] == "not verified"
    assert rows["exp"]["value"] == "2026-11-24T09:05:00Z (in 4m)"
    assert rows["iat"]["value"].endswith("ago)")
    assert rows["cnf.x5t#S256"]["clause"] == "RFC 8705, 3.1"
    assert all(rows[name]["clause"].startswith("RFC ") for name in ("typ", "alg", "iss", "sub", "aud", "jti", "scope"))
    foreign = inspect_token(sign_compact({"iss": "x", "exp": "soon", "tid": "7"}, KEY, kid="k"), at=NOW)
    assert {row["claim"]: row["meaning"] for row in foreign["explained"]}["tid"].startswith("no claim that we know")


@pytest.mark.parametrize(
    "token", ["opaque-token", "a.b", "a.b.c.d.e", "a.b.c", "e30.W10.x", "ey" + "a" * 20000 + "..b"]
)
def test_what_cannot_be_read_is_refused_and_not_repeated(token):
    """Opaque, encrypted, halved, too large: each is a clear error without the token in it."""
    with pytest.raises(InvalidInputError) as refused:
        inspect_token(token, at=NOW)
    assert token not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"a b", b"a\nb", b"\xff\xfe", b"a\x00b", b"x" * 16387])
def test_only_one_token_is_read_from_a_file(tmp_path, content):
    """Two tokens, or a binary file, are no token, and nobody guesses which part was meant."""
    file = tmp_path / "t"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError):
        read_token(file)


def test_a_token_is_written_for_its_owner_only(tmp_path):
    """0600 from the first byte, whatever was there before; a link is replaced, not followed."""
    file, victim = tmp_path / "t", tmp_path / "victim"
    victim.write_text("mine")
    file.symlink_to(victim)
    write_token(file, "token")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (read_token(file), victim.read_text(), file.is_symlink()) == ("token", "mine", False)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["t", "victim"]
    with pytest.raises(CommandError):
        write_token(tmp_path / "nowhere" / "t", "token")


def run(*arguments, capsys):
    code = main(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize(
    "place",
    [
        ("token", "{}"),
        ("token", "inspect", "{}"),
        ("token", "verify", "{}", "--token-file", "x", "--audience", "a"),
        ("token", "inspect", "--token-file", "{}"),
        ("token", "exchange", "--token-file", "{}", "--audience", "a"),
        ("token", "inspect", "--token", "{}"),
        ("token", "inspect", "--token={}"),
        ("token", "revoke", "{}"),
        ("token", "revoke", "--jti", "{}"),
        ("token", "mint", "--audience", "a", "{}"),
    ],
)
@pytest.mark.parametrize("output", [(), ("-o", "json")])
def test_a_token_that_was_typed_is_refused_and_not_repeated(place, output, capsys, tmp_path):
    """It is in the shell's history already; it must not be in a log of our errors as well."""
    token = token_of()
    line = [each.format(token) for each in place]
    code, out, err = run(*output, *line, "--state-dir", str(tmp_path), capsys=capsys)
    assert (code, out) == (ExitCode.USAGE, "")
    assert token not in err
    assert token.split(".")[2] not in err


def test_inspect_reads_files_and_standard_input(capsys, tmp_path, monkeypatch):
    """Both ways a token may come, and both shapes of the answer; the warning is loud in each."""
    file, token = tmp_path / "t", token_of()
    file.write_text(token + "\n")
    code, out, err = run("token", "inspect", "--token-file", str(file), capsys=capsys)
    assert code == 0
    assert out.startswith("signature\tnot verified\tNOT VERIFIED")
    assert err.startswith("NOT VERIFIED")
    assert token.split(".")[2] not in out + err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(token.encode())))
    code, out, _ = run("token", "inspect", "--token-file", "-", "-o", "json", capsys=capsys)
    shown = json.loads(out)
    assert (code, shown["kind"], shown["verified"], shown["claims"]["jti"]) == (0, "TokenInspection", False, "j-1")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["inspect", "--token-file", "/nowhere/t"], "token_file_unreadable"),
        (["inspect"], "usage"),
        (["mint"], "usage"),
        (["mint", "--audience", "a"], "not_running"),
        (["verify", "--token-file", "FILE", "--audience", "a"], "not_running"),
        (["introspect", "--token-file", "FILE"], "not_running"),
        (["exchange", "--token-file", "FILE", "--audience", "a", "--subject-token-type", "saml2"], "usage"),
        (["revoke"], "usage"),
        (["revoke", "--jti", "j", "--token-file", "FILE"], "usage"),
        (["revoke", "--jti", "j", "--as", "planner"], "usage"),
        (["revoke", "--jti", "j"], "confirmation_needed"),
        (["revoke", "--jti", "j", "--yes"], "not_running"),
        (["revoke", "--token-file", "FILE", "--yes"], "not_running"),
    ],
)
def test_each_failure_has_a_code_and_a_next_step(line, code, capsys, tmp_path, monkeypatch):
    """Four lines, as everywhere."""
    for name in ("AGENTSHIELD_TOKEN_SERVICE", "SPIFFE_ENDPOINT_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "t"
    file.write_text(token_of())
    line = [str(file) if each == "FILE" else each for each in line]
    _, out, err = run("token", *line, "--state-dir", str(tmp_path / "state"), capsys=capsys)
    assert out == ""
    assert f"code:  {code}\n" in err
    assert "next:  " in err
