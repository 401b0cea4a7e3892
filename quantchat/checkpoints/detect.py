"""Which container a path holds.

Owns the rules for files and folders; reading belongs to `gguf` and `safetensors`.
"""

from __future__ import annotations

from pathlib import Path

from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError
from quantchat.gguf_names import split_parts

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def open_checkpoint(path: Path) -> GgufFile | SafetensorsFolder:
    """Open a .gguf file, a folder with config.json and *.safetensors, or a folder with one GGUF model.

    Raises CheckpointError with a hint for anything else; files that run code (pickles) are refused.
    """
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.exists():
            raise CheckpointError(path, "does not exist")
        return _open_file(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(path, f"cannot be read: {reason}") from error


def _open_folder(folder: Path) -> GgufFile | SafetensorsFolder:
    names = sorted(entry.name for entry in folder.iterdir())
    tensors = [name for name in names if name.endswith(".safetensors")]
    ggufs = [name for name in names if name.lower().endswith(".gguf")]
    if tensors and "config.json" in names:
        return SafetensorsFolder(folder)
    if len(ggufs) == 1 or (ggufs and set(ggufs) == {*split_parts(ggufs[0])}):
        return GgufFile(folder / ggufs[0])
    if ggufs:
        shown = ", ".join(ggufs[:4]) + (", ..." if len(ggufs) > 4 else "")
        raise CheckpointError(
            folder, f"holds {len(ggufs)} GGUF files", hint=f"name one of them: {shown}"
        )
    if tensors:
        raise CheckpointError(folder, "has *.safetensors, but no config.json")
    if any(name.endswith(PICKLES) for name in names):
        raise CheckpointError(
            folder,
            "holds weights as pickles only, which can run code when they are read",
            hint="take a copy of the model in safetensors or GGUF",
        )
    raise CheckpointError(
        folder, "holds no model", hint="a .gguf file, or config.json with *.safetensors, is needed"
    )


def _open_file(path: Path) -> GgufFile | SafetensorsFolder:
    if path.name.endswith(PICKLES):
        raise CheckpointError(
            path,
            "is a pickle, which can run code when it is read",
            hint="take a copy of the model in safetensors or GGUF",
        )
    if path.name.endswith((".safetensors", ".json")):
        raise CheckpointError(path, "is one file of a model", hint="name its folder instead")
    return GgufFile(path)
