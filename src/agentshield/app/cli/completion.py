"""`agentshield completion SHELL`: click's own completion scripts."""

import click

from agentshield.app.command import Command

_SHELLS = ("bash", "zsh", "fish")
_WHERE = {
    "bash": 'eval "$(agentshield completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(agentshield completion zsh)"   # in ~/.zshrc',
    "fish": "agentshield completion fish > ~/.config/fish/completions/agentshield.fish",
}


@click.command(name="completion", cls=Command, epilog="Install with, for example:  " + _WHERE["bash"])
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click ships the three above
    root = context.find_root().command
    print(f"# {_WHERE[shell]}")
    print(kind(root, {}, "agentshield", "_AGENTSHIELD_COMPLETE").source())
