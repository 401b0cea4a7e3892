"""Cards through a driver library that we play ourselves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from quantchat.hardware.card_counters import CardCounters, open_counters
from quantchat.hardware.nvml import read_gpus, visible_cards

GIB = 2**30
RAM = {"ram_total_bytes": 64 * GIB, "ram_free_bytes": 50 * GIB}


class FakeNvml:
    """pynvml's functions over a list of cards: (name, (major, minor), cores, GiB or None, MIG)."""

    class NVMLError(Exception):
        pass

    def __init__(self, *cards: tuple[str, tuple[int, int], int, int | None, bool]) -> None:
        self.cards = cards
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"580.65.06"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{'abcd'[handle]}000-1111"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.cards[handle][0]

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return self.cards[handle][1]

    def nvmlDeviceGetNumGpuCores(self, handle: int) -> int:  # noqa: N802
        cores = self.cards[handle][2]
        if not cores:
            raise self.NVMLError("Not Supported")
        return cores

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        gib = self.cards[handle][3]
        if gib is None:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(total=gib * GIB, free=gib * GIB - GIB)

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802
        if not self.cards[handle][4]:
            raise self.NVMLError("Not Supported")
        return [1, 1]


H100 = ("NVIDIA H100 80GB HBM3", (9, 0), 16896, 80, False)
A100 = ("NVIDIA A100-SXM4-40GB", (8, 0), 6912, 40, True)
GB10 = ("NVIDIA GB10", (12, 1), 0, None, False)


def test_a_card_as_read() -> None:
    nvml = FakeNvml(H100)
    gpus, notes = read_gpus(nvml, {}, **RAM)
    (gpu,) = gpus
    assert (gpu.name, gpu.sm, gpu.sm_count, gpu.driver) == (
        "NVIDIA H100 80GB HBM3",
        90,
        132,
        "580.65.06",
    )
    assert (gpu.total_bytes, gpu.free_bytes) == (80 * GIB, 79 * GIB)
    assert notes == ()
    assert nvml.open == 0


def test_different_cards_a_split_one_and_shared_memory_are_noted() -> None:
    gpus, notes = read_gpus(FakeNvml(H100, A100, GB10), {}, **RAM)
    assert [gpu.sm_count for gpu in gpus] == [132, 108, 0]
    assert (gpus[2].total_bytes, gpus[2].free_bytes) == (64 * GIB, 50 * GIB)
    assert len(notes) == 3
    assert "MIG" in notes[0]
    assert "PCI_BUS_ID" in notes[2]
    _, quiet = read_gpus(FakeNvml(H100, A100), {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, **RAM)
    assert len(quiet) == 1


def test_no_driver_and_a_driver_that_gives_up() -> None:
    nvml = FakeNvml(H100)

    def refuse() -> None:
        raise FakeNvml.NVMLError("Library Not Found")

    nvml.nvmlInit = refuse  # type: ignore[method-assign]
    assert read_gpus(nvml, {}, **RAM) == ((), ("no NVIDIA driver answers (Library Not Found)",))

    broken = FakeNvml(H100)

    def lost(handle: int) -> str:
        raise FakeNvml.NVMLError("GPU is lost")

    broken.nvmlDeviceGetName = lost  # type: ignore[method-assign]
    gpus, notes = read_gpus(broken, {}, **RAM)
    assert gpus == ()
    assert "GPU is lost" in notes[0]
    assert broken.open == 0


def test_the_environment_hides_and_orders() -> None:
    gpus, notes = read_gpus(FakeNvml(H100, H100, A100), {"CUDA_VISIBLE_DEVICES": "2,0"}, **RAM)
    assert [(gpu.index, gpu.sm) for gpu in gpus] == [(0, 80), (1, 90)]
    assert any("hides 1 of 3" in note for note in notes)


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        (None, [0, 1, 2]),
        ("", []),
        (" ", []),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        ("0,0,1", [0]),
        ("GPU-b", [1]),
        ("GPU-c000-1111,GPU-a", [2, 0]),
        ("GPU-", []),
        ("GPU-z", []),
        ("MIG-1234", []),
        ("nonsense", []),
    ],
)
def test_visible_cards(setting: str | None, chosen: list[int]) -> None:
    uuids = {index: f"GPU-{letter}000-1111" for index, letter in enumerate("abc")}
    found, notes = visible_cards(setting, uuids)
    assert found == chosen
    assert bool(notes) == (len(chosen) < 3)


PID = 4242


class Counting(FakeNvml):
    """Counts energy and processes, or says that it cannot."""

    millijoules: int | None = 12_345_678
    used: tuple[tuple[int, int | None], ...] | None = ((1, 99), (PID, 7 << 30))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if self.millijoules is None:
            raise self.NVMLError("Not Supported")
        return self.millijoules + handle

    def nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, handle: int
    ) -> list[SimpleNamespace]:
        if self.used is None:
            raise self.NVMLError("Unknown Error")
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.used]


def test_energy_is_read_in_joules() -> None:
    nvml = Counting(H100)
    counters = CardCounters(nvml, 0, PID)
    assert counters.joules() == pytest.approx(12_345.678)
    nvml.millijoules = None
    assert counters.joules() is None


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (((1, 99), (PID, 7 << 30)), 7 << 30),
        (((1, 99),), None),
        (((PID, None),), None),
        (None, None),
    ],
)
def test_this_process_alone_is_counted(
    used: tuple[tuple[int, int | None], ...] | None, told: int | None
) -> None:
    nvml = Counting(H100)
    nvml.used = used
    counters = CardCounters(nvml, 0, PID)
    assert counters.process_bytes() == told
    nvml.used = ((PID, 1),)
    assert counters.process_bytes() == told, "not asked again so soon"


def test_counters_follow_the_visible_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Counting(H100, GB10)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    counters = open_counters(nvml, 0)
    assert counters is not None
    assert counters.joules() == pytest.approx(12_345.679)
    assert open_counters(nvml, 1) is None


def test_a_card_in_slices_has_no_counters_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert open_counters(Counting(A100), 0) is None


def test_no_driver_no_counters() -> None:
    class Silent(FakeNvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise self.NVMLError("Driver Not Loaded")

    assert open_counters(Silent(H100), 0) is None
