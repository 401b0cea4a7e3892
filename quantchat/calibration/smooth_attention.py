"""SmoothAttention: keys with few large channels made even, the inverse folded into queries.

4-bit keys share one scale over a head's values, so that an outlying channel costs all others their
digits (QServe, 2405.04532, section 4.2). Both values of a rotary pair, here neighbours 2i and
2i + 1, take one factor, which turning leaves in place.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from quantchat.calibration.layer import DenseLayer
from quantchat.spec import DecoderSpec

STRENGTH = 0.5
"""Exponent of the largest magnitude."""
FLOOR = 1e-3
"""Least factor, as a share of a head's largest: silent channels are not blown up."""


def key_peaks(layer: DenseLayer, inputs: torch.Tensor, spec: DecoderSpec) -> torch.Tensor:
    """Largest magnitude that a key's values reach at any position, float32 [Hk, D].

    inputs: what q, k and v are fed with, float [R, C]. Of a rotary pair it is the pair's length,
    which is what turning can make of either value.
    """
    keys = F.linear(inputs.float(), layer.k, layer.k_bias)
    keys = keys.view(-1, spec.kv_heads, spec.head_dim)
    if layer.k_norm is not None:
        keys = F.rms_norm(keys, (spec.head_dim,), layer.k_norm, spec.norm_eps)
    turning = spec.rope.rotary_dim
    even, odd = keys[..., 0:turning:2], keys[..., 1:turning:2]
    lengths = torch.hypot(even, odd).amax(dim=0)
    still = keys[..., turning:].abs().amax(dim=0)
    return torch.cat((lengths.repeat_interleave(2, dim=-1), still), dim=-1)


def smoothing(peaks: torch.Tensor, *, strength: float = STRENGTH) -> torch.Tensor:
    """Factors that keys are divided by, float32 [Hk, D], geometric mean 1 in each head."""
    floor = peaks.amax(dim=-1, keepdim=True) * FLOOR
    factors = torch.maximum(peaks, floor).clamp_min(1e-12).pow(strength)
    return factors / factors.log().mean(dim=-1, keepdim=True).exp()


def smoothed(layer: DenseLayer, peaks: torch.Tensor, spec: DecoderSpec) -> DenseLayer:
    """The layer with keys divided and queries multiplied by the factors of `peaks` [Hk, D].

    Folded into rows of q and k, or into the weights of their norms where there are such; those are
    shared by all heads, and so is the factor then.
    """
    if layer.q_norm is not None and layer.k_norm is not None:
        shared = smoothing(peaks.amax(dim=0, keepdim=True))[0]
        return replace(layer, q_norm=layer.q_norm * shared, k_norm=layer.k_norm / shared)
    factors = smoothing(peaks)
    keys = factors.flatten()
    queries = factors.repeat_interleave(spec.heads // spec.kv_heads, dim=0).flatten()
    return replace(
        layer,
        q=layer.q * queries[:, None],
        q_bias=None if layer.q_bias is None else layer.q_bias * queries,
        k=layer.k / keys[:, None],
        k_bias=None if layer.k_bias is None else layer.k_bias / keys,
    )
