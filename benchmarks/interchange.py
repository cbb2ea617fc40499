"""A random checkpoint of full shape: imported, exported, imported again, compared bit by bit; memory and speed.

    python benchmarks/interchange.py --size=8b --directory=/big/disk

Prints one JSON object a line. Each stage runs in a process of its own, whose peak of resident memory it reports.
Files are dropped from the page cache between stages, so that speeds are the disk's. Space needed: twice the
checkpoint (8b: 37 GB in bfloat16), since the source is deleted once it is imported; its values are drawn again to
compare with.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import export_checkpoint
from bagpiper_jax.interop.formats import safetensors_file
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.formats.orbax_store import open_parameters
from bagpiper_jax.interop.formats.tensors import FLOATS, Plan
from bagpiper_jax.interop.importing import ImportConfig, codec_shapes, import_checkpoint
from bagpiper_jax.interop.tables import espnet
from bagpiper_jax.models.configs import AudioTowerConfig as Tower
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig, DecoderConfig, SemanticEncoderConfig
from bagpiper_jax.training.state import model_shapes
from bagpiper_jax.vocabulary import Vocabulary

_SMALL_TOWER = Tower(layers=2, width=96, heads=4, ffn_width=256, conv_channels=16, output_width=96)
_SMALL_CODEC = CodecConfig(
    encoder_width=2, decoder_width=32, acoustic_width=4, codebook_width=20,
    semantic=SemanticEncoderConfig(
        width=16, layers=2, heads=2, ffn_width=24, conv_widths=(8,) * 7, positional_kernel=8, positional_groups=2
    ),
)  # fmt: skip
SIZES = {
    "nano": (
        BagpiperConfig(DecoderConfig(4, 128, 384, 4, 2, 32), _SMALL_TOWER, Vocabulary(text_size=1024)),
        _SMALL_CODEC,
    ),
    # Three stacked parameters of 268 MB in bfloat16 dominate: for the bound on memory.
    "wide": (
        BagpiperConfig(DecoderConfig(8, 1024, 16384, 8, 2, 64), _SMALL_TOWER, Vocabulary(text_size=1024)),
        _SMALL_CODEC,
    ),
    "0.6b": (BagpiperConfig(DecoderConfig(28, 1024, 3072, 16, 8, 128)), CodecConfig()),
    "8b": (BagpiperConfig(), CodecConfig()),
}
_BLOCK = 1 << 24


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="nano")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--directory", default=".", help="where a folder is made and removed")
    parser.add_argument(
        "--form", choices=("pt", "vllm"), default="vllm", help="what is exported; pt needs torch"
    )
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.stage:
        _child(flags)
        return
    folder = Path(flags.directory) / f"interchange_{flags.size}"
    folder.mkdir()
    try:
        _disk(folder, 1 << 30 if flags.size == "8b" else 1 << 28)
        for stage in STAGES:
            _run(stage, flags, folder)
            if stage in _DONE_WITH:
                shutil.rmtree(folder / _DONE_WITH[stage])
    finally:
        shutil.rmtree(folder)


def _run(stage: str, flags: argparse.Namespace, folder: Path) -> None:
    command = [sys.executable, __file__, f"--stage={stage}", f"--size={flags.size}", f"--dtype={flags.dtype}"]
    subprocess.run([*command, f"--directory={folder}", f"--form={flags.form}"], check=True)
    _forget(folder)


def _child(flags: argparse.Namespace) -> None:
    """Runs one stage and reports it."""
    model, codec = SIZES[flags.size]
    folder, before, began = Path(flags.directory), _peak(), time.monotonic()
    moved = STAGES[flags.stage](folder, flags, model, codec)
    seconds = time.monotonic() - began
    _report(
        stage=flags.stage, seconds=round(seconds, 2), gigabytes=round(moved / 1e9, 3),
        megabytes_per_second=round(moved / 1e6 / seconds, 1), peak_gib=round(_peak() / 2**30, 3),
        peak_above_start_mb=round((_peak() - before) / 1e6), largest_group_mb=_largest(model, flags.dtype) // 10**6,
    )  # fmt: skip


def _source(folder: Path, flags, model, codec) -> int:
    (folder / "source").mkdir()
    plan = _plan(flags, model, codec)
    writer = safetensors_file.Shards(folder / "source", plan)
    for name in plan:
        for part in _values(name, plan):
            writer.write(name, part)
    writer.close()
    return _bytes(plan)


def _import(folder: Path, flags, model, codec, source="source", output="ours") -> int:
    found = folder / (source if (folder / source).exists() else source + ".pt")
    import_checkpoint(ImportConfig(str(folder / output), model, codec, espnet=str(found)))
    return _bytes(_plan(flags, model, codec))


def _export(folder: Path, flags, model, codec) -> int:
    output, format = ("exported", "vllm") if flags.form == "vllm" else ("exported.pt", "espnet")
    export_checkpoint(ExportConfig(str(folder / "ours"), str(folder / output), format, "same"))
    return _bytes(_plan(flags, model, codec))


def _compare(folder: Path, flags, model, codec) -> int:
    """The export with the values that the source had."""
    plan = _plan(flags, model, codec)
    found = open_tensors(folder / ("exported" if flags.form == "vllm" else "exported.pt"))
    assert found.keys() - {espnet.VOCAB_WEIGHT} == plan.keys()
    for name, (shape, dtype) in plan.items():
        assert (found[name].shape, found[name].dtype) == (shape, dtype), name
        start = 0
        for part in _values(name, plan):
            theirs = found[name].rows(start, start + len(part))
            assert np.array_equal(theirs.view(np.uint8), part.view(np.uint8)), f"{name} from {start}"
            start += len(part)
    return _bytes(plan)


def _digest(folder: Path, flags, model, codec, name="ours") -> int:
    """Checksums of every stored parameter; those of the second import must be those of the first."""
    shapes, sums = model_shapes(model), {}
    stored = open_parameters(folder / name / "parameters", shapes)
    for parameter, x in stored.items():
        crc = 0
        for start, stop in x.bands():
            crc = zlib.crc32(np.ascontiguousarray(x.read(start, stop)).reshape(-1).view(np.uint8).data, crc)
        sums[parameter] = [str(x.dtype), crc]
    for codec_name, tensor in open_tensors(folder / name / "codec.safetensors").items():
        sums[f"codec/{codec_name}"] = [str(tensor.dtype), zlib.crc32(tensor.read().tobytes())]
    file = folder / "digest.json"
    if file.exists():
        assert sums == json.loads(file.read_text()), "the second import differs from the first"
    file.write_text(json.dumps(sums))
    return sum(math.prod(shape) * stored[n].dtype.itemsize for n, shape in shapes.items())


STAGES = {
    "source": _source,
    "import": _import,
    "digest": _digest,
    "export": _export,
    "compare": _compare,
    "reimport": lambda *arguments: _import(*arguments, source="exported", output="again"),
    "compare_imports": lambda *arguments: _digest(*arguments, name="again"),
}
_DONE_WITH = {"import": "source", "compare": "ours"}


def _plan(flags, model: BagpiperConfig, codec: CodecConfig) -> Plan:
    shapes = espnet.their_shapes({**model_shapes(model), **codec_shapes(codec)}, codec, model.vocabulary)
    return {name: (s, FLOATS[flags.dtype]) for name, s in shapes.items() if name != espnet.VOCAB_WEIGHT}


def _values(name: str, plan: Plan):
    """Random finite values of a tensor in blocks of rows: every bit is random but the highest of the exponent."""
    shape, dtype = plan[name]
    random = np.random.default_rng(zlib.crc32(name.encode()))
    row = math.prod(shape[1:])
    step = max(1, _BLOCK // row)
    kind, mask = (np.uint16, 0xBFFF) if dtype.itemsize == 2 else (np.uint32, 0xBFFFFFFF)
    for start in range(0, shape[0], step):
        rows = min(step, shape[0] - start)
        bits = np.frombuffer(random.bytes(rows * row * dtype.itemsize), kind) & kind(mask)
        yield bits.view(dtype).reshape(rows, *shape[1:])


def _disk(folder: Path, size: int) -> None:
    """The disk's sequential speed with the same block size."""
    block, path = np.random.default_rng(0).bytes(_BLOCK), folder / "disk"
    began = time.monotonic()
    with open(path, "wb") as file:
        for _ in range(size // _BLOCK):
            file.write(block)
        os.fsync(file.fileno())
    wrote = time.monotonic() - began
    _forget(folder)
    began = time.monotonic()
    with open(path, "rb") as file:
        while file.read(_BLOCK):
            pass
    read = time.monotonic() - began
    path.unlink()
    _report(disk_write_mb_s=round(size / 1e6 / wrote, 1), disk_read_mb_s=round(size / 1e6 / read, 1))


def _forget(folder: Path) -> None:
    """Drops files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _largest(model: BagpiperConfig, dtype: str) -> int:
    return max(math.prod(s) for s in model_shapes(model).values()) * FLOATS[dtype].itemsize


def _bytes(plan: Plan) -> int:
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in plan.values())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(**values) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
