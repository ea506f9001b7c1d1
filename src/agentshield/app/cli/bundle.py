"""`agentshield bundle`: the trust bundles we hold, ours and those of federated domains."""

import json
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import BUNDLE
from agentshield.app.command import Noun
from agentshield.app.invocation import current

FORMATS = ("pem", "spiffe", "jwks")
_FORMAT = click.option("--format", "form", type=click.Choice(FORMATS), help="Print the bundle itself in this format.")


@click.group(name="bundle", cls=Noun)
def command() -> None:
    """Trust bundles: the authorities of a trust domain."""


@command.command()
@click.argument("trust_domain", required=False)
@_FORMAT
def show(trust_domain: str | None, form: str | None) -> None:
    """Show a bundle; ours unless a trust domain is named."""
    invocation = current()
    bundle = invocation.admin.get(f"/v1/bundles/{segment(trust_domain or 'self')}")
    if form:
        sys.stdout.write(document_in(bundle, form))
    else:
        invocation.output.show(BUNDLE, bundle)


@command.command(name="list")
def list_bundles() -> None:
    """List the bundles: ours first."""
    invocation = current()
    invocation.output.show_all(BUNDLE, invocation.admin.items("/v1/bundles"))


@command.command(name="set")
@click.argument("trust_domain")
@click.option("--format", "form", type=click.Choice(FORMATS), default="spiffe", show_default=True)
@click.option("--file", type=click.File("rb"), default="-", help="Where the bundle is; stdin unless named.")
def set_bundle(trust_domain: str, form: str, file: BinaryIO) -> None:
    """Trust another trust domain: set or replace its bundle."""
    invocation = current()
    content = file.read(4 << 20)
    body = {"format": form, "document": content.decode("utf-8", "replace")}
    invocation.output.show(BUNDLE, invocation.admin.put(f"/v1/bundles/{segment(trust_domain)}", body))


@command.command()
@click.argument("trust_domain")
def delete(trust_domain: str) -> None:
    """Stop trusting another trust domain."""
    invocation = current()
    invocation.confirm(f"delete the bundle of {trust_domain}? its workloads are refused from then on")
    invocation.admin.delete(f"/v1/bundles/{segment(trust_domain)}")
    invocation.output.say(f"deleted the bundle of {trust_domain}")


@command.command()
@_FORMAT
def watch(form: str | None) -> None:
    """Print our bundle, and again whenever it changes."""
    invocation = current()
    bundles = invocation.admin.stream("/v1/bundles/self/watch")
    if form is None:
        invocation.output.stream(BUNDLE, bundles)
        return
    for bundle in bundles:
        print(document_in(bundle, form), flush=True)


def document_in(bundle: Mapping[str, Any], form: str) -> str:
    """Give the bundle's own bytes in the format asked for."""
    match form:
        case "pem":
            return str(bundle["pem"])
        case "spiffe":
            return json.dumps(bundle["spiffe"], indent=2) + "\n"
        case _:
            return (
                json.dumps({"keys": [k for k in bundle["spiffe"]["keys"] if k.get("use") == "jwt-svid"]}, indent=2)
                + "\n"
            )
