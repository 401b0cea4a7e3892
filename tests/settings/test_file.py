"""The settings file: what is read, what is kept, what a crash leaves."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from quantchat.errors import SettingsError
from quantchat.settings.file import load_settings, save_settings
from quantchat.settings.model import Settings
from quantchat.settings.schema import SETTINGS
from quantchat.settings.spec import SettingSpec
from quantchat.settings.toml_file import FILE_LIMIT_BYTES


def other_value(spec: SettingSpec) -> object:
    """A valid value that is not the default."""
    match spec.kind:
        case "bool":
            return not spec.default
        case "int" | "float":
            assert spec.maximum is not None
            return type(spec.default)(spec.maximum)
        case "choice":
            return next((word for word in spec.choices if word != spec.default), "other")
        case "text":
            return "/a b/äöü 漢字 '\\\"\\n.txt"
        case "multiline":
            return 'Zeile "eins"\n\n\\n drei: äöü 漢字 \u0007 \'\'\' """ \r end'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.toml"


def test_no_file_means_defaults(path: Path) -> None:
    assert load_settings(path) == (Settings(), [])
    assert not path.exists()


def test_every_setting_comes_back(path: Path) -> None:
    settings = Settings()
    for spec in SETTINGS:
        settings = settings.with_value(spec.key, other_value(spec))
    assert save_settings(settings, path) == []
    assert load_settings(path) == (settings, [])
    assert save_settings(Settings(), path) == []
    assert load_settings(path) == (Settings(), [])


def test_only_what_differs_is_written(path: Path) -> None:
    save_settings(Settings(top_k=40), path)
    assert tomllib.loads(path.read_text()) == {"top_k": 40}


def test_bad_values_and_unknown_keys_are_warnings(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('top_k = 40\nkv = "int7"\ntemperature = 99\nfuture = 1\n[table]\nx = 1\n')
    settings, warnings = load_settings(path)
    assert settings == Settings(top_k=40)
    assert len(warnings) == 4
    for warning, key, value in zip(
        warnings, ("kv", "temperature", "future", "table"), ("'int7'", "99", "", ""), strict=True
    ):
        assert warning.startswith("settings.toml: ") and key in warning and value in warning


def test_saving_keeps_what_a_newer_version_wrote(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('kv = "fp8"\nfuture = [1, 2]\ntop_k = 40\n[tables]\nx = 1979-05-27\n')
    settings, _ = load_settings(path)
    save_settings(settings.with_value("top_k", 50), path)
    table = tomllib.loads(path.read_text())
    assert table["kv"] == "fp8" and table["future"] == [1, 2] and table["top_k"] == 50
    assert "x" in table["tables"]
    save_settings(settings.with_value("kv", "int8"), path)
    assert tomllib.loads(path.read_text())["kv"] == "int8"


@pytest.mark.parametrize(
    "content", [b"top_k = = 3\n", b"\xff\xfe\x00", b"a = " + b"[" * 20_000, b"a = 1\na = 2\n"]
)
def test_a_broken_file_is_never_lost(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    settings, warnings = load_settings(path)
    assert settings == Settings()
    assert len(warnings) == 1 and "not a TOML file" in warnings[0]
    assert path.read_bytes() == content, "reading changes nothing"
    (aside_warning,) = save_settings(Settings(top_k=7), path)
    aside = path.with_name("settings.broken-1.toml")
    assert aside.read_bytes() == content and aside.name in aside_warning
    assert load_settings(path) == (Settings(top_k=7), [])
    path.write_bytes(content)
    save_settings(Settings(), path)
    assert path.with_name("settings.broken-2.toml").read_bytes() == content


def test_a_huge_file_is_not_read_whole(path: Path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(FILE_LIMIT_BYTES + 1)
    _, warnings = load_settings(path)
    assert len(warnings) == 1 and "larger than" in warnings[0]


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_settings(Settings(top_k=40), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SettingsError, match="No space left"):
        save_settings(Settings(top_k=50), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.toml"]


def test_a_folder_in_the_way_is_an_error_with_a_path(path: Path) -> None:
    path.mkdir(parents=True)
    assert load_settings(path)[0] == Settings()
    save_settings(Settings(top_k=3), path)
    assert path.with_name("settings.broken-1.toml").is_dir()


def test_the_file_is_the_user_s_alone(path: Path) -> None:
    save_settings(Settings(top_k=3), path)
    assert path.stat().st_mode & 0o077 == 0


def test_a_linked_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text("top_k = 1\n")
    path.parent.mkdir()
    path.symlink_to(target)
    save_settings(Settings(top_k=2), path)
    assert path.is_symlink() and tomllib.loads(target.read_text()) == {"top_k": 2}
