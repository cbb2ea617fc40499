"""What an export brings along: cards whose lines run as they stand, and names under which kills leave nothing odd."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from interop_helpers import CODEC, MODEL, exporting, importing, native_tensors, save_native
from places import HELPERS, REPOSITORY

from bagpiper_jax.errors import Explained
from bagpiper_jax.interop import exporting as module
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import card_of
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.hub import model_card
from bagpiper_jax.jobs import export_checkpoint as export_job
from bagpiper_jax.text import load_tokenizer


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    path = tmp_path_factory.mktemp("imported")
    small = {n: x * 0.1 if x.ndim > 1 else x for n, x in native_tensors().items()}
    return importing(path / "ours", espnet=save_native(path / "base.safetensors", small))


def snippet(card: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    return code


@pytest.mark.parametrize("format", ["qwen3", "tower", "xcodec", "vllm", "base.pt", "base.safetensors"])
def test_the_lines_of_a_card_open_the_export(imported, tmp_path, format):
    """In a folder that holds nothing else, by a python that knows nothing of this project, without a network."""
    pytest.importorskip("transformers")
    native = "." in format
    path = exporting(imported, tmp_path / "only" / format, "espnet" if native else format, "float32")
    card = card_of(path) if native else path / "README.md"
    where = path.parent if native else path
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", snippet(card)], cwd=where, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for complaint in ("newly initialized", "MISSING", "not initialized"):
        assert complaint not in done.stderr, done.stderr[-3000:]


def test_a_decoder_is_opened_by_its_path_alone(imported, tmp_path):
    transformers = pytest.importorskip("transformers")
    path = exporting(imported, tmp_path / "q", "qwen3")
    assert transformers.AutoConfig.from_pretrained(path).model_type == "qwen3"
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    expected = MODEL.vocabulary.text_to_ids(np.array(load_tokenizer("byte").encode("a fox"))).tolist()
    assert tokenizer.encode("a fox", add_special_tokens=False) == expected


def test_front_ends_are_opened_by_their_path_alone(imported, tmp_path):
    """The tower's hears what our own front end hears."""
    transformers = pytest.importorskip("transformers")
    tower = exporting(imported, tmp_path / "t", "tower")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tower)
    assert extractor.feature_size == MODEL.tower.mel_bins
    config = transformers.AutoConfig.from_pretrained(exporting(imported, tmp_path / "x", "xcodec"))
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "x")
    assert (extractor.sampling_rate, extractor.hop_length) == (CODEC.sample_rate, CODEC.hop)
    assert config.codebook_size == CODEC.codebook_size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "same", "usual"])
def test_a_codec_is_stored_in_the_type_asked_for(imported, tmp_path, dtype):
    """Also one that is stored in float16, as the shipped one is."""
    from bagpiper_jax.models.codecs.xcodec.storage import load_codec, save_codec

    parameters, config = load_codec(imported / "codec.safetensors")
    save_codec(tmp_path / "compact.safetensors", parameters, config, compact=True)
    path = exporting(imported, tmp_path / "x", "xcodec", dtype, codec=str(tmp_path / "compact.safetensors"))
    found = {str(t.dtype) for name, t in open_tensors(path).items() if "cluster" not in name}
    # The running means, which a compact file leaves out, are made anew in float32.
    wanted = {"same": "float16", "usual": "float32"}.get(dtype, dtype)
    assert wanted in found and found <= {wanted, "float32"}


def front_matter(card: Path) -> dict:
    return yaml.safe_load(card.read_text().split("---")[1])


def test_front_matter(imported, tmp_path):
    found = front_matter(exporting(imported, tmp_path / "q", "qwen3") / "README.md")
    assert found == {
        "license": "unknown", "base_model": ["base.safetensors"], "library_name": "transformers",
        "tags": ["audio", "bagpiper"],
    }  # fmt: skip
    path = exporting(imported, tmp_path / "t", "tower", license="apache-2.0", base_model="a/b: [c]")
    found = front_matter(path / "README.md")
    assert found["license"] == "apache-2.0" and found["base_model"] == ["a/b: [c]"]
    assert model_card.name_of("/x/hub/models--Qwen--Qwen3-8B-Base/snapshots/1a2b") == "Qwen/Qwen3-8B-Base"


def test_both_native_forms_lie_in_one_folder(imported, tmp_path):
    for name in ("base.pt", "base.safetensors"):
        if name.endswith("pt"):
            pytest.importorskip("torch")
        export_job.main([f"--checkpoint={imported}", "--format=espnet", f"--output={tmp_path / name}"])
    assert {p.name for p in tmp_path.iterdir()} == {
        "base.pt",
        "base.pt.md",
        "base.safetensors",
        "base.safetensors.md",
    }


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from bagpiper_jax.interop import exporting, partial
from interop_helpers import exporting as export
calls, last = [0], {call}
replace = os.replace
def counted(*paths):
    if calls[0] == last:
        os.kill(os.getpid(), signal.SIGKILL)
    calls[0] += 1
    replace(*paths)
os.replace = counted
export({checkpoint!r}, {output!r}, {format!r})
"""


@pytest.mark.parametrize("name,call", [("base.safetensors", 0), ("base.safetensors", 1), ("vllm", 0)])
def test_the_same_command_completes_an_export_that_was_killed(imported, tmp_path, name, call):
    output, format = tmp_path / name, "vllm" if name == "vllm" else "espnet"
    settings = {"checkpoint": str(imported), "output": str(output), "format": format}
    code = KILLED.format(tests=str(HELPERS), call=call, **settings)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not output.exists()
    assert exporting(imported, output, format) == output
    names = {"base.safetensors", "base.safetensors.md"} if format == "espnet" else {"vllm"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert open_tensors(output)


def test_somebodys_own_notes_are_not_overwritten(imported, tmp_path):
    card_of(tmp_path / "base.safetensors").write_text("precious")
    with pytest.raises(InterchangeError, match="base.safetensors.md exists, where the card would be"):
        exporting(imported, tmp_path / "base.safetensors")
    assert {p.name for p in tmp_path.iterdir()} == {"base.safetensors.md"}


def test_two_exports_into_one_place(imported, tmp_path):
    from bagpiper_jax.interop.partial import replacing

    with replacing(tmp_path / "x"), pytest.raises(Explained, match="in use by another process"):
        exporting(imported, tmp_path / "x", "tower")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_leaves_nothing(imported, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.safetensors_file.File, "write", full)
    for name, format in {"base.safetensors": "espnet", "t": "tower"}.items():
        flags = [f"--checkpoint={imported}", f"--format={format}", f"--output={tmp_path / name}"]
        with pytest.raises(Explained, match=f"cannot write .*{name}: .*No space left on device"):
            export_job.main(flags)
    assert not list(tmp_path.iterdir())


def test_dtypes_of_exports():
    def stored(format, dtype):
        return ExportConfig("run", "x.pt", format, dtype).stored_dtype

    assert [stored("xcodec", d) for d in ("usual", "same", "bfloat16")] == ["float32", "same", "bfloat16"]
    assert [stored("espnet", d) for d in ("usual", "float32")] == ["bfloat16", "float32"]
