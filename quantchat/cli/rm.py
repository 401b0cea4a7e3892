"""`quantchat rm NAME`: delete a downloaded model, or give an unfinished download up."""

from __future__ import annotations

import click


@click.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(name: str, yes: bool) -> None:
    """Delete a model that quantchat downloaded, or what came of an unfinished download."""
    from quantchat.hub.giving_up import give_up
    from quantchat.hub.local import find, remove, resolve
    from quantchat.sizes import size_words

    if find(name) is None:
        freed_bytes = give_up(name)
        if freed_bytes is not None:
            click.echo(f"{name} is not wanted any more, {size_words(freed_bytes)} freed")
            return
    model = resolve(name)
    if not yes and model.origin == "download":
        click.confirm(
            f"Delete {model.name} ({size_words(model.size_bytes)}) at {model.path}?", abort=True
        )
    click.echo(f"{name} is gone, {size_words(remove(name))} freed")
