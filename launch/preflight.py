"""What is checked before a pod is asked for: that the job exists, and every gin file it names, with their includes.

Files are read from where the pod will have them: the commit that is installed, or the folder that is copied.
"""

import ast
import difflib
import io
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

from gcloud import PodError

REPOSITORY = Path(__file__).resolve().parent.parent
GIN_ROOTS = ("", "gin")
"""Folders in which a job looks for a gin file, from its working directory, which is the repository's."""

Reader = Callable[[str], str]
"""Text of a file, named relative to the working directory. Raises OSError, ValueError."""


def module_and_flags(job: list[str]) -> list[str]:
    """What stands behind `python -m`: ["bagpiper_jax", "train", …] for `train`, `bagpiper train` or the long form.

    Any other module of the working directory is taken as it is.

    Raises:
        PodError: there is no such job or module; with the nearest job.
    """
    words = list(job)
    if len(words) > 1 and Path(words[0]).name.startswith("python") and words[1] == "-m":
        words = words[2:]
    if words[:1] in (["bagpiper"], ["bagpiper_jax"]):
        words = words[1:]
    elif words and _is_module(words[0]) and words[0] not in jobs():
        return words
    if not words:
        raise PodError(f"{' '.join(job)!r} names no job; known: {', '.join(jobs())}")
    if words[0] not in jobs():
        near = difflib.get_close_matches(words[0].rpartition(".")[2], jobs(), n=1, cutoff=0.5)
        known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(jobs())}"
        raise PodError(f"there is no job {words[0]!r}; {known}")
    return ["bagpiper_jax", *words]


def jobs() -> list[str]:
    """Names of all jobs: one file each."""
    return sorted(path.stem for path in (REPOSITORY / "bagpiper_jax/jobs").glob("[a-z]*.py"))


def _is_module(name: str) -> bool:
    path = Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def check_gin_files(job: list[str], read: Reader, where: str) -> None:
    """Reads every gin file that a job names, and those they include.

    Args:
        job: module and flags.
        read: the function that reads a file of the commit or the folder.
        where: names it in a fault, e.g. "the last commit".

    Raises:
        PodError: files that are not there or cannot be read; all of them.
    """
    faults: list[str] = []
    seen: set[str] = set()
    waiting = [(name, "", "") for name in _gin_files(job)]
    while waiting:
        name, beside, place = waiting.pop(0)
        if Path(name).is_absolute():
            continue  # of the pod's own disks
        found = _find(name, beside, read, faults)
        if found is None:
            faults.append(f"{place}gin file {name!r} is not in {where}{_reason(name)}")
            continue
        path, text = found
        if path in seen:
            continue
        seen.add(path)
        try:
            waiting += [(name, str(Path(path).parent), f"{path}:{line}: ") for line, name in _includes(text)]
        except (SyntaxError, ValueError, tokenize.TokenError) as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise PodError("\n  ".join(["the job would not start:", *faults]))


def of_commit(commit: str) -> Reader:
    """Reads files of a commit."""

    def read(path: str) -> str:
        # Of a folder, which is no blob, it gives nothing.
        done = subprocess.run(["git", "cat-file", "blob", f"{commit}:./{path}"], capture_output=True)
        if done.returncode:
            raise FileNotFoundError(path)
        return done.stdout.decode("utf-8-sig")

    return read


def of_folder(path: str) -> str:
    """Reads files of the working directory."""
    return Path(path).read_text(encoding="utf-8-sig")


def _gin_files(job: list[str]) -> Iterator[str]:
    for flag, following in zip(job, [*job[1:], ""], strict=True):
        if flag.startswith("--gin_file="):
            yield flag.partition("=")[2]
        elif flag == "--gin_file":
            yield following


def _find(name: str, beside: str, read: Reader, faults: list[str]) -> tuple[str, str] | None:
    """(path, text) in the first folder that has the file."""
    for folder in ([beside] if beside else []) + list(GIN_ROOTS):
        path = str(Path(folder, name))
        try:
            return path, read(path)
        except UnicodeDecodeError as error:
            faults.append(f"{path}: {error}")
            return path, ""
        except (OSError, ValueError):
            continue
    return None


def _reason(name: str) -> str:
    if any(Path(folder, name).is_file() for folder in GIN_ROOTS):
        return "; commit it"
    known = [str(path) for root in GIN_ROOTS[1:] for path in Path(root).rglob("*.gin")]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def _includes(text: str) -> Iterator[tuple[int, str]]:
    """(line, name) of every include; gin is made of Python's tokens, an include of that word and strings behind it."""
    between = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
    line: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.NEWLINE, tokenize.ENDMARKER):
            line += [] if token.type in between else [token]
            continue
        if len(line) > 1 and line[0].string == "include" and line[1].type == tokenize.STRING:
            yield line[0].start[0], ast.literal_eval(" ".join(part.string for part in line[1:]))
        line = []
