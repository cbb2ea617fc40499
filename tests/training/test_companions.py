"""Tokenizer and codec are kept inside a run: it can be copied, moved and opened from any directory."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from bagpiper_jax.digests import DigestError
from bagpiper_jax.files import WriteError
from bagpiper_jax.models.codecs.xcodec import storage
from bagpiper_jax.models.config_json import load_model_config, save_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.text import TokenizerError, load_tokenizer
from bagpiper_jax.text.tokenizers import learn_bpe
from bagpiper_jax.training import companions


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose settings named tokenizer and codec by paths from the directory where it was started."""
    (tmp_path / "start" / "corpora").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "start")
    learn_bpe(["a dog barks", "rain on a roof"], 270, "corpora/tokenizer.json")
    shutil.copy(storage.NANO, "corpora/codec.safetensors")
    directory = tmp_path / "start" / "run"
    kept = companions.keep(directory, "corpora/tokenizer.json", "corpora/codec.safetensors")
    save_model_config(directory, BagpiperConfig(), stage="sft", **kept)
    return directory


def found(run, name):
    return companions.find(run, load_model_config(run)[1], name)


def test_a_run_names_files_of_its_own(run):
    content = json.loads((run / "config.json").read_text())
    assert (content["tokenizer"], content["codec"]) == ("tokenizer.json", "codec.safetensors")
    assert set(content["digests"]) == {"tokenizer.json", "codec.safetensors"}
    assert sorted(p.name for p in run.iterdir()) == ["codec.safetensors", "config.json", "tokenizer.json"]


def test_a_moved_run_opens_from_another_directory_and_what_it_was_made_from_may_go(
    run, tmp_path, monkeypatch
):
    fingerprint = load_tokenizer("corpora/tokenizer.json").fingerprint
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(run, moved)
    (moved / "checkpoints" / "7").mkdir(parents=True)
    shutil.rmtree(tmp_path / "start")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for place in (moved, "run", moved / "checkpoints" / "7", "run/checkpoints/7"):
        assert load_tokenizer(found(place, "tokenizer")).fingerprint == fingerprint
        storage.load_codec(found(place, "codec"))
    monkeypatch.chdir(moved)
    assert load_tokenizer(found(".", "tokenizer")).fingerprint == fingerprint


def test_another_tokenizer_in_the_working_directory_is_not_taken(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    load_tokenizer(found(run, "tokenizer"))


@pytest.mark.parametrize("name, file", [("tokenizer", "tokenizer.json"), ("codec", "codec.safetensors")])
def test_one_that_changed_is_refused_by_name(run, name, file):
    content = bytearray((run / file).read_bytes())
    content[len(content) // 2] ^= 1
    (run / file).write_bytes(content)
    with pytest.raises(DigestError, match=f"run/{file} has changed since it was written"):
        found(run, name)


def test_a_disk_that_fills_while_the_codec_is_copied_is_explained_and_leaves_nothing(run, monkeypatch):
    def fills(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (run / "codec.safetensors").read_bytes()
    Path("other.safetensors").write_bytes(b"another codec")
    monkeypatch.setattr(companions.shutil, "copyfile", fills)
    with pytest.raises(WriteError, match="cannot write .*run/codec.safetensors: No space left"):
        companions.keep(run, None, "other.safetensors")
    assert (run / "codec.safetensors").read_bytes() == before
    assert sorted(p.name for p in run.iterdir()) == ["codec.safetensors", "config.json", "tokenizer.json"]


def test_runs_of_older_versions_still_open(run, monkeypatch):
    save_model_config(
        run, BagpiperConfig(), tokenizer="corpora/tokenizer.json", codec="corpora/codec.safetensors"
    )
    assert found(run, "tokenizer") == "corpora/tokenizer.json"
    storage.load_codec(found(run, "codec"))
    monkeypatch.chdir(run)
    with pytest.raises(TokenizerError, match="corpora/tokenizer.json"):
        load_tokenizer(found(run, "tokenizer"))


def test_bytes_and_none_need_no_file(tmp_path):
    save_model_config(tmp_path, BagpiperConfig(), **companions.keep(tmp_path, "byte", None))
    assert found(tmp_path, "tokenizer") == "byte" and found(tmp_path, "codec") == ""
    save_model_config(tmp_path, BagpiperConfig(), **companions.keep(tmp_path, None))
    assert found(tmp_path, "tokenizer") == ""
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_continues_keeps_what_it_has(run):
    """Also where its own copies are named, as of a run that another one starts from."""
    before = {p.name: p.stat().st_mtime_ns for p in run.iterdir()}
    companions.keep(run, "corpora/tokenizer.json", str(run / "codec.safetensors"))
    companions.keep(run, str(run / "tokenizer.json"), "corpora/codec.safetensors")
    assert (run / "codec.safetensors").stat().st_mtime_ns == before["codec.safetensors"]
    load_tokenizer(found(run, "tokenizer"))
