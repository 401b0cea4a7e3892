"""Cases of the tensor-core linears on a card; imported by the processes that compile them too."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from quantchat.kernels.linear import reference, table_pack
from quantchat.kernels.linear.launch import NextNorm, RowWeight, Weight, linear
from quantchat.kernels.linear.pack import pack
from quantchat.kernels.linear.table_pack import NestedTable
from quantchat.kernels.linear.tiles import Tile

EPS = 1e-5
TABLE_FORMS = (("codebook4", 0), ("nested4", 0), ("lut4", 0), ("lut3", 0))
FORMS = (
    ("int4", 128),
    ("int4", 64),
    ("int4", 32),
    ("progressive4", 64),
    ("int8", 0),
    ("fp8", 0),
    ("dense", 0),
    *TABLE_FORMS,
)
HIDDEN = (576, 640, 896, 1536, 2048, 2560, 3072, 3584, 5120, 8192)
ODD_COLUMNS = {
    ("int4", 128): 384,
    ("int4", 64): 1344,
    ("int4", 32): 1248,
    ("int8", 0): 1008,
    ("fp8", 0): 1104,
    ("dense", 0): 1000,
    ("progressive4", 64): 1344,
    ("codebook4", 0): 704,
    ("nested4", 0): 1216,
    ("lut4", 0): 64,
    ("lut3", 0): 192,
}
"""No multiple of 64, or of 128 where groups are wider."""
ROWS = (1, 3, 8, 1, 13, 64, 1, 2, 33)
OUTPUTS = (960, 200, 1152, 72, 576, 50)
TILES = (
    None,
    Tile(warps=4, blocks=1, programs=1, stages=2),
    Tile(warps=8, blocks=2, programs=2, stages=4),
    Tile(warps=2, blocks=4, programs=4, stages=2),
    None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCase:
    """One launch with everything that is folded into it."""

    code: str
    group: int
    dtype: torch.dtype
    outputs: int
    columns: int
    rows: int
    normed: bool
    biased: bool
    gated: bool
    residual: bool
    wide: bool
    apart: bool
    """The residual's sum goes to memory of its own."""
    prepared: bool
    """x comes with a scale for each row."""
    extra: bool
    """Sums of another product are added."""
    tile: Tile | None
    dependent: bool

    @property
    def name(self) -> str:
        """For test ids."""
        marks = (
            *("normed", "biased", "gated", "residual", "wide"),
            *("apart", "prepared", "extra", "dependent"),
        )
        chosen = "-".join(mark for mark in marks if getattr(self, mark))
        return (
            f"{self.code}-g{self.group}-{str(self.dtype).removeprefix('torch.')}"
            f"-{self.rows}x{self.outputs}x{self.columns}-{chosen or 'plain'}"
        )


def linear_cases() -> tuple[LinearCase, ...]:
    """Every form at every width of real models and at odd ones, with the rest in turn."""
    found: list[LinearCase] = []
    for form in FORMS:
        step = 64 if form in TABLE_FORMS else form[1] or 1
        widths = [width for width in HIDDEN if width % step == 0]
        for columns, dtype in itertools.product(
            (*widths, ODD_COLUMNS[form]), (torch.float16, torch.bfloat16)
        ):
            i = len(found)
            residual = i % 3 == 2
            gated = i % 3 == 1
            prepared = form[0] == "progressive4" and i % 4 != 0
            found.append(
                LinearCase(
                    code=form[0],
                    group=form[1],
                    dtype=dtype,
                    outputs=OUTPUTS[i % len(OUTPUTS)],
                    columns=columns,
                    rows=ROWS[i % len(ROWS)],
                    normed=i % 2 == 0 and not prepared,
                    biased=i % 4 in (1, 2),
                    gated=gated,
                    residual=residual,
                    wide=not residual and i % 5 == 0,
                    apart=residual and i % 2 == 0,
                    prepared=prepared,
                    extra=form[0] in ("lut4", "lut3") and i % 5 < 3,
                    tile=TILES[i % len(TILES)],
                    dependent=i % 7 != 0,
                )
            )
    return tuple(found)


def stored(
    code: str, group: int, outputs: int, columns: int, dtype: torch.dtype, *, gated: bool
) -> tuple[Weight, torch.Tensor]:
    """A random weight on the card and what it stands for, fp32 [N, K].

    Behind a weight of rows there is NaN, or the largest codes.
    """
    card = torch.device("cuda")
    if code == "int4":
        codes = torch.randint(0, 16, (outputs, columns), dtype=torch.uint8, device=card)
        groups = columns // group
        scale = (torch.rand(outputs, groups, device=card) * 0.01 + 0.005).half()
        offset = (-7.5 * scale.float() + torch.randn(outputs, groups, device=card) * 0.002).half()
        wide = [part.float().repeat_interleave(group, 1) for part in (scale, offset)]
        tiles = pack(codes, scale, offset, group, gated=gated)
        return tiles, codes.float() * wide[0] + wide[1]
    if (code, group) in TABLE_FORMS:
        return _tables(code, outputs, columns, dtype, gated=gated)
    scale_rows = (torch.rand(outputs, device=card) + 0.5) * 0.002
    if code == "progressive4":
        codes = torch.randint(0, 16, (outputs, columns), dtype=torch.uint8, device=card)
        parts = (outputs, columns // group)
        scale = torch.randint(1, 9, parts, device=card).half()
        zero = torch.randint(0, 16, parts, device=card).half()
        wide = [part.float().repeat_interleave(group, 1) for part in (scale, zero)]
        tiles = pack(codes, scale, -zero * scale, group, gated=gated, channel=scale_rows)
        return tiles, (codes.float() - wide[1]) * wide[0] * scale_rows[:, None]
    if code == "int8":
        held = torch.full((outputs + 16, columns), 127, dtype=torch.int8, device=card)
        rows = held[:outputs]
        rows.copy_(torch.randint(-128, 128, (outputs, columns), device=card))
        return RowWeight(codes=rows, scale=scale_rows), rows.float() * scale_rows[:, None]
    if code == "fp8":
        bits = torch.full((outputs + 16, columns), 0x7F, dtype=torch.uint8, device=card)
        values = (torch.randn(outputs, columns, device=card) * 30).clamp(-448, 448)
        bits[:outputs] = values.to(torch.float8_e4m3fn).view(torch.uint8)
        rows = bits[:outputs]
        dense = rows.view(torch.float8_e4m3fn).float() * scale_rows[:, None]
        return RowWeight(codes=rows, scale=scale_rows), dense
    behind = torch.full((outputs + 16, columns), float("nan"), dtype=dtype, device=card)
    behind[:outputs] = torch.randn(outputs, columns, device=card) * 0.03
    return RowWeight(codes=behind[:outputs], scale=None), behind[:outputs].float()


def _tables(
    code: str, outputs: int, columns: int, dtype: torch.dtype, *, gated: bool
) -> tuple[Weight, torch.Tensor]:
    card = torch.device("cuda")
    entries = 8 if code == "lut3" else 16
    codes = torch.randint(0, entries, (outputs, columns), dtype=torch.uint8, device=card)
    if code in ("lut4", "lut3"):
        table = torch.randn(outputs, entries, device=card) * 0.03
        tiles = table_pack.pack_lut(codes, table, dtype=dtype, gated=gated)
        return tiles, table_pack.dense(tiles)
    table = torch.randn(16, device=card)
    blocks = (outputs, columns // 64)
    if code == "codebook4":
        scales = torch.rand(blocks, device=card) * 0.05
        tiles = table_pack.pack_codebook(codes, table, scales, dtype=dtype, gated=gated)
        return tiles, table_pack.dense(tiles)
    count = table_pack.nested_count(outputs, columns)
    nested = NestedTable(
        values=torch.linspace(-1, 1, 256, device=card),
        pairs=torch.rand(count, 2, device=card) * 0.02 + 0.02,
    )
    scale_codes = torch.randint(0, 256, blocks, dtype=torch.uint8, device=card)
    tiles = table_pack.pack_nested(codes, table, scale_codes, nested, dtype=dtype, gated=gated)
    return tiles, table_pack.dense(tiles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case made and what it should have made."""

    made: torch.Tensor
    truth: torch.Tensor
    following: NextNorm | None


def run(case: LinearCase) -> Outcome:
    """One launch on poisoned outputs, and its truth."""
    card = torch.device("cuda")
    torch.manual_seed(case.outputs * case.columns + case.rows)
    weight, dense = stored(
        case.code, case.group, case.outputs, case.columns, case.dtype, gated=case.gated
    )

    def poisoned(*shape: int, dtype: torch.dtype = case.dtype) -> torch.Tensor:
        return torch.full(shape, float("nan"), dtype=dtype, device=card)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=card).to(case.dtype)

    x = poisoned(case.rows + 8, case.columns)[: case.rows]
    x.copy_(random(case.rows, case.columns))
    squares = None
    if case.normed:
        squares = reference.squares_of(3 * random(case.rows, case.columns))
    bias = random(case.outputs) if case.biased else None
    row_scale = torch.rand(case.rows, device=card) + 0.5 if case.prepared else None
    extra = torch.randn(case.rows, case.outputs, device=card) if case.extra else None
    truth = reference.linear(
        x,
        dense,
        bias=bias,
        squares=squares,
        eps=EPS,
        row_scale=row_scale,
        extra=extra,
        gated=case.gated,
    )
    width = case.outputs // 2 if case.gated else case.outputs
    residual = following = out = None
    if case.residual:
        residual = random(case.rows, width)
        truth = truth + residual.float()
        following = NextNorm(
            gamma=torch.rand(width, device=card).to(case.dtype),
            h=poisoned(case.rows, width),
            squares=poisoned(
                case.rows, -(-width // reference.PARTIAL_COLUMNS), dtype=torch.float32
            ),
        )
    wide = torch.float32 if case.wide else case.dtype
    if case.apart or not case.residual:
        out = poisoned(case.rows, width, dtype=wide)
    made = linear(
        x,
        weight,
        tile=case.tile,
        bias=bias,
        squares=squares,
        eps=EPS,
        row_scale=row_scale,
        extra=extra,
        gated=case.gated,
        residual=residual,
        following=following,
        out=out,
        out_dtype=wide,
        dependent=case.dependent and torch.cuda.get_device_capability() >= (9, 0),
    )
    return Outcome(made=made, truth=truth, following=following)


CHAIN_COLUMNS = 1536


class Chain:
    """Three layers of linears as a decode step runs them: each leaves what the next one reads."""

    def __init__(self, code: str, group: int, rows: int) -> None:
        card = torch.device("cuda")
        torch.manual_seed(rows)
        width = CHAIN_COLUMNS
        self.start = torch.randn(rows, width, device=card).half()
        self._gamma = torch.rand(width, device=card).half() * 0.1
        self._layers = [
            [
                stored(code, group, outputs, columns, torch.float16, gated=gated)[0]
                for outputs, columns, gated in (
                    (width, width, False),
                    (4 * width, width, True),
                    (width, 2 * width, False),
                )
            ]
            for _ in range(3)
        ]

    def run(self, residual: torch.Tensor, *, dependent: bool) -> torch.Tensor:
        """The last norm's input; `residual` is added to. No kernel writes what it reads."""
        middle, last = (
            NextNorm(
                gamma=self._gamma,
                h=torch.empty_like(residual),
                squares=torch.empty(
                    residual.shape[0],
                    CHAIN_COLUMNS // reference.PARTIAL_COLUMNS,
                    device=residual.device,
                ),
            )
            for _ in range(2)
        )
        x = residual.clone()
        for o, gate_up, down in self._layers:
            linear(x, o, residual=residual, following=middle, dependent=dependent)
            gated = linear(
                middle.h,
                gate_up,
                squares=middle.squares,
                eps=EPS,
                gated=True,
                dependent=dependent,
            )
            linear(gated, down, residual=residual, following=last, dependent=dependent)
            x = last.h
        return x


def compile_job(job: LinearCase | tuple[str, int, int]) -> str | None:
    """Runs a case, or a chain of a form and rows, for its binaries; what went wrong, in words."""
    try:
        if isinstance(job, LinearCase):
            run(job)
        else:
            chain = Chain(*job)
            for dependent in {False, torch.cuda.get_device_capability() >= (9, 0)}:
                chain.run(chain.start.clone(), dependent=dependent)
        torch.cuda.synchronize()
    except Exception as error:  # whatever the compiler or the card raises is the finding
        return f"{job}: {type(error).__name__}: {error}"
    return None
