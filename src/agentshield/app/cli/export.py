"""`agentshield export`: what to tell another service, so that it takes an agent of ours for an identity of its own."""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from agentshield.app import foreign_trust
from agentshield.app.admin_client import segment
from agentshield.app.command import Noun
from agentshield.app.foreign_trust import AWS_AUDIENCE, ENTRA_AUDIENCE, Documents, ForeignTrust
from agentshield.app.invocation import current
from agentshield.identity.spiffe_id import SpiffeId

_OUT = "agentshield.export.out"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="export", cls=Noun)
def command() -> None:
    """What to tell Entra, AWS, Google Cloud, OpenAI, Anthropic or Keycloak, so that one agent is one identity there."""


def _remember(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    context.meta[_OUT] = value


def _whom(audience: str | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags that every service needs; `audience` is its own name, where it has one."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        options = [
            click.option("--agent", required=True, metavar="NAME", help="Which agent; one, by name."),
            click.option("--issuer", metavar="URL", help="Where others find us: our token service's name unless told."),
            click.option(
                "--audience",
                default=audience,
                required=audience is None,
                show_default=audience is not None,
                help="Whom its tokens are for.",
            ),
            click.option("--name", help="What to call it there; the agent's name unless told."),
            click.option(
                "--out",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE",
                expose_value=False,
                callback=_remember,
                help="Write the documents to this file, not to stdout.",
            ),
        ]
        return reduce(lambda f, option: option(f), reversed(options), function)

    return add


@command.command()
@_whom(ENTRA_AUDIENCE)
def entra(**whom: str | None) -> None:
    """A federated identity credential: az ad app federated-credential create --id APP --parameters FILE."""
    trust = _trust(**whom)
    _print(foreign_trust.entra(trust))
    _tell(trust, algorithm="RS256")


@command.command()
@_whom(AWS_AUDIENCE)
@click.option("--account", required=True, metavar="ID", help="The AWS account, twelve digits.")
def aws(account: str, **whom: str | None) -> None:
    """An OpenID Connect provider, and a role's trust policy."""
    trust = _trust(**whom)
    _print(foreign_trust.aws(trust, account=account))
    _tell(trust, algorithm="RS256")


@command.command()
@_whom(None)
@click.option("--project-number", required=True, metavar="NUMBER")
@click.option("--pool", required=True, metavar="ID", help="The workload identity pool.")
@click.option("--provider", required=True, metavar="ID", help="The provider in it.")
@click.option("--token-file", required=True, metavar="FILE", help="Where the workload keeps its token.")
def gcp(project_number: str, pool: str, provider: str, token_file: str, **whom: str | None) -> None:
    """A provider of a workload identity pool, and the workload's credential file."""
    trust = _trust(**whom)
    documents = foreign_trust.gcp(
        trust, project_number=project_number, pool=pool, provider=provider, token_file=token_file
    )
    _print(documents)
    _tell(trust)


@command.command()
@_whom("https://api.openai.com/v1")
@click.option("--project", required=True, metavar="ID", help="The project there.")
@click.option("--service-account", required=True, metavar="ID", help="The service account of that project.")
@click.option("--jwks-file", type=_FILE, help="Our key set, where it cannot be fetched.")
def openai(project: str, service_account: str, jwks_file: Path | None, **whom: str | None) -> None:
    """A workload identity provider, and a federation rule under it."""
    trust = _trust(**whom)
    _print(foreign_trust.openai(trust, project=project, service_account=service_account, jwks=_jwks(jwks_file)))
    _tell(trust, needs_fetching=jwks_file is None)


@command.command()
@_whom("https://api.anthropic.com")
@click.option("--service-account", required=True, metavar="ID", help="The service account there.")
@click.option("--workspace", required=True, metavar="ID", help="The one workspace it is for.")
@click.option("--jwks-file", type=_FILE, help="Our key set, where it cannot be fetched.")
def anthropic(service_account: str, workspace: str, jwks_file: Path | None, **whom: str | None) -> None:
    """A federation issuer, and a rule under it; the rule's issuer_id is what creating the issuer answers."""
    trust = _trust(**whom)
    documents = foreign_trust.anthropic(
        trust, service_account=service_account, workspace=workspace, jwks=_jwks(jwks_file)
    )
    _print(documents)
    _tell(trust, needs_fetching=jwks_file is None)


@command.command()
@_whom(None)
@click.option("--bundle-endpoint", required=True, metavar="URL", help="Where our trust bundle is published.")
@click.option("--client", metavar="ID", help="The client there; the agent's SPIFFE ID unless told.")
def keycloak(bundle_endpoint: str, client: str | None, **whom: str | None) -> None:
    """A SPIFFE identity provider, and a client that authenticates by its JWT-SVID; --audience is the realm's issuer."""
    trust = _trust(**whom)
    _print(foreign_trust.keycloak(trust, bundle_endpoint=bundle_endpoint, client=client or trust.subject))
    say = current().output.say
    say("SPIFFE is a preview there: start Keycloak with the features client-auth-federated and spiffe")
    say(f"the agent shows: agentshield svid fetch --jwt --audience {trust.audience}")


def _trust(*, agent: str | None, issuer: str | None, audience: str | None, name: str | None) -> ForeignTrust:
    admin = current().admin
    shown: dict[str, Any] = admin.get(f"/v1/agents/{segment(agent or '')}")
    return ForeignTrust(
        issuer=issuer or str(admin.get("/v1/status")["token_service"]),
        agent=SpiffeId.parse(shown["spiffe_id"]),
        audience=audience or "",
        name=name or f"agentshield-{shown['name']}",
    )


def _jwks(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise click.BadParameter(f"{file} is no JWK Set", param_hint="--jwks-file")
    if any(not isinstance(key, dict) or {"d", "k"} & key.keys() for key in found["keys"]):
        raise click.BadParameter(f"{file} holds a private key", param_hint="--jwks-file")
    return found


def _print(documents: Documents) -> None:
    text = json.dumps(documents, indent=2, ensure_ascii=False) + "\n"
    out: Path | None = click.get_current_context().meta[_OUT]
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)


def _tell(trust: ForeignTrust, *, algorithm: str | None = None, needs_fetching: bool = True) -> None:
    """Say what else is to be done, and what is weaker there than here."""
    say = current().output.say
    if needs_fetching and not trust.is_public:
        say(f"warning: nobody outside can fetch the keys of {trust.issuer}; name another with --issuer")
    signed = f" --algorithm {algorithm}" if algorithm else ""
    say(f"here: agentshield resource create {trust.audience} --scope use{signed}, and the scope in the blueprint")
    say(f"then: agentshield token mint --audience {trust.audience} --scope use --out FILE")
    say("there, whoever holds the token is the agent: the service does not ask for the key that it is bound to")
