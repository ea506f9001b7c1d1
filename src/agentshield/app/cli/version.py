"""`agentshield version`."""

import platform

import click

from agentshield import __version__
from agentshield.app.command import Command
from agentshield.app.invocation import current
from agentshield.app.output import Column, Shape

SHAPE = Shape(
    "Version",
    "version",
    (
        Column("VERSION", "version"),
        Column("PYTHON", "python"),
        Column("OPENSSL", "openssl"),
        Column("PLATFORM", "platform"),
    ),
)


@click.command(name="version", cls=Command)
def command() -> None:
    """Show the version of AgentShield, Python and OpenSSL."""
    import ssl

    current().output.show(
        SHAPE,
        {
            "version": __version__,
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "platform": f"{platform.system()} {platform.machine()}",
        },
    )
