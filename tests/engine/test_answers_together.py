"""Answers that come, end, are cut off and make room for each other go on as each would alone.

Runtime, scheduler, pages and the graph runner are the real ones; the model is a function of all
tokens that a step finds behind its row's pages.
"""

from __future__ import annotations

import hashlib
import random
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton")

import torch

from quantchat.engine import graph_runner, runtime, sequence
from quantchat.engine.graph_runner import GraphRunner
from quantchat.engine.pages import PageAllocator
from quantchat.engine.runtime import Runtime
from quantchat.events import Done, Event, Failed, Token
from quantchat.requests import ChatRequest, Message, Sampling

VOCAB, ROWS, REQUESTS = 97, 8, 20


def following(tokens: list[int]) -> int:
    digest = hashlib.blake2b(repr(tokens).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % VOCAB


class Cache:
    """Pages that hold tokens in place of keys and values."""

    def __init__(self, page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self.held: dict[int, int] = {}

    def place(self, pages: list[int], at: int) -> int:
        return pages[at // self.page_tokens] * self.page_tokens + at % self.page_tokens

    def put(self, pages: list[int], at: int, token: int) -> None:
        self.held[self.place(pages, at)] = token

    def first(self, pages: list[int], count: int) -> list[int]:
        return [self.held[self.place(pages, at)] for at in range(count)]


class Eager:
    """Prompts, a chunk at a time."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def prefill(self, one: Any, start: int, count: int) -> int | None:
        for at in range(start, start + count):
            self._cache.put(one.pages, at, one.tokens[at])
        whole = start + count == len(one.tokens)
        return following(self._cache.first(one.pages, start + count)) if whole else None


class Rows:
    """A captured step's buffers, see engine.decode_rows."""

    def __init__(self, cache: Cache, context_tokens: int, max_pages: int) -> None:
        self._cache, self._context, self._pages = cache, context_tokens, max_pages
        self.ring: dict[tuple[int, int], int] = {}
        self.clear()

    def clear(self) -> None:
        self.ids, self.lengths, self.indices = [0] * ROWS, [1] * ROWS, [0] * ROWS
        self.active = [0] * ROWS
        self.table = [[0] * self._pages for _ in range(ROWS)]

    def seat(self, row: int, one: Any, tokens: list[int]) -> None:
        self.ids[row], self.lengths[row], self.active[row] = tokens[-1], len(tokens), 1
        self.indices[row] = one.draws_of(len(tokens))

    def unseat(self, row: int) -> None:
        self.active[row], self.lengths[row], self.table[row] = 0, 1, [0] * self._pages

    def put_pages(self, row: int, start: int, pages: list[int]) -> None:
        self.table[row][start : start + len(pages)] = pages

    def token(self, row: int, index: int) -> int:
        return self.ring[index % 2, row]

    def step(self, rows: int) -> None:
        for row in range(rows):
            at, pages = self.lengths[row] - 1, self.table[row]
            assert at < self._context
            assert not self.active[row] or pages[at // self._cache.page_tokens], (
                "page 0 is nobody's"
            )
            self._cache.put(pages, at, self.ids[row])
            token = following(self._cache.first(pages, self.lengths[row]))
            self.ids[row] = self.ring[self.indices[row] % 2, row] = token
            self.lengths[row] += self.active[row]
            self.indices[row] += self.active[row]


class Graphs(dict[Any, Any]):
    """A graph of every variant."""

    def __init__(self, rows: Rows) -> None:
        self._step = rows.step

    def __contains__(self, variant: object) -> bool:
        return True

    def __missing__(self, variant: Any) -> Any:
        return SimpleNamespace(replay=lambda: self._step(variant.rows))


def graph_runner_on(cache: Cache, context_tokens: int) -> GraphRunner:
    made: Any = GraphRunner.__new__(GraphRunner)
    rows = Rows(cache, context_tokens, -(-(context_tokens + ROWS) // cache.page_tokens))
    made._eager, made._buffers, made._graphs = Eager(cache), rows, Graphs(rows)
    made._rows, made._indices, made._pages_written = [None] * ROWS, [0] * ROWS, [0] * ROWS
    made._pending = None
    runner: GraphRunner = made
    return runner


def expected(ids: list[int], eos: set[int], most: int, context: int) -> tuple[list[int], str]:
    tokens = list(ids)
    while (token := following(tokens)) not in eos:
        tokens.append(token)
        if most and len(tokens) - len(ids) == most:
            return tokens[len(ids) :], "length"
        if len(tokens) == context:
            return tokens[len(ids) :], "context"
    return tokens[len(ids) :], "stop"


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    spelled = SimpleNamespace(push=lambda token: f"{token} ", flush=lambda: "")
    monkeypatch.setattr(sequence, "_detokenizer", lambda *_: spelled)
    monkeypatch.setattr(runtime, "memory_use", lambda _: None)
    monkeypatch.setattr(Runtime, "_metrics", lambda *_: None)

    def prompt_of(_: object, messages: tuple[Message, ...], **__: object) -> Any:
        return SimpleNamespace(
            ids=[int(x) for x in messages[0].content.split()], dropped_messages=0
        )

    monkeypatch.setattr(runtime, "prompt_of", prompt_of)


@pytest.mark.parametrize("seed", range(12))
def test_each_answer_is_what_it_would_be_alone(seed: int) -> None:
    assert graph_runner.ROW_BUCKETS[-1] == ROWS
    chance = random.Random(seed)
    cache, context = Cache(chance.choice([4, 8])), chance.choice([24, 40, 64])
    whole = -(-context // cache.page_tokens)
    pages = chance.choice([whole + 2, 2 * whole, 60])
    eos = {chance.randrange(VOCAB) for _ in range(chance.choice([0, 2, 6]))}
    model: Any = SimpleNamespace(
        plan=SimpleNamespace(
            context_tokens=context, prefill_chunk_tokens=chance.choice([4, 7, 16]), device="cpu"
        ),
        make_runner=lambda: graph_runner_on(cache, context),
        use_device=lambda: None,
        max_rows=ROWS,
        steps_ahead=1,
        pages=PageAllocator(pages, cache.page_tokens),
        pool=SimpleNamespace(page_tokens=cache.page_tokens, page_bytes=1, pages=pages),
        joules=lambda: None,
        tokenizer=SimpleNamespace(eos_ids=eos, template=SimpleNamespace(stops=())),
    )
    events: list[Event] = []
    work = Runtime("main", model, events.append)
    prompts: list[tuple[list[int], int]] = []
    cancelled: set[int] = set()
    steps = 0
    while len(prompts) < REQUESTS or work.busy:
        steps += 1
        assert steps < 20_000, "answers do not end"
        if len(prompts) < REQUESTS and chance.random() < 0.15:
            ids = [chance.randrange(VOCAB) for _ in range(chance.randrange(1, context - 2))]
            if prompts and chance.random() < 0.6:
                known, _ = chance.choice(prompts)
                ids = (known[: chance.randrange(1, len(known) + 1)] + ids[:5])[: context - 2]
            prompts.append((ids, chance.choice([0, 1, 5, 20])))
            text = Message("user", " ".join(map(str, ids)))
            greedy = Sampling(temperature=0)
            request = ChatRequest(messages=(text,), sampling=greedy, max_tokens=prompts[-1][1])
            work.submit(len(prompts) - 1, request, 0.0)
        if prompts and chance.random() < 0.03:
            chosen = chance.randrange(len(prompts))
            if work.cancel(chosen):
                cancelled.add(chosen)
        if work.busy:
            work.step()
    assert not any(isinstance(event, Failed) for event in events)
    ended = {event.request_id: event for event in events if isinstance(event, Done)}
    for i, (ids, most) in enumerate(prompts):
        tokens, reason = expected(ids, eos, most, context)
        got = [e.token_id for e in events if isinstance(e, Token) and e.request_id == i]
        if ended[i].finish_reason == "cancelled":
            assert i in cancelled and got == tokens[: len(got)]
        else:
            assert (got, ended[i].finish_reason) == (tokens, reason)
    assert model.pages.used == 0
