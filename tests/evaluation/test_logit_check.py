"""The logit check agrees where the checkpoints are one, and tells where they are not."""

import dataclasses

import numpy as np
import pytest
from interop_helpers import MODEL, exporting, importing, native_tensors, save_native

from bagpiper_jax import audio
from bagpiper_jax.errors import Explained
from bagpiper_jax.evaluation.logit_check import agreement
from bagpiper_jax.interop.tables import espnet
from bagpiper_jax.jobs import logit_check as job

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HEARING = dataclasses.replace(MODEL, tower=dataclasses.replace(MODEL.tower, mel_bins=128))


def small_tensors():
    tensors = native_tensors(HEARING)
    return {n: x if x.ndim == 1 or n == espnet.VOCAB_WEIGHT else x * 0.2 for n, x in tensors.items()}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    path = tmp_path_factory.mktemp("sides")
    native = save_native(path / "base.pt", small_tensors())
    clip = np.random.default_rng(0).normal(size=20_000).astype(np.float32) * 0.1
    audio.write(path / "clip.wav", clip)
    return importing(path / "ours", espnet=native, model=HEARING), native, path / "clip.wav"


def check(capsys, ours, theirs, clip="", **settings):
    settings = {"checkpoint": ours, "other": theirs, "audio": clip} | settings
    job.main([f"--gin.LogitCheckConfig.{name}={value}" for name, value in settings.items()])
    return capsys.readouterr().out


def test_all_streams_agree_with_the_native_file_and_with_vllms(capsys, sides, tmp_path):
    ours, native, clip = sides
    out = check(capsys, ours, native, clip, tolerance=2e-5)
    assert len(out.splitlines()) == 9 and "stream 7" in out
    out = check(capsys, ours, exporting(ours, tmp_path / "v", "vllm"), clip, tolerance=2e-5)
    assert "100.0%" in out.splitlines()[1]


def test_a_qwen3_directory_of_either_vocabulary(capsys, sides, tmp_path):
    ours, _, _ = sides
    out = check(capsys, ours, exporting(ours, tmp_path / "q", "qwen3"), tolerance=2e-5)
    assert len(out.splitlines()) == 2
    d = MODEL.decoder
    transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=MODEL.vocabulary.text_size, hidden_size=d.width, intermediate_size=d.ffn_width,
            num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
            head_dim=d.head_width, tie_word_embeddings=True, initializer_range=0.2, rope_theta=d.rope_theta,
        )
    ).save_pretrained(tmp_path / "text")  # fmt: skip
    ours = importing(tmp_path / "from_text", qwen3=tmp_path / "text")
    assert "stream 0" in check(capsys, ours, tmp_path / "text", tolerance=2e-5)


@pytest.mark.parametrize(
    "name",
    [
        "model.norm.weight",
        "stream_emb.weight",
        "adaptor.continuous_audio.bias",
        espnet.TOWER_PREFIX + "proj2.bias",
    ],
)
def test_a_changed_tensor_is_noticed(capsys, sides, tmp_path, name):
    ours, _, clip = sides
    tensors = small_tensors()
    tensors[name] = tensors[name] * 1.5
    other = save_native(tmp_path / "other.safetensors", tensors)
    with pytest.raises(Explained, match="logits differ by"):
        check(capsys, ours, other, clip)


def test_no_decoder(capsys, sides, tmp_path):
    ours, _, clip = sides
    with pytest.raises(Explained, match="holds no decoder"):
        check(capsys, ours, exporting(ours, tmp_path / "t", "tower"), clip)


def test_agreement_of_known_distributions():
    theirs = np.log([[0.5, 0.25, 0.25]])
    ours = np.log([[0.25, 0.5, 0.25]])
    found = agreement(ours, theirs, 2)
    assert found.max_error == pytest.approx(np.log(2)) and found.relative_error == pytest.approx(0.5)
    assert found.kl == pytest.approx(0.25 * np.log(2)) and found.top_1 == 0 and found.top_k == 1
    assert agreement(theirs, theirs, 1).kl == 0
