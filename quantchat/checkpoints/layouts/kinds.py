"""Names of what packed tensors hold, as plans and people see them: the `dtype` of a module's entry.

Which of them fit a stored format exactly is `hardware.stored_types`' table.
"""

from __future__ import annotations

INT8_ROWS = "INT8-ROWS"
INT8_GROUPS = "INT8-GROUPS"
FP8_ROWS = "FP8-ROWS"
FP8_BLOCKS = "FP8-BLOCKS"
ACT_ORDER = "ACT-ORDER"
"""Groups of inputs that do not lie in a row, where they are of sizes that no kernel reads."""
ODD_GROUPS = "ODD-GROUPS"
ODD_BLOCKS = "ODD-BLOCKS"
MXFP4 = "MXFP4"
NVFP4 = "NVFP4"
STEPS4 = "QOQ-INT4"
LUT = {3: "LUT3", 4: "LUT4"}
GROUP_UNIT = 32
"""Groups are read by the kernels where they are 32, 64 or a multiple of 128; wider ones repeat."""
WHOLE_GROUP = 128
BLOCK_UNIT = 64
"""Blocks of table codes are read in multiples of this."""


def group_of(group_size: int) -> int:
    """The widest group that kernels read of which `group_size` is a multiple; 0 if there is none."""
    return next((size for size in (WHOLE_GROUP, 64, GROUP_UNIT) if group_size % size == 0), 0)


def group_kind(bits: int, columns: int, group_size: int) -> str:
    """Of integer codes in groups in a row."""
    if bits == 8:
        return INT8_ROWS if group_size == columns else INT8_GROUPS
    return f"INT{bits}-GROUPS" if group_of(group_size) else ODD_GROUPS


def ordered_kind(bits: int, columns: int, group_size: int) -> str:
    """Of integer codes whose groups take inputs from anywhere."""
    if bits == 8:
        return INT8_GROUPS
    whole = group_of(group_size) and columns % group_size == 0
    return f"INT{bits}-ACT-ORDER" if whole else ACT_ORDER


def table_kind(name: str, columns: int, block: int) -> str:
    """Of codes in a table: `name`, where blocks are whole parts of rows."""
    return name if columns % block == 0 and block % BLOCK_UNIT == 0 else ODD_BLOCKS
