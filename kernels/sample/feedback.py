"""What every sampling kernel does at its end: the token goes where the next step reads it."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def feed_back(
    row,
    token,
    ids_ptr,
    positions_ptr,
    seq_lens_ptr,
    indices_ptr,
    active_ptr,
    ring_ptr,
    ring_rows,
    seen_ptr,
    V,
    PENALTY: tl.constexpr,
):
    """Writes a row's token and moves the row one place on; see workspace.Feedback."""
    active = tl.load(active_ptr + row)
    index = tl.load(indices_ptr + row)
    token_64 = token.to(tl.int64)
    tl.store(ids_ptr + row, token_64)
    tl.store(ring_ptr + (index & 1) * ring_rows + row, token_64)
    tl.store(positions_ptr + row, tl.load(positions_ptr + row) + active)
    tl.store(seq_lens_ptr + row, tl.load(seq_lens_ptr + row) + active)
    tl.store(indices_ptr + row, index + active)
    if PENALTY:
        tl.store(seen_ptr + row.to(tl.int64) * V + token_64, 1)


@triton.jit
def arrived_last(arrivals_ptr, row, PROGRAMS):
    """Whether all other programs of the row have finished: then their writes are visible."""
    tl.debug_barrier()
    before = tl.atomic_add(arrivals_ptr + row, 1, sem="acq_rel", scope="gpu")
    return before == PROGRAMS - 1
