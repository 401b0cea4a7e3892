"""Files that are cut off or lie: one line, with file and place, and no memory for the lie."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import factory
import pytest
import raw_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantchat.checkpoints.gguf import GgufFile
from quantchat.errors import CheckpointError, UnsupportedModelError

HUGE = 1 << 60


def failure(path: Path) -> CheckpointError:
    """The error of opening a file; it is one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        GgufFile(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert len(str(caught.value)) < 600
    return caught.value


def peak_bytes(path: Path) -> int:
    """The largest allocation while opening fails."""
    tracemalloc.start()
    try:
        failure(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


DAMAGED: dict[str, tuple[bytes, str]] = {
    "no magic": (raw_gguf.file(magic=b"GGML"), "not a GGUF"),
    "shorter than the magic": (b"GG", "not a GGUF"),
    "version 1": (raw_gguf.file(version=1), "version 1"),
    "version 4": (raw_gguf.file(version=4), "version 4"),
    "big endian": (raw_gguf.file(version=3 << 24), "big-endian"),
    "too many keys for the file": (raw_gguf.file(key_count=60000), "header needs"),
    "absurd keys": (raw_gguf.file(key_count=HUGE), "metadata keys"),
    "absurd tensors": (raw_gguf.file(tensor_count=HUGE), "tensors"),
    "too many tensors for the file": (raw_gguf.file(tensor_count=1 << 19), "header needs"),
    "key length": (
        raw_gguf.file(keys=[raw_gguf.text("k", claimed=HUGE) + bytes(60)]),
        "metadata key 0",
    ),
    "key not UTF-8": (raw_gguf.file(keys=[raw_gguf.key(b"\xff", 0, b"\0")]), "UTF-8"),
    "text length": (
        raw_gguf.file(keys=[raw_gguf.key("k", 8, raw_gguf.text("v", claimed=HUGE))]),
        "'k'",
    ),
    "text not UTF-8": (raw_gguf.file(keys=[raw_gguf.string("k", b"\xc3(")]), "UTF-8"),
    "unknown value type": (raw_gguf.file(keys=[raw_gguf.key("k", 77, bytes(8))]), "type 77"),
    "array count": (
        raw_gguf.file(keys=[raw_gguf.array("k", 4, bytes(64), count=HUGE)]),
        "elements",
    ),
    "array longer than the file": (
        raw_gguf.file(keys=[raw_gguf.array("k", 12, bytes(64), count=1 << 23)]),
        "needs",
    ),
    "texts longer than the file": (
        raw_gguf.file(keys=[raw_gguf.array("k", 8, bytes(64), count=1 << 23)]),
        "needs",
    ),
    "one text of many too long": (
        raw_gguf.file(
            keys=[
                raw_gguf.array(
                    "k", 8, raw_gguf.text("a") + raw_gguf.text("b", claimed=HUGE), count=2
                )
            ]
        ),
        "entry 1",
    ),
    "texts running out": (
        raw_gguf.file(keys=[raw_gguf.array("k", 8, raw_gguf.text("a" * 30), count=4)]),
        "entry 2",
    ),
    "one text of many not UTF-8": (
        raw_gguf.file(keys=[raw_gguf.array("k", 8, raw_gguf.text(b"\xff"), count=1)]),
        "entry 0",
    ),
    "array of arrays": (
        raw_gguf.file(keys=[raw_gguf.array("k", 9, bytes(64), count=2)]),
        "array of arrays",
    ),
    "key twice": (raw_gguf.file(keys=[raw_gguf.u32("k", 1)] * 2), "'k' comes twice"),
    "alignment 0": (raw_gguf.file(keys=[raw_gguf.u32("general.alignment", 0)]), "alignment"),
    "alignment 24": (raw_gguf.file(keys=[raw_gguf.u32("general.alignment", 24)]), "power of two"),
    "alignment of the wrong type": (
        raw_gguf.file(keys=[raw_gguf.string("general.alignment", "32")]),
        "alignment",
    ),
    "five dimensions": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [1] * 5)], data=bytes(64)),
        "dimensions",
    ),
    "absurd number of dimensions": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4], dimensions=1 << 31)], data=bytes(64)),
        "dimensions",
    ),
    "dimension 0": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4, 0])], data=bytes(64)),
        "zero",
    ),
    "absurd elements": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [HUGE])], data=bytes(64)),
        "'t'",
    ),
    "product past 64 bits": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [1 << 63] * 4)], data=bytes(64)),
        "absurd",
    ),
    "product that wraps to little": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [1 << 32, 1 << 32])], data=bytes(64)),
        "'t'",
    ),
    "offset past the end": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4], offset=1 << 20)], data=bytes(64)),
        "reaches",
    ),
    "offset that wraps": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4], offset=(1 << 64) - 32)], data=bytes(64)),
        "reaches",
    ),
    "offset off the alignment": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4], offset=8)], data=bytes(64)),
        "multiple of 32",
    ),
    "data cut off": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4])], data=bytes(15)),
        "reaches",
    ),
    "tensor twice": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4])] * 2, data=bytes(64)),
        "comes twice",
    ),
    "overlap": (
        raw_gguf.file(
            tensors=[raw_gguf.tensor("t", [9]), raw_gguf.tensor("u", [4], offset=32)],
            data=bytes(64),
        ),
        "shares bytes",
    ),
    "unknown tensor type": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [4], kind=99)], data=bytes(64)),
        "unknown type 99",
    ),
    "type we do not read": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [256], kind=16)], data=bytes(66)),
        "IQ2_XXS",
    ),
    "rows of half blocks": (
        raw_gguf.file(tensors=[raw_gguf.tensor("t", [48, 2], kind=3)], data=bytes(64)),
        "blocks of 32",
    ),
    "tensor name not UTF-8": (
        raw_gguf.file(tensors=[raw_gguf.tensor(b"\xff", [4])], data=bytes(64)),
        "UTF-8",
    ),
}
UNSUPPORTED = {
    "version 1",
    "version 4",
    "big endian",
    "unknown value type",
    "array of arrays",
    "unknown tensor type",
    "type we do not read",
}


@pytest.mark.parametrize("case", sorted(DAMAGED))
def test_one_line_that_names_the_place(tmp_path: Path, case: str) -> None:
    data, words = DAMAGED[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    error = failure(path)
    assert words in error.message
    assert isinstance(error, UnsupportedModelError) == (case in UNSUPPORTED)


@pytest.mark.parametrize(
    "case",
    sorted(
        name
        for name in DAMAGED
        if "absurd" in name or "length" in name or "count" in name or "longer" in name
    ),
)
def test_no_memory_for_a_lie(tmp_path: Path, case: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(DAMAGED[case][0])
    assert peak_bytes(path) < 1 << 20


def test_missing_and_empty(tmp_path: Path) -> None:
    assert "No such file" in failure(tmp_path / "none.gguf").message
    (tmp_path / "empty.gguf").touch()
    assert "empty" in failure(tmp_path / "empty.gguf").message
    (tmp_path / "folder.gguf").mkdir()
    assert "regular file" in failure(tmp_path / "folder.gguf").message
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "regular file" in failure(tmp_path / "pipe.gguf").message


def test_cut_off_anywhere(tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "m.gguf", "llama", tensor_type="Q4_1")
    data = path.read_bytes()
    with GgufFile(path) as file:
        header = min(entry.offset for entry in file.tensors.values())
        last = max(entry.offset + entry.nbytes for entry in file.tensors.values())
    sizes = [*range(1, 200, 7), *range(200, header, 211), *range(header, last, 9001), last - 1]
    for size in sizes:
        path.write_bytes(data[:size])
        failure(path)
    path.write_bytes(data[:last])
    GgufFile(path).close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file of a few hundred bytes with one of everything, to be damaged in place."""
    keys = [
        raw_gguf.string("general.architecture", "llama"),
        raw_gguf.u32("general.alignment", 32),
        raw_gguf.array("tokens", 8, raw_gguf.text("a") + raw_gguf.text("bc"), count=2),
        raw_gguf.array("scores", 6, struct.pack("<3f", 1, 2, 3), count=3),
        raw_gguf.key("flag", 7, b"\1"),
        raw_gguf.key("eps", 12, struct.pack("<d", 1e-5)),
    ]
    tensors = [
        raw_gguf.tensor("a.weight", [32, 2], kind=3),
        raw_gguf.tensor("b.weight", [5], kind=0, offset=64),
    ]
    path = tmp_path_factory.mktemp("small") / "sound.gguf"
    path.write_bytes(raw_gguf.file(keys=keys, tensors=tensors, data=bytes(range(100))))
    GgufFile(path).close()
    return path


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_damage_never_escapes(small: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(0, len(content) - 1))
        junk = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=12),
                st.sampled_from([struct.pack("<Q", HUGE), b"\xff" * 8, b"\0" * 8, b"\x09\0\0\0"]),
            )
        )
        content[offset : offset + len(junk)] = junk
    size = data.draw(st.one_of(st.just(len(content)), st.integers(1, len(content))))
    path = small.with_name("damaged.gguf")
    path.write_bytes(bytes(content[:size]))
    try:
        file = GgufFile(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    for name, entry in file.tensors.items():
        assert file.dense(name).shape == entry.shape
    file.close()
