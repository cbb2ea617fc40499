"""Our directories in transformers, transformers' directories in ours, and the same logits on both sides."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tiny_models
from flax import nnx
from interop_helpers import CODEC, MODEL, exporting, importing, native_tensors, save_native
from test_interop import stored

from bagpiper_jax.errors import Explained
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.hub import sizes as hub_sizes
from bagpiper_jax.jobs import export_checkpoint as export_job
from bagpiper_jax.jobs import import_checkpoint as import_job
from bagpiper_jax.models.codecs.xcodec import functional
from bagpiper_jax.models.codecs.xcodec.storage import load_codec
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.text import learn_bpe, load_tokenizer
from bagpiper_jax.training.state import model_definition

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    path = tmp_path_factory.mktemp("imported")
    small = {n: x * 0.1 if x.ndim > 1 else x for n, x in native_tensors().items()}
    return importing(path / "ours", espnet=save_native(path / "base.safetensors", small))


@pytest.fixture(scope="module")
def model(imported):
    parameters = {name: jax.numpy.asarray(x) for name, x in stored(imported).items()}
    return nnx.merge(model_definition(MODEL), unflatten(parameters))


def test_the_decoder_is_a_qwen3(imported, model, tmp_path):
    path = exporting(imported, tmp_path / "qwen3", "qwen3")
    theirs, report = transformers.Qwen3ForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and theirs.dtype == torch.float32
    tokens = np.random.default_rng(0).integers(1, MODEL.vocabulary.size, (2, 20))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    positions, segments = np.arange(20)[None].repeat(2, 0), np.ones((2, 20), np.int32)
    x = model.decoder.embed_tokens[...][tokens]
    found = model.logits(model.decoder(x, positions, segments)[0], 0)
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_the_tower_is_qwen3_omnis(imported, model, tmp_path):
    module = pytest.importorskip("transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe")
    path = exporting(imported, tmp_path / "tower", "tower")
    theirs, report = module.Qwen3OmniMoeAudioEncoder.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    clip = np.random.default_rng(0).normal(size=(250, MODEL.tower.mel_bins)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(clip.T), feature_lens=torch.tensor([250])
        ).last_hidden_state.numpy()
    found = np.asarray(model.tower(**tiny_models.chunked([clip])))[0][: len(expected)]
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_the_codec_is_an_xcodec(imported, tmp_path):
    path = exporting(imported, tmp_path / "xcodec", "xcodec")
    theirs, report = transformers.XcodecModel.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    codes = np.random.default_rng(0).integers(0, CODEC.codebook_size, (1, 12, 8))
    with torch.no_grad():
        expected = theirs.eval().decode(torch.from_numpy(codes.transpose(0, 2, 1))).audio_values.numpy()[:, 0]
    parameters, config = load_codec(imported / "codec.safetensors")
    found = np.asarray(functional.decode(parameters, config, codes))
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def qwen3(path, **changes):
    d = MODEL.decoder
    settings = {
        "vocab_size": 40, "hidden_size": d.width, "intermediate_size": d.ffn_width, "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads, "num_key_value_heads": d.kv_heads, "head_dim": d.head_width,
        "rope_theta": d.rope_theta, "rms_norm_eps": d.norm_eps,
    }  # fmt: skip
    theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings | changes))
    theirs.save_pretrained(path, max_shard_size="40KB")
    return theirs


@pytest.mark.parametrize("tied", [False, True])
def test_a_text_only_qwen3_becomes_the_decoder(tmp_path, tied):
    theirs = qwen3(tmp_path / "qwen", tie_word_embeddings=tied)
    assert len(list((tmp_path / "qwen").glob("*.safetensors"))) > 1
    ours = stored(importing(tmp_path / "ours", qwen3=tmp_path / "qwen", seed=3))
    start, new = MODEL.vocabulary.text_start, MODEL.decoder.init_std
    for name, weight in {
        "decoder/embed_tokens": theirs.model.embed_tokens,
        "lm_head": theirs.lm_head,
    }.items():
        np.testing.assert_array_equal(ours[name][start : start + 40], weight.weight.detach().numpy())
        assert (
            abs(ours[name][:start].std() / new - 1) < 0.1
            and abs(ours[name][start + 40 :].std() / new - 1) < 0.1
        )
    up = torch.stack([layer.mlp.up_proj.weight for layer in theirs.model.layers]).detach().numpy()
    np.testing.assert_array_equal(ours["decoder/layers/ffn/up"], up.transpose(0, 2, 1))
    limit = MODEL.tower.output_width**-0.5
    assert not ours["stream_emb"].any() and 0.9 * limit < np.abs(ours["adaptor/kernel"]).max() <= limit


def test_config_json_tells_what_shapes_do_not(tmp_path):
    qwen3(tmp_path / "a", rope_theta=5e5, rms_norm_eps=1e-5)
    with pytest.raises(
        InterchangeError, match=r"rope_theta is 500000.0, ours 1000000.0: bind DecoderConfig.rope_theta"
    ):
        importing(tmp_path / "x", qwen3=tmp_path / "a")
    qwen3(tmp_path / "b", num_attention_heads=2, head_dim=32, num_key_value_heads=1)
    with pytest.raises(
        InterchangeError, match="num_attention_heads is 2, ours 4(.|\n)*bind DecoderConfig.head_width = 32"
    ):
        importing(tmp_path / "x", qwen3=tmp_path / "b")


def test_a_larger_text_vocabulary_is_refused(tmp_path):
    qwen3(tmp_path / "qwen", vocab_size=MODEL.vocabulary.text_size + 1)
    with pytest.raises(InterchangeError, match=r"lm_head.weight is \[301, 32\], should be \[300, 32\]"):
        importing(tmp_path / "x", qwen3=tmp_path / "qwen")


def test_only_the_towers_tensors_of_an_omni_are_read(imported, tmp_path):
    """The tower lies in one shard of many; the others are not even there."""
    tower = exporting(imported, tmp_path / "tower", "tower")
    from safetensors.numpy import load_file, save_file

    omni = tmp_path / "omni"
    omni.mkdir()
    (shard,) = tower.glob("*.safetensors")
    tensors = {f"thinker.audio_tower.{name}": x for name, x in load_file(shard).items()}
    save_file(tensors, omni / "model-00002-of-00015.safetensors")
    placed = dict.fromkeys(tensors, "model-00002-of-00015.safetensors")
    placed |= {"thinker.model.embed_tokens.weight": "model-00001-of-00015.safetensors"}
    (omni / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    audio = json.loads((tower / "config.json").read_text())
    (omni / "config.json").write_text(json.dumps({"thinker_config": {"audio_config": audio}}))
    ours = stored(importing(tmp_path / "ours", tower=omni))
    for name, x in stored(imported).items():
        if name.startswith("tower/"):
            np.testing.assert_array_equal(ours[name], x)


def test_vllm_directory(imported, tmp_path):
    path = exporting(imported, tmp_path / "v", "vllm", "bfloat16")
    config, v = json.loads((path / "config.json").read_text()), MODEL.vocabulary
    assert (
        config["architectures"] == ["BagpiperForConditionalGeneration"] and config["model_type"] == "bagpiper"
    )
    assert config["text_config"]["vocab_size"] == config["vocab_size"] == v.size
    assert config["text_config"]["max_position_embeddings"] == 32768  # the backbone's, no legacy override
    assert (config["audio_config"]["n_window"], config["audio_config"]["n_window_infer"]) == (50, 800)
    assert (config["codec_base_offset"], config["codec_layer_size"]) == (v.codec_start, v.stream_size)
    assert [
        config[f"{n}_token_id"]
        for n in ("pad", "bos", "eos", "eot", "system", "user", "assistant", "text", "audio")
    ] == list(range(9))
    config["codec_base_offset"] += 1
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InterchangeError, match="codec_base_offset is 557, this vocabulary's is 556"):
        importing(tmp_path / "x", espnet=path)


def test_legacy_windows_are_told_and_not_taken(imported, tmp_path, caplog):
    path = exporting(imported, tmp_path / "v", "vllm")
    config = json.loads((path / "config.json").read_text())
    config["audio_config"] |= {"n_window": 100, "n_window_infer": 400}
    (path / "config.json").write_text(json.dumps(config))
    hub_sizes.check("espnet", path, MODEL, CODEC)
    assert "serving override" in caplog.text


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_the_vllm_tokenizer_gives_our_ids(imported, tmp_path, kind):
    text = "A dog barks! Ünïcode 犬, twice.\n\n<think>why</think>"
    if kind == "bpe":
        learn_bpe([text * 3, "dogs bark and bark"], 300, tmp_path / "tokenizer.json")
    spec = "byte" if kind == "byte" else str(tmp_path / "tokenizer.json")
    path = exporting(imported, tmp_path / "v", "vllm", tokenizer=spec)
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    expected = MODEL.vocabulary.text_to_ids(np.array(load_tokenizer(spec).encode(text))).tolist()
    assert theirs.encode(text, add_special_tokens=False) == expected
    assert theirs.decode(expected) == text
    vocabulary = MODEL.vocabulary
    for token in (0, 3, 11, 255, vocabulary.codec_start, vocabulary.codec_start + 5, vocabulary.size - 1):
        name = vocabulary.describe(token)
        assert theirs.convert_tokens_to_ids(name) == token and theirs.encode(
            name, add_special_tokens=False
        ) == [token]
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)
    chat = [{"role": "user", "content": "<|audio|>"}, {"role": "user", "content": "hi"}]
    ids = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    hi = MODEL.vocabulary.text_to_ids(np.array(load_tokenizer(spec).encode("hi"))).tolist()
    assert ids == [1, 5, 8, 2, 5, 7, *hi, 2, 6]


@pytest.fixture(scope="module")
def parts(imported, tmp_path_factory):
    """Three directories that only their config.json describes."""
    path = tmp_path_factory.mktemp("parts")
    found = {kind: exporting(imported, path / kind, kind) for kind in ("tower", "xcodec")}
    return {"qwen3": qwen3(path / "qwen", vocab_size=MODEL.vocabulary.text_size) and path / "qwen", **found}


def by_the_job(tmp_path, sources, *flags):
    given = [f"--gin.ImportConfig.{kind}={path}" for kind, path in sources.items()]
    import_job.main([*given, f"--gin.ImportConfig.output={tmp_path / 'ours'}", *flags])
    return load_model_config(tmp_path / "ours")[0], tmp_path / "ours"


def test_an_import_is_told_no_size_that_its_sources_tell(parts, tmp_path):
    model, path = by_the_job(tmp_path, parts)
    ours = ("dtype", "remat", "init_std", "attention")  # what no source tells
    decoder = {name: getattr(MODEL.decoder, name) for name in ours}
    tower = {name: getattr(MODEL.tower, name) for name in ("dtype", "remat")}
    assert dataclasses.replace(model.decoder, **decoder) == MODEL.decoder
    assert dataclasses.replace(model.tower, **tower) == MODEL.tower and model.vocabulary == MODEL.vocabulary
    assert load_codec(path / "codec.safetensors")[1] == CODEC


def test_what_is_bound_and_contradicts_a_source_is_an_error(parts, tmp_path):
    one = {"tower": parts["tower"]}
    with pytest.raises(Explained, match=r"encoder_layers is 2, ours 5: bind AudioTowerConfig.layers = 2"):
        by_the_job(tmp_path, one, "--gin.AudioTowerConfig.layers=5")
    with pytest.raises(Explained, match=r"encoder_layers is 2, ours 32: bind AudioTowerConfig.layers = 2"):
        by_the_job(tmp_path, one, "--gin_file=gin/models/8b.gin")
    one = {"xcodec": parts["xcodec"]}
    with pytest.raises(Explained, match=r"target_bandwidths is .* ours 4: bind Vocabulary.num_streams = 8"):
        by_the_job(tmp_path, one, "--gin.Vocabulary.num_streams=4")
    assert not (tmp_path / "ours").exists()


def test_the_tokenizer_of_a_source_comes_along(imported, tmp_path):
    learn_bpe(["a dog barks", "dogs bark and bark"], 290, tmp_path / "tokenizer.json")
    spec = str(tmp_path / "tokenizer.json")
    path = exporting(imported, tmp_path / "v", "vllm", tokenizer=spec)
    model, ours = by_the_job(tmp_path, {"espnet": path})
    assert (
        model.vocabulary == MODEL.vocabulary and load_model_config(ours)[1]["tokenizer"] == "tokenizer.json"
    )
    ours.rename(tmp_path / "moved")
    for text in ("dogs bark", "<think>ü</think>"):  # the think tokens have ids within the learned ones
        found, expected = (load_tokenizer(str(p)).encode(text) for p in (tmp_path / "moved", spec))
        assert found == expected


def test_a_damaged_checkpoint_is_not_exported(imported, tmp_path):
    """As after a torn copy: files of the array store that are cut, or gone."""
    shutil.copytree(imported, tmp_path / "ours")
    pieces = sorted((tmp_path / "ours" / "parameters").rglob("d/*"), key=lambda file: file.stat().st_size)
    pieces[-1].write_bytes(pieces[-1].read_bytes()[:200])
    with pytest.raises(Explained, match="damaged"):
        export_job.main([f"--checkpoint={tmp_path / 'ours'}", "--format=qwen3", f"--output={tmp_path / 'q'}"])
    assert {p.name for p in tmp_path.iterdir()} == {"ours"}
