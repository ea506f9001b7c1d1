"""`agentshield issuer`: external issuers whose tokens we accept."""

import base64
import sys
from pathlib import Path

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import CLAIM_CHECK, ISSUER
from agentshield.app.command import Noun
from agentshield.app.exit_codes import ExitCode
from agentshield.app.invocation import Invocation, current

_CASES = ("good", "expired", "wrong-audience", "two-audiences", "wrong-issuer", "no-subject")
_EXAMPLE_SIGNATURE = "the signature of an example never holds: a throwaway key made it"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="issuer", cls=Noun)
def command() -> None:
    """External issuers: whose word we take for who somebody is, and how far."""


@command.command()
@click.argument("name")
@click.option(
    "--preset", required=True, metavar="NAME", help="Whose: entra-v2, okta, auth0, keycloak, kubernetes, github, …"
)
@click.option("--issuer", required=True, metavar="ISS", help="Exactly the `iss` of its tokens.")
@click.option("--audience", "audiences", multiple=True, help="Who its tokens are for; our issuer name unless told.")
@click.option("--scope", "scopes", multiple=True, help="What its users' tokens may be exchanged for; repeat.")
@click.option("--jwks-url", help="Where its keys are, if its metadata does not say.")
@click.option("--jwks-file", type=_FILE, help="Its keys, if they cannot be fetched.")
@click.option("--ca-file", type=_FILE, help="Who vouches for its web server, if not the system's authorities (PEM).")
@click.option("--sign-in-client-id", metavar="ID", help="Let its humans sign in here, where we are this client.")
@click.option(
    "--sign-in-method",
    type=click.Choice(["private_key_jwt", "none"]),
    default="private_key_jwt",
    show_default=True,
    help="How we prove ourselves there: by the key set at our /oauth/jwks, or as a public client.",
)
@click.option("--sign-in-scope", "sign_in_scopes", multiple=True, help="What we ask for beside openid; repeat.")
@click.option("--sign-in-name-claim", metavar="CLAIM", help="What to call them on the page, such as name.")
def add(
    name: str,
    preset: str,
    issuer: str,
    audiences: tuple[str, ...],
    scopes: tuple[str, ...],
    jwks_url: str | None,
    jwks_file: Path | None,
    ca_file: Path | None,
    sign_in_client_id: str | None,
    sign_in_method: str,
    sign_in_scopes: tuple[str, ...],
    sign_in_name_claim: str | None,
) -> None:
    """Accept an issuer's tokens, as far as its preset goes."""
    invocation = current()
    if sign_in_client_id is None and (sign_in_scopes or sign_in_name_claim):
        raise click.UsageError("--sign-in-client-id is missing", click.get_current_context())
    sign_in = {
        "client_id": sign_in_client_id,
        "method": sign_in_method,
        "scopes": list(sign_in_scopes),
        "name_claim": sign_in_name_claim,
    }
    body = {
        "name": name,
        "preset": preset,
        "issuer": issuer,
        "audiences": list(audiences),
        "scopes": list(scopes),
        "jwks_url": jwks_url,
        "jwks": _encoded(jwks_file),
        "ca_pem": _encoded(ca_file),
        "sign_in": None if sign_in_client_id is None else sign_in,
    }
    invocation.output.show(ISSUER, invocation.admin.post("/v1/issuers", body))


@command.command(name="list")
def list_issuers() -> None:
    """List the issuers."""
    invocation = current()
    invocation.output.show_all(ISSUER, invocation.admin.items("/v1/issuers"))


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one issuer."""
    invocation = current()
    invocation.output.show(ISSUER, invocation.admin.get(f"/v1/issuers/{segment(name)}"))


@command.command()
@click.argument("name")
@click.option("--token-file", type=_FILE, help="A file that holds a sample token; standard input unless named.")
@click.option(
    "--example",
    is_flag=False,
    flag_value="good",
    type=click.Choice(_CASES),
    help="Instead: a token in the shape of the issuer's preset, made on the spot and signed with a throwaway key.",
)
def test(name: str, token_file: Path | None, example: str | None) -> None:
    """Walk through each claim of a sample token; exits 3 if it would be refused.

    With --example, or --example=expired and the like, no token is needed yet. Its signature cannot hold, by intent;
    exits 3 if anything else about it would be refused.
    """
    invocation = current()
    if example is not None:
        if token_file is not None:
            raise click.UsageError("name one of --token-file and --example", click.get_current_context())
        _test_example(invocation, name, example)
        return
    token = token_file.read_text() if token_file is not None else sys.stdin.read()
    answer = invocation.admin.post(f"/v1/issuers/{segment(name)}/test", {"token": token.strip()})
    invocation.output.show_all(CLAIM_CHECK, answer["items"])
    if not all(check["holds"] for check in answer["items"]):
        raise click.exceptions.Exit(ExitCode.ANSWER_IS_NO)


def _test_example(invocation: Invocation, name: str, example: str) -> None:
    """The issuer's own record is asked, as with a real token; federated credentials are for real subjects, so apart."""
    from agentshield.clock import system_clock
    from agentshield.oauth.issuers.samples import SampleCase, sample_token

    record = invocation.admin.get(f"/v1/issuers/{segment(name)}")
    token = sample_token(
        record["preset"] or "",
        issuer=record["issuer"],
        audience=record["audiences"][0],
        case=SampleCase(example),
        at=system_clock(),
    )
    checks = invocation.admin.post(f"/v1/issuers/{segment(name)}/test", {"token": token})["items"]
    shown = [check | {"note": _EXAMPLE_SIGNATURE} if check["claim"] == "signature" else check for check in checks]
    invocation.output.show_all(CLAIM_CHECK, shown)
    apart = ("signature", "credential ")
    faults = [check["claim"] for check in checks if not check["holds"] and not check["claim"].startswith(apart)]
    verdict = f"fails: {', '.join(faults)}" if faults else "every claim of the issuer's holds"
    invocation.output.say(f"example {example!r} in the shape of {record['preset']}: {verdict}; {_EXAMPLE_SIGNATURE}")
    if faults:
        raise click.exceptions.Exit(ExitCode.ANSWER_IS_NO)


@command.command()
@click.argument("name")
def remove(name: str) -> None:
    """Stop believing an issuer."""
    invocation = current()
    invocation.confirm(f"remove issuer {name}? its tokens are refused from now on")
    invocation.admin.delete(f"/v1/issuers/{segment(name)}")
    invocation.output.say(f"removed {name}")


def _encoded(path: Path | None) -> str | None:
    return None if path is None else base64.b64encode(path.read_bytes()).decode()
