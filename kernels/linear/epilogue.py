"""What becomes of a finished tile: bias, scale, gate, residual, and what the next norm needs.

A tile is two halves [8 rows, 8 tokens]: rows r and r + 8, or gate and up of the same outputs.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def places_of(
    tile, r, m, token, outputs, rows, TOP: gl.constexpr, GATED: gl.constexpr, LE: gl.constexpr
):
    """(output, its place in y, whether the upper half is inside, and the lower), [8, 8] each."""
    BELOW: gl.constexpr = 0 if GATED else 8
    n = gl.set_auto_layout(tile * TOP + r + m * 0, LE)
    p = token.to(gl.int64) * outputs + n
    upper_in = (n < outputs) & (token < rows)
    lower_in = (n + BELOW < outputs) & (token < rows)
    return n, p, upper_in, lower_in


@gluon.jit
def load_halves(pointers, below, upper_in, lower_in):
    """Both halves in fp32, the lower one `below` elements further on."""
    upper = gl.load(pointers, mask=upper_in, other=0.0).to(gl.float32)
    lower = gl.load(pointers + below, mask=lower_in, other=0.0).to(gl.float32)
    return upper, lower


@gluon.jit
def sum_of_warps(mine, area, LR: gl.constexpr):
    """Halves of a tile from every warp's own part [W, 8, 4, 2, 2], through shared memory."""
    area.store(mine)
    # [8 rows, 4 pairs, half, 2 tokens] -> rows r and r + 8 (or gate and up), [8, 8 tokens].
    total = gl.sum(area.load(LR), 0)
    total = gl.permute(total, (0, 1, 3, 2))
    return gl.split(gl.reshape(total, [8, 8, 2]))


@gluon.jit
def gate_of(x, GELU: gl.constexpr):
    """silu, or gelu's tanh form: half of 1 + tanh(u) is the sigmoid of 2 u."""
    u = x
    if GELU:
        u = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + gl.exp(-u))


@gluon.jit
def over_rms(upper, lower, inverse, extra, EXTRA: gl.constexpr):
    """Both halves, with what a sparse product adds, times `inverse` [8 tokens]."""
    if EXTRA:
        upper += extra[0]
        lower += extra[1]
    upper *= gl.expand_dims(inverse, 0)
    lower *= gl.expand_dims(inverse, 0)
    return upper, lower


@gluon.jit
def scaled_and_biased(
    sums, scale, bias, FACTOR: gl.constexpr, CHANNEL: gl.constexpr, HAS_BIAS: gl.constexpr
):
    """Both halves times FACTOR and the scales of their outputs, plus bias."""
    upper, lower = sums
    if FACTOR != 1.0:
        upper *= FACTOR
        lower *= FACTOR
    if CHANNEL:
        upper *= scale[0]
        lower *= scale[1]
    if HAS_BIAS:
        upper += bias[0]
        lower += bias[1]
    return upper, lower


@gluon.jit
def added(sums, residual, y_ptr):
    """Both halves plus those of the residual, rounded as they will be stored."""
    dtype: gl.constexpr = y_ptr.dtype.element_ty
    upper = (sums[0] + residual[0]).to(dtype)
    lower = (sums[1] + residual[1]).to(dtype)
    return upper, lower


@gluon.jit
def store_gated(sums, y_ptr, place, GELU: gl.constexpr):
    """Writes the upper half, activated, times the lower one."""
    _n, p, upper_in, _lower_in = place
    gated = gate_of(sums[0], GELU) * sums[1]
    gl.store(y_ptr + p, gated.to(y_ptr.dtype.element_ty), mask=upper_in)


@gluon.jit
def store_halves(sums, y_ptr, place):
    """Writes both halves."""
    _n, p, upper_in, lower_in = place
    dtype: gl.constexpr = y_ptr.dtype.element_ty
    gl.store(y_ptr + p, sums[0].to(dtype), mask=upper_in)
    gl.store(y_ptr + p + 8, sums[1].to(dtype), mask=lower_in)


@gluon.jit
def hand_on(residual, gamma, h_ptr, squares_out_ptr, place, tile, tiles, token, rows):
    """What the next norm needs: the residual times gamma, and its sum of squares in this tile."""
    _n, p, upper_in, lower_in = place
    u = residual[0].to(gl.float32)
    v = residual[1].to(gl.float32)
    dtype: gl.constexpr = h_ptr.dtype.element_ty
    upper = u * gamma[0]
    lower = v * gamma[1]
    if dtype == gl.float16:
        upper = gl.minimum(gl.maximum(upper, -65504.0), 65504.0)
        lower = gl.minimum(gl.maximum(lower, -65504.0), 65504.0)
    gl.store(h_ptr + p, upper.to(dtype), mask=upper_in)
    gl.store(h_ptr + p + 8, lower.to(dtype), mask=lower_in)
    squares = gl.sum(gl.where(upper_in, u * u, 0.0) + gl.where(lower_in, v * v, 0.0), 0)
    t = gl.max(token, 0)
    gl.store(squares_out_ptr + t * tiles + tile, squares, mask=t < rows)
