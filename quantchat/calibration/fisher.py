"""Sensitivity of every weight: the diagonal of the Fisher information, layer by layer backwards.

F = mean over sequences of (dL/dw)^2, L the mean cross-entropy of a sequence's next tokens
(SqueezeLLM, 2306.07629, section 3.2). One forward pass keeps the stream in front of each layer; the
backward pass recomputes one layer at a time, so that no more than its weights and squares are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from quantchat.calibration.forward import LayerForward
from quantchat.calibration.layer import DenseLayer
from quantchat.calibration.walk import LayerWalk

LOGITS_SLICE = 1 << 24
"""Elements of logits held at a time: 64 MiB in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerSensitivity:
    """One layer with the sensitivity of its weights."""

    index: int
    layer: DenseLayer
    squares: dict[str, torch.Tensor]
    """Part -> float32 [N, K]: mean over sequences of (dL/dw)^2."""


@dataclass(frozen=True, slots=True, eq=False)
class TapedForward(LayerForward):
    """A forward that remembers what goes in and comes out of each linear."""

    tape: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Part -> inputs [R, K] and outputs float32 [R, N] of the last layer run."""

    def linear(self, layer: DenseLayer, part: str, x: torch.Tensor) -> torch.Tensor:
        """See LayerForward.linear."""
        out = LayerForward.linear(self, layer, part, x)
        self.tape[part] = x, out
        return out


def sensitivities(walk: LayerWalk) -> Iterator[LayerSensitivity]:
    """Layers from the last to the first; the walk stands at the first. Raises Cancelled.

    Of as many sequences as have their streams of all layers within the memory budget, in the type
    of products in main memory; at least of one.
    """
    spec, dtype = walk.spec, walk.forward.dtype
    tokens = walk.ids.shape[1]
    each = spec.layers * tokens * spec.hidden * dtype.itemsize
    sequences = max(1, min(len(walk.ids), walk.memory_bytes // each))
    walk.hidden, ids = walk.hidden[:sequences], walk.ids[:sequences]
    kept: list[torch.Tensor] = []
    for index in range(spec.layers):
        kept.append(walk.hidden.to("cpu", dtype))
        walk.advance(walk.read(index))
    slope = loss_gradient(walk, ids)
    for index in reversed(range(spec.layers)):
        forward = TapedForward(spec, walk.ropes[index], dtype)
        layer = walk.read(index)
        squares, slope = _backward(walk, forward, index, layer, kept.pop(), slope)
        yield LayerSensitivity(index, layer, squares)
        del layer, squares


def loss_gradient(walk: LayerWalk, ids: torch.Tensor) -> torch.Tensor:
    """Gradient of each sequence's mean next-token cross-entropy by the stream behind the layers.

    ids int64 [S, T], T >= 2; the walk stands behind the last layer -> float32 [S, T, C].
    """
    spec, hidden = walk.spec, walk.hidden
    tokens = ids.shape[1]
    norm = walk.reader.vector("final_norm")
    name = "embed" if spec.tied_head else "head"
    head = walk.reader.weight(name, "dense").dequantize(walk.forward.dtype)
    rows = max(1, LOGITS_SLICE // spec.vocab)
    gradient = torch.zeros_like(hidden)
    for s in range(len(ids)):
        walk.check()
        for start in range(0, tokens - 1, rows):
            end = min(start + rows, tokens - 1)
            with torch.enable_grad():
                x = hidden[s, start:end].detach().requires_grad_()
                logits = F.linear(walk.forward.norm(x, norm), head).float()
                loss = F.cross_entropy(logits, ids[s, start + 1 : end + 1], reduction="sum")
                (slope,) = torch.autograd.grad(loss, x)
            gradient[s, start:end] = slope / (tokens - 1)
    return gradient


def _backward(
    walk: LayerWalk,
    forward: TapedForward,
    index: int,
    layer: DenseLayer,
    hidden: torch.Tensor,
    slope: torch.Tensor,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Squares of a layer, and the slope of its input from that of its output, [S, T, C]."""
    squares: dict[str, torch.Tensor] = {}
    tokens, window = hidden.shape[1], walk.spec.window(index)
    behind: list[torch.Tensor] = []
    for s in range(len(hidden)):
        walk.check()
        with torch.enable_grad():
            x = hidden[s : s + 1].to(slope.device, torch.float32).requires_grad_()
            y, _ = forward.run(layer, x, window)
            outputs = [out for _, out in forward.tape.values()]
            dx, *slopes = torch.autograd.grad(y, [x, *outputs], slope[s : s + 1])
        for (part, (inputs, _)), dout in zip(forward.tape.items(), slopes, strict=True):
            assert inputs.shape[0] == tokens
            gradient = (dout.to(inputs.dtype).t() @ inputs.detach()).float().square_()
            if part in squares:
                squares[part].add_(gradient)
            else:
                squares[part] = gradient
        behind.append(dx)
    forward.tape.clear()
    for square in squares.values():
        square.div_(len(hidden))
    return squares, torch.cat(behind)
