"""Rotary embedding as a table of angles; pairs are adjacent (2i, 2i + 1)."""

from __future__ import annotations

import torch


class RopeTable:
    """cos, sin: float32 [context, rotary_dim / 2], attention factors of a scaling included."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        assert cos.dtype == sin.dtype == torch.float32
        self.cos = cos
        self.sin = sin
        self.rotary_dim = 2 * cos.shape[1]
        self._turns = torch.complex(cos, sin)

    def turn(self, heads: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Turn the first rotary_dim values of each head. heads float32 [T, H, D] -> the same shape."""
        return self.turned(heads, self.turns(positions))

    def turns(self, positions: torch.Tensor) -> torch.Tensor:
        """The turn of each pair at positions int [T]: complex64 [T, 1, rotary_dim / 2]."""
        return self._turns.index_select(0, positions)[:, None]

    def turned(self, heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """See turn, by what `turns` gave."""
        d = heads.shape[-1]
        if self.rotary_dim == d:
            pairs = torch.view_as_complex(heads.view(*heads.shape[:-1], d // 2, 2))
            return torch.view_as_real(pairs * turns).flatten(-2)
        turning = heads[..., : self.rotary_dim].contiguous()
        pairs = torch.view_as_complex(turning.view(*turning.shape[:-1], self.rotary_dim // 2, 2))
        turned = torch.view_as_real(pairs * turns).flatten(-2)
        return torch.cat((turned, heads[..., self.rotary_dim :]), dim=-1)
