"""The jobs, one thin file per command: each parses its flags, loads its configuration and calls a room.

`JOBS` lists them in the order of the staircase. Nothing imports a job.
"""

import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from bagpiper_jax import manual
from bagpiper_jax.errors import Explained

JOBS = {
    "build_corpus": "builds a corpus: embedded, soundscapes, Debian, your own data, ESPnet's files, any SeqIO source",
    "caption_audio": "asks an endpoint for rich captions of a corpus's audio",
    "tag_captions": "asks an endpoint for tags of captions",
    "score_captions": "adds a scorer's columns to a corpus",
    "select_captions": "selects the best captions of corpora",
    "simulate_dialogues": "asks an endpoint for tuning dialogues",
    "learn_tokenizer": "learns a small BPE on corpora that bring no tokenizer",
    "train_codec": "trains an X-Codec from scratch",
    "train_tower": "trains an audio tower from scratch",
    "tokenize_audio": "turns a corpus's audio into codec codes",
    "cache_tasks": "renders SeqIO tasks and mixtures into caches",
    "check_tasks": "compares caches with what SeqIO gives",
    "inspect_data": "shows what a run will see, and checks a mixture before launch",
    "plan": "compiles a run's step for a slice: does it fit, how fast, what does it cost",
    "train": "pretrains or tunes a model; the same command resumes",
    "import_checkpoint": "imports checkpoints of ESPnet, vLLM and transformers",
    "export_checkpoint": "exports a checkpoint to ESPnet, vLLM and transformers",
    "logit_check": "compares the logits of two checkpoints",
    "generate": "answers about audio, and makes audio of text",
    "serve": "answers over HTTP: OpenAI's API, and a page",
    "evaluate": "scores a run on held-out clips and writes its report page",
    "benchmark": "runs benchmarks on a run, an endpoint or recorded replies, and writes every table",
    "compare": "tests whether one of two benchmarked systems is better than the other",
    "leaderboard": "lists benchmarked systems beside published numbers",
}

COMPUTING = (
    "train_codec", "train_tower", "tokenize_audio", "train", "logit_check", "generate", "evaluate", "benchmark",
)  # fmt: skip
"""Jobs that run a model; on CPU they start with huge pages."""

# Of the machine, not of the program: its disk, its rights, its file system.
_OF_THE_MACHINE = {
    errno.ENOSPC: "free space there and run the same command again",
    errno.EDQUOT: "free space within the quota and run the same command again",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "name a place that this user may use",
    errno.EPERM: "name a place that this user may use",
}


def run(name: str, argv: list[str]) -> NoReturn:
    """Runs the job `name` of `JOBS` with its flags and ends the process; one that is asked for help is not loaded."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show must not end a job
        sys.stdout.reconfigure(errors="backslashreplace")
    if {"-h", "--help"} & set(argv):
        end_with(name, lambda: _print_help(name))
    job = importlib.import_module(f"{__name__}.{name}")
    end_with(name, lambda: job.main(argv), at_once=getattr(job, "ENDS_AT_ONCE", False))


def _print_help(name: str) -> None:
    try:
        print(manual.help_of(name), flush=True)
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_with(name: str, main: Callable[[], int | None], at_once: bool = False) -> NoReturn:
    """Ends the process with the exit code that `main` returns, or with that of the fault it raises.

    A fault that explains itself is a message on stderr; any other is a traceback and exit code 1.

    Args:
        at_once: whether nothing is waited for at exit after a fault. A process of a pod would wait for the others,
            which wait for it, and one whose save failed for threads of Orbax, which wait ten minutes for the end of
            that save.
            One that has no fault does wait: the others would be aborted if the first process left before them.
    """
    code, fault = _outcome(name, main)
    if fault:
        print(fault, file=sys.stderr, flush=True)
    if fault and at_once:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _outcome(name: str, main: Callable[[], int | None]) -> tuple[int, str]:
    """The exit code, and what to say of a fault."""
    try:
        return main() or 0, ""
    except Explained as error:
        return error.exit_code, f"{name}: {error}"
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            place = f"{error.filename}: " if error.filename else ""
            return Explained.exit_code, f"{name}: {place}{error.strerror}; {_OF_THE_MACHINE[error.errno]}"
        return 1, traceback.format_exc()
    except Exception:
        return 1, traceback.format_exc()
