"""Comparisons made by hand: what two models said, without any model."""

from __future__ import annotations

from fake_facts import metrics_of, model_info

from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.events import Candidate, FinishReason, TokenScore
from quantchat.requests import LoadRequest, Message, Sampling

MADE_S = 1_795_000_000.25
VOCABULARY: dict[str, int] = {}
"""Ids of pieces, given out as they are first seen."""


def piece_id(piece: str) -> int:
    """The same id for the same piece."""
    return VOCABULARY.setdefault(piece, len(VOCABULARY) + 10)


def pieces_of(text: str) -> tuple[str, ...]:
    """Words with the blank in front of them."""
    words = text.split(" ")
    return tuple(word if at == 0 else f" {word}" for at, word in enumerate(words) if word or at)


def answer(text: str, *, finish: FinishReason = "stop", scheme: str = "fp16") -> Answer:
    """What a side of that scheme wrote."""
    pieces = pieces_of(text)
    info = model_info(LoadRequest(model="starter", scheme=scheme), 2048)
    return Answer(
        text="".join(pieces),
        token_ids=tuple(piece_id(piece) for piece in pieces),
        pieces=pieces,
        finish_reason=finish,
        metrics=metrics_of(len(pieces), info),
    )


def score(
    piece: str,
    *,
    p: float = 0.5,
    base_p: float | None = 0.5,
    kl: float | None = 0.0,
    same_top: bool | None = True,
) -> TokenScore:
    """A token in the eyes of two models; the second candidate is the other's first where they part."""
    other = Candidate(token_id=1, text=" other", p=0.4)
    mine = Candidate(token_id=piece_id(piece), text=piece, p=p)
    return TokenScore(
        token_id=piece_id(piece),
        text=piece,
        p=p,
        top=(other, mine) if same_top is False else (mine, other),
        base_p=base_p,
        base_top=() if base_p is None else (mine, other),
        kl=kl,
        same_top=same_top,
    )


def free_round(left: str, right: str, *, prompt: str = "Why is the sky blue?") -> Round:
    """A prompt that both answered."""
    return Round(
        mode="free",
        messages=(Message("system", "Be brief."), Message("user", prompt)),
        sampling=Sampling(temperature=0.0, seed=7),
        left=answer(left),
        right=answer(right, scheme="int4"),
    )


def guided_round(text: str, kls: tuple[float, ...]) -> Round:
    """A prompt that the left answered and the right scored."""
    written = answer(text)
    scores = tuple(
        score(piece, p=0.5 - kl / 4, base_p=0.5, kl=kl, same_top=kl < 0.5)
        for piece, kl in zip(written.pieces, kls, strict=True)
    )
    return Round(
        mode="guided",
        messages=(Message("user", "Why?"),),
        sampling=Sampling(temperature=0.7, top_k=40, seed=11),
        left=written,
        right=None,
        scores=scores,
    )


def comparison(
    *rounds: Round, right_scheme: str = "int4", right_model: str = "starter"
) -> Comparison:
    """fp16 beside another scheme."""
    return Comparison(
        left=model_info(LoadRequest(slot="left", model="starter", scheme="fp16"), 2048),
        right=model_info(LoadRequest(slot="right", model=right_model, scheme=right_scheme), 2048),
        rounds=rounds,
        took_turns=False,
        made_s=MADE_S,
        versions=(("quantchat", "0.5.0"), ("torch", "2.13.0")),
    )
