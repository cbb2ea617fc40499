"""Where gin files are, and the files of the package that they name: in a checkout, and in an installed package."""

import difflib
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The folder that holds `gin/`: of the installed package the package itself, of a checkout its root."""
    return PACKAGE if (PACKAGE / "gin").is_dir() else PACKAGE.parent


def find(file: str, beside: str = "") -> str | None:
    """The path of a gin file.

    Args:
        file: its name, relative to one of these, in this order: the folder of the file that includes it, the working
            directory, `gin/` in the working directory, the checkout or installed package, its `gin/`.
        beside: the folder of the file that includes it; "" if none does.
    """
    folders: list[str | Path] = [*([beside] if beside else []), "", "gin", home(), home() / "gin"]
    paths = (os.path.join(folder, file) for folder in folders)
    return next((path for path in paths if os.path.exists(path) and not os.path.isdir(path)), None)


def nearest(file: str) -> str:
    """The name of a gin file that resembles one that is not there, as the end of a sentence; "" if none does."""
    known = [path.relative_to(home()).as_posix() for path in (home() / "gin").rglob("*.gin")]
    known += [name.removeprefix("gin/") for name in known]
    near = difflib.get_close_matches(file, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def of_package(value: str) -> str:
    """The path of a file of the package, such as "bagpiper_jax/assets/codec_nano.safetensors", from any directory.

    Other strings, and names that lead to a file from the working directory, stay as they are.
    """
    if not value.startswith(f"{PACKAGE.name}/") or os.path.exists(value):
        return value
    path = PACKAGE.parent / value
    return str(path) if path.is_file() else value
