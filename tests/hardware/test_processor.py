"""Reading /proc, cgroups and sysctl from folders made for it."""

from __future__ import annotations

from pathlib import Path

import psutil

from quantchat.hardware.processor import (
    container_limits,
    describe,
    parse_cpuinfo,
    parse_sysctl,
    read_cpu,
)

ZEN = """processor\t: {number}
model name\t: AMD EPYC 7763
physical id\t: {socket}
core id\t\t: {core}
flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni avx512_bf16 avx_vnni vaes
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes bf16 i8mm
CPU implementer\t: 0x41
"""


def blocks(*cores: tuple[int, int]) -> str:
    return "\n".join(
        ZEN.format(number=number, socket=socket, core=core)
        for number, (socket, core) in enumerate(cores)
    )


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cores_are_counted_among_the_allowed() -> None:
    text = blocks((0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 1))
    everything = parse_cpuinfo(text, frozenset(range(6)))
    assert everything.name == "AMD EPYC 7763"
    assert everything.cores == 4
    assert everything.isa == {"avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx_vnni"}
    assert parse_cpuinfo(text, frozenset({0, 2})).cores == 1
    assert parse_cpuinfo(text, frozenset({0, 4})).cores == 2


def test_arm_and_nonsense() -> None:
    arm = parse_cpuinfo(ARM, frozenset({0}))
    assert arm.isa == {"neon", "bf16", "i8mm"}
    assert arm.name
    assert arm.cores == 0
    nonsense = parse_cpuinfo("\x00::\n:\nprocessor : x\n\n\n", frozenset({0}))
    assert (nonsense.isa, nonsense.cores) == (frozenset(), 0)


def test_sysctl() -> None:
    text = (
        "machdep.cpu.brand_string: Apple M2 Pro\nhw.physicalcpu: 10\n"
        "hw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\n"
    )
    apple = parse_sysctl(text)
    assert (apple.name, apple.cores, apple.isa) == (
        "Apple M2 Pro",
        10,
        frozenset({"neon", "bf16"}),
    )
    assert parse_sysctl("").cores == 0


def test_cgroup_2_takes_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/box/inner\n",
            "sys/fs/cgroup/box/memory.max": "4294967296\n",
            "sys/fs/cgroup/box/memory.current": "3221225472\n",
            "sys/fs/cgroup/box/memory.stat": "anon 5\ninactive_file 1073741824\n",
            "sys/fs/cgroup/box/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/box/inner/memory.max": "max\n",
            "sys/fs/cgroup/box/inner/cpu.max": "max 100000\n",
        },
    )
    limits = container_limits(root)
    assert limits.memory_bytes == 4 * 2**30
    assert limits.memory_used_bytes == 2 * 2**30
    assert limits.cpus == 2.5


def test_cgroup_1(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2147483648\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1073741824\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
    )
    limits = container_limits(root)
    assert (limits.memory_bytes, limits.memory_used_bytes, limits.cpus) == (2**31, 2**30, 1.5)


def test_no_cgroup_or_a_strange_one_sets_no_limit(tmp_path: Path) -> None:
    assert container_limits(tmp_path).memory_bytes is None
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../etc\nnonsense\n",
            "sys/fs/cgroup/memory.max": "lots\n",
            "sys/fs/cgroup/cpu.max": "100000 0\n",
        },
    )
    limits = container_limits(root)
    assert (limits.memory_bytes, limits.cpus) == (None, None)


def test_limits_bound_what_the_machine_has(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": blocks(*((0, core) for core in range(512))),
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "104857600\n",
            "sys/fs/cgroup/memory.current": "41943040\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
    )
    cpu = read_cpu(root)
    assert (cpu.physical_cores, cpu.logical_cores) == (1, 1)
    assert cpu.ram_total_bytes == 100 * 2**20
    assert cpu.ram_free_bytes == 60 * 2**20


def test_this_machine() -> None:
    cpu = read_cpu()
    assert 1 <= cpu.physical_cores <= cpu.logical_cores
    assert 0 < cpu.ram_free_bytes <= cpu.ram_total_bytes <= psutil.virtual_memory().total


def test_without_proc_there_is_still_a_name(tmp_path: Path) -> None:
    assert describe(tmp_path, frozenset({0})).name
