"""The `quantchat` command: parses words, imports a command's module only when it runs.

Exit codes: 0; 2 for usage; 130 after Ctrl+C; 1 with one line and a hint for the rest. `--debug`
shows the traceback.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import NoReturn

import click

from quantchat import __version__
from quantchat.cli.terminal import harmless
from quantchat.errors import QuantchatError

COMMANDS = {
    "chat": ("quantchat.cli.chat", "Open the app (what `quantchat` alone does)."),
    "ask": ("quantchat.cli.ask", "Answer one prompt on stdout."),
    "compare": ("quantchat.cli.compare", "Two schemes or models, one prompt: what differs."),
    "chats": ("quantchat.cli.chats", "List, search, export and import conversations."),
    "models": ("quantchat.cli.models", "List models on disk and in the catalog."),
    "pull": ("quantchat.cli.pull", "Download a model."),
    "rm": ("quantchat.cli.rm", "Delete a model from disk."),
    "probe": ("quantchat.cli.probe", "Show the machine, the plan and its reasons."),
    "bench": ("quantchat.cli.bench", "Measure decode and prefill, beside peers."),
    "eval": ("quantchat.cli.eval", "Measure quality against the 16-bit model."),
    "quantize": ("quantchat.cli.quantize", "Write a quantized copy that loads by itself."),
}
"""Name -> module with a click command called `command`, and its line in the help."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run, not when help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="quantchat")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def group(ctx: click.Context, debug: bool) -> None:
    """Chat in the terminal with quantized language models run on your own card."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(importlib.import_module(COMMANDS["chat"][0]).command)


def main() -> NoReturn:
    """Run the command line and exit."""
    debug = "--debug" in sys.argv
    _open_streams()
    try:
        result = group.main(standalone_mode=False)
        # click returns the code of `ctx.exit` here instead of raising it.
        code = result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = 130
    except BrokenPipeError:
        code = 0
    except QuantchatError as error:
        if debug:
            raise
        click.echo(harmless(f"quantchat: {error.message}", sys.stderr), err=True)
        if error.hint:
            click.echo(harmless(f"hint: {error.hint}", sys.stderr), err=True)
        code = error.exit_code
    except OSError as error:
        if debug:
            raise
        _tell_refused(error)
        code = 1
    sys.exit(code)


def _open_streams() -> None:
    """A closed stream is an empty one, and what its encoding lacks is written as `?`."""
    # Else the next file that is opened takes its number, and what prints writes into it.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin = sys.stdin or io.StringIO()
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def _tell_refused(error: OSError) -> None:
    """What the system refused, and of what."""
    debug = "`quantchat --debug ...` shows where it failed"
    if error.filename is None:
        click.echo(f"quantchat: {error.strerror or error}\nhint: {debug}", err=True)
        return
    click.echo(f"quantchat: {error.filename}: {error.strerror}", err=True)
    home = "QUANTCHAT_HOME=/some/folder puts all that quantchat writes there"
    click.echo(f"hint: {home}; {debug}", err=True)
