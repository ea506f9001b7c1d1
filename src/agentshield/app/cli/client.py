"""`agentshield client`: what an agent may prove itself by at the token service, beside its SVIDs."""

import base64
import ssl
from datetime import timedelta
from pathlib import Path

import click

from agentshield.app.admin_client import segment
from agentshield.app.cli.shapes import CLIENT
from agentshield.app.command import Noun
from agentshield.app.durations import DURATION
from agentshield.app.invocation import current
from agentshield.app.secret_file import write_secret

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="client", cls=Noun)
def command() -> None:
    """Clients of the token service; an agent's SVIDs need none, other proofs do."""


@command.command()
@click.argument("client_id")
@click.option("--agent", required=True, metavar="AGENT", help="Which agent it is.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    required=True,
    metavar="METHOD",
    help="How it proves itself, in OAuth's words, such as private_key_jwt; repeat.",
)
@click.option("--jwks-file", type=_FILE, help="Its public keys (JWK Set), for private_key_jwt.")
@click.option("--attester-jwks-file", type=_FILE, help="The public keys of who attests its instances (JWK Set).")
@click.option("--tls-ca-file", type=_FILE, help="Its certificate's authority (PEM), for tls_client_auth.")
@click.option("--tls-san-dns", metavar="NAME", help="The DNS name in that certificate, or:")
@click.option("--tls-san-uri", metavar="URI", help="The URI in it.")
@click.option(
    "--redirect-uri",
    "redirect_uris",
    multiple=True,
    metavar="URL",
    help="Where a human's browser may be sent back to, to the letter; repeat.",
)
@click.option("--notification-endpoint", metavar="URL", help="Where it is told that a human has answered (CIBA ping).")
@click.option("--notification-ca-file", type=_FILE, help="Who vouches for that, if not the system's authorities (PEM).")
def create(
    client_id: str,
    agent: str,
    methods: tuple[str, ...],
    jwks_file: Path | None,
    attester_jwks_file: Path | None,
    tls_ca_file: Path | None,
    tls_san_dns: str | None,
    tls_san_uri: str | None,
    redirect_uris: tuple[str, ...],
    notification_endpoint: str | None,
    notification_ca_file: Path | None,
) -> None:
    """Register a client of an agent. Files hold public keys only: a private one is refused."""
    invocation = current()
    body = {
        "client_id": client_id,
        "agent": agent,
        "methods": list(methods),
        "jwks": _encoded(jwks_file),
        "attester_jwks": _encoded(attester_jwks_file),
        "tls_ca": _encoded_certificate(tls_ca_file),
        "tls_san_dns": tls_san_dns,
        "tls_san_uri": tls_san_uri,
        "redirect_uris": list(redirect_uris),
        "notification_endpoint": notification_endpoint,
        "notification_ca_pem": _encoded(notification_ca_file),
    }
    invocation.output.show(CLIENT, invocation.admin.post("/v1/clients", body))


@command.command(name="list")
def list_clients() -> None:
    """List the clients."""
    invocation = current()
    invocation.output.show_all(CLIENT, invocation.admin.items("/v1/clients"))


@command.command()
@click.argument("client_id")
def show(client_id: str) -> None:
    """Show one client."""
    invocation = current()
    invocation.output.show(CLIENT, invocation.admin.get(f"/v1/clients/{segment(client_id)}"))


@command.command()
@click.argument("client_id")
def delete(client_id: str) -> None:
    """Delete a client; its agent gets no more tokens under this name."""
    invocation = current()
    client = invocation.admin.get(f"/v1/clients/{segment(client_id)}")
    invocation.confirm(f"delete client {client_id} of {client['agent']}?")
    invocation.admin.delete(f"/v1/clients/{segment(client_id)}")
    invocation.output.say(f"deleted {client_id}; tokens it was given last until they expire, minutes at most")


@command.command()
@click.argument("client_id")
@click.option("--ttl", type=DURATION, required=True, help="When it ends; at most 90d.")
@click.option("--reason", required=True, metavar="TEXT", help="Why it cannot use its SVID; kept in the audit log.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="Write the secret to this file, 0600. It is shown nowhere.",
)
def secret(client_id: str, ttl: timedelta, reason: str, out: Path) -> None:
    """Make a secret for a client that cannot do better yet, in place of its former one.

    For clients registered for client_secret_basic or client_secret_post. It is an exception with an end and a reason.
    """
    invocation = current()
    if out.exists():
        raise click.UsageError(f"{out} exists; a secret is written to a new file", click.get_current_context())
    body = {"lifetime": int(ttl.total_seconds()), "reason": reason}
    made = invocation.admin.post(f"/v1/clients/{segment(client_id)}/secret", body)
    write_secret(out, made["secret"])
    invocation.output.say(f"secret of {client_id} written to {out}; it ends at {made['expires_at']}")


def _encoded_certificate(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return base64.b64encode(ssl.PEM_cert_to_DER_cert(path.read_text())).decode()
    except (ValueError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not one certificate in PEM", param_hint="--tls-ca-file") from error


def _encoded(path: Path | None) -> str | None:
    return None if path is None else base64.b64encode(path.read_bytes()).decode()
