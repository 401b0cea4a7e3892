"""The tensor types of ggml files: id, name, elements and bytes of a block.

Source: ggml.h (`enum ggml_type`) and ggml-common.h of ggml. Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GgmlType:
    """A tensor type; rows are whole blocks."""

    id: int
    name: str
    block_elements: int
    block_bytes: int
    readable: bool
    """Whether quantchat can turn it into floats."""

    def row_bytes(self, elements: int) -> int:
        """Bytes of a row; `elements` is a multiple of the block's."""
        assert elements % self.block_elements == 0
        return elements // self.block_elements * self.block_bytes


TYPES: MappingProxyType[str, GgmlType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            GgmlType(0, "F32", 1, 4, True),
            GgmlType(1, "F16", 1, 2, True),
            GgmlType(2, "Q4_0", 32, 18, True),
            GgmlType(3, "Q4_1", 32, 20, True),
            GgmlType(6, "Q5_0", 32, 22, True),
            GgmlType(7, "Q5_1", 32, 24, True),
            GgmlType(8, "Q8_0", 32, 34, True),
            GgmlType(9, "Q8_1", 32, 36, False),
            GgmlType(10, "Q2_K", 256, 84, True),
            GgmlType(11, "Q3_K", 256, 110, True),
            GgmlType(12, "Q4_K", 256, 144, True),
            GgmlType(13, "Q5_K", 256, 176, True),
            GgmlType(14, "Q6_K", 256, 210, True),
            GgmlType(15, "Q8_K", 256, 292, False),
            GgmlType(16, "IQ2_XXS", 256, 66, False),
            GgmlType(17, "IQ2_XS", 256, 74, False),
            GgmlType(18, "IQ3_XXS", 256, 98, False),
            GgmlType(19, "IQ1_S", 256, 50, False),
            GgmlType(20, "IQ4_NL", 32, 18, True),
            GgmlType(21, "IQ3_S", 256, 110, False),
            GgmlType(22, "IQ2_S", 256, 82, False),
            GgmlType(23, "IQ4_XS", 256, 136, True),
            GgmlType(24, "I8", 1, 1, True),
            GgmlType(25, "I16", 1, 2, True),
            GgmlType(26, "I32", 1, 4, True),
            GgmlType(27, "I64", 1, 8, True),
            GgmlType(28, "F64", 1, 8, True),
            GgmlType(29, "IQ1_M", 256, 56, False),
            GgmlType(30, "BF16", 1, 2, True),
            GgmlType(34, "TQ1_0", 256, 54, False),
            GgmlType(35, "TQ2_0", 256, 66, False),
            GgmlType(39, "MXFP4", 32, 17, True),
            GgmlType(40, "NVFP4", 64, 36, False),
            GgmlType(41, "Q1_0", 128, 18, False),
        )
    }
)

TYPES_BY_ID: MappingProxyType[int, GgmlType] = MappingProxyType(
    {kind.id: kind for kind in TYPES.values()}
)
