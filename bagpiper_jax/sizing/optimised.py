"""The optimised HLO of a step, and what it allocates, without the code that a TPU compiler makes of them.

Code takes most of a compiler's time and tells a plan nothing. No option ends a compilation before it, so a process of
its own compiles, and is ended as soon as the compiler has written both.
"""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import jax

from bagpiper_jax import parallel
from bagpiper_jax.runs.chips import Slice
from bagpiper_jax.sizing import memory
from bagpiper_jax.sizing.devices import tpu_devices
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.step import compile_step, make_train_step

_TEXT = "*jit_train_step*.after_optimizations.txt"
_REFUSAL = "refusal"
_POLL_SECONDS = 0.2


def optimised_step(train: TrainConfig, wanted: Slice) -> tuple[str, int]:
    """The text of a train step's optimised HLO, and the bytes of one chip that it allocates.

    Raises:
        jax.errors.JaxRuntimeError: what the compiler said when it refused the step.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        dump = Path(directory)
        process = context.Process(target=_compile, args=(train, wanted, directory), daemon=True)
        process.start()
        try:
            before = None
            while process.is_alive():
                found = _written(dump)
                if found and found == before:  # and so it is not in the midst of being written
                    return found
                before = found
                time.sleep(_POLL_SECONDS)
            if found := _written(dump):
                return found
            raise jax.errors.JaxRuntimeError(_refusal(dump, process.exitcode))
        finally:
            process.kill()
            process.join()


def _compile(train: TrainConfig, wanted: Slice, directory: str) -> None:
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"  # the process that waits may have loaded it as well
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # of what is found there nothing is written
    mesh = parallel.make_mesh(train.mesh, tpu_devices(wanted))
    options = {**memory.dump_options(mesh, directory), "xla_dump_hlo_as_text": True}
    try:
        compile_step(make_train_step(train, mesh), train, mesh, options)
    except jax.errors.JaxRuntimeError as error:
        (Path(directory) / _REFUSAL).write_text(str(error), encoding="utf-8")


def _written(dump: Path) -> tuple[str, int] | None:
    """What the compiler has written; None until all of it is there."""
    total, texts = memory.reported_bytes(dump), list(dump.glob(_TEXT))
    if total is None or not texts:
        return None
    text = texts[0].read_text()
    return (text, total) if text.rstrip().endswith("}") else None


def _refusal(dump: Path, code: int | None) -> str:
    refusal = dump / _REFUSAL
    return refusal.read_text() if refusal.exists() else f"the compiler's process ended with exit code {code}"
