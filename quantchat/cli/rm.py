"""`quantchat rm NAME`: delete a downloaded model."""

from __future__ import annotations

import click


@click.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(name: str, yes: bool) -> None:
    """Delete a model that quantchat downloaded."""
    from quantchat.cli.models import size
    from quantchat.hub.local import remove, resolve

    model = resolve(name)
    if not yes and model.origin == "download":
        click.confirm(
            f"Delete {model.name} ({size(model.size_bytes)}) at {model.path}?", abort=True
        )
    click.echo(f"{name} is gone, {size(remove(name))} freed")
