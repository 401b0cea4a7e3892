"""Ways into the model picker and to a repository's variants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from picker_support import GIB, offer, repo
from world import World

from quantchat.hub.http import SourceError
from quantchat.tui.control.library import ShelfPick
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.repo import RepoScreen

QWEN = "Qwen/Qwen2.5-7B-Instruct-GGUF"
GATED = "meta-llama/Llama-3.1-8B-Instruct"
FOUND = [
    repo(QWEN, downloads=1_234_567, likes=321),
    repo(GATED, downloads=999_999, likes=4000, gated=True, license="llama3.1"),
    *(repo(f"someone/Qwen3-{at}B-GGUF", downloads=5000 - at, updated="") for at in range(1, 40)),
]
OFFERS = {
    QWEN: offer(QWEN),
    GATED: offer(
        GATED,
        gated=True,
        may_fetch=False,
        license="llama3.1",
        architecture="LlamaForCausalLM",
        refusal=f"{GATED} is gated and you are not logged in",
        hint="accept its licence on its page, then run `hf auth login` or set HF_TOKEN",
    ),
}
LINES = [
    Transfer(
        name=QWEN,
        phase="running",
        done_bytes=GIB,
        total_bytes=4 * GIB,
        bytes_per_s=52e6,
        left_s=62.0,
        files_done=1,
        files=3,
        file="model-00002-of-00003.gguf",
    ),
    Transfer(name="someone/waits", phase="waiting", total_bytes=2 * GIB),
    Transfer(
        name="someone/stalled",
        phase="stalled",
        waits="tries again in 8 s",
        done_bytes=GIB,
        total_bytes=2 * GIB,
    ),
    Transfer(
        name="someone/failed",
        phase="failed",
        message="someone/failed is gated and you are not logged in",
        hint="accept its licence, then run `hf auth login`",
    ),
]


def picker(world: World) -> ModelsScreen:
    """The picker, which is open."""
    return next(each for each in world.app.screen_stack if isinstance(each, ModelsScreen))


def variants(world: World) -> RepoScreen:
    """The screen of a repository, which is open."""
    return next(each for each in world.app.screen_stack if isinstance(each, RepoScreen))


async def models(world: World) -> None:
    """Models on disk, recommended and in the catalog."""
    world.library.there["small"] = False
    world.library.picks = [ShelfPick(name="small", scheme="int4", memory="8 GiB", best=True)]
    world.library.found, world.library.offers = list(FOUND), dict(OFFERS)
    await world.opened("ctrl+o", ModelsScreen)
    screen = picker(world)
    await world.until(lambda: screen.rows.count == 3 + len(world.transfers.lines))
    await world.until(lambda: screen.fitting.of("starter"))


async def delete_model(world: World) -> None:
    """A question with two ways out."""
    await models(world)
    await world.opened("f8", Dialog)


async def figures(world: World) -> None:
    """The table of what fits, also where there is little room."""
    await models(world)
    if not picker(world).shows_table:
        await world.press("f6")


async def found(world: World) -> None:
    """What the hub found."""
    await models(world)
    picker(world).type("qwen")
    await world.until(lambda: picker(world).search.state == "found")
    await world.until(lambda: picker(world).rows.count >= 40)


async def offline(world: World) -> None:
    """The hub cannot be reached."""
    await models(world)
    world.library.search_error = SourceError(
        "huggingface.co could not be reached within 4 s", fault="unreachable"
    )
    picker(world).type("llama")
    await world.until(lambda: picker(world).search.state == "offline")


async def downloads(world: World) -> None:
    """Downloads in every state."""
    world.transfers.hold, world.transfers.lines = True, list(LINES)
    await models(world)


async def opened(world: World, name: str) -> RepoScreen:
    """The screen of a repository, above the conversation."""
    world.library.offers = dict(OFFERS)
    world.app.push_screen(RepoScreen(name))
    await world.front(RepoScreen)
    return variants(world)


async def repository(world: World) -> None:
    """What a repository offers, and what of it fits."""
    screen = await opened(world, QWEN)
    await world.until(lambda: screen.rows.count == 3)
    await world.until(lambda: all(screen.fitting.of(each.name) for each in OFFERS[QWEN].variants))


async def half_here(world: World) -> None:
    """A repository of which a variant is on its way."""
    name = OFFERS[QWEN].variants[0].name
    world.transfers.hold = True
    world.transfers.lines = [Transfer(name=name, phase="running", done_bytes=1, total_bytes=2)]
    await repository(world)


async def gated(world: World) -> None:
    """A repository whose licence must be accepted first."""
    screen = await opened(world, GATED)
    await world.until(lambda: screen.rows.count == 3)


async def missing(world: World) -> None:
    """A repository that is not there."""
    screen = await opened(world, "nobody/nothing")
    await world.until(lambda: "there is no" in screen.rows.text_on_screen())


MODEL_PLACES: dict[str, Callable[[World], Awaitable[object]]] = {
    "models": models,
    "delete-model": delete_model,
    "models-figures": figures,
    "models-found": found,
    "models-offline": offline,
    "models-downloads": downloads,
    "repository": repository,
    "repository-here": half_here,
    "repository-gated": gated,
    "repository-missing": missing,
}
