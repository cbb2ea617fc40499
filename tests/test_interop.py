"""Name tables and the import and export jobs: the release's names, bit-exact round trips, faults by name."""

import dataclasses
import gzip
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_models
from safetensors.numpy import load_file, save_file

from bagpiper_jax import export_checkpoint as export_job
from bagpiper_jax.interop import espnet, qwen3
from bagpiper_jax.interop.exporting import ExportConfig, export_checkpoint
from bagpiper_jax.interop.importing import ImportConfig, codec_shapes, import_checkpoint, model_shapes
from bagpiper_jax.interop.names import InterchangeError, count, to_ours, to_theirs
from bagpiper_jax.interop.tensors import open_tensors, write_tensors
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.models.configs import CodecConfig, SemanticEncoderConfig
from bagpiper_jax.training.state import flatten, unflatten
from bagpiper_jax.vocabulary import Vocabulary

GOLDEN = Path(__file__).parent / "data" / "state_dict_8b.json.gz"
MODEL = tiny_models.MODEL
CODEC = CodecConfig(
    encoder_width=2, decoder_width=32, acoustic_width=4, codebook_size=6, codebook_width=20,
    semantic=SemanticEncoderConfig(
        width=16, layers=2, heads=2, ffn_width=24, conv_widths=(8,) * 7, positional_kernel=8, positional_groups=2
    ),
)  # fmt: skip


def listed(capsys, *flags) -> dict[str, dict]:
    export_job.main(["--list", *flags])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def native():
    """A random native state dict."""
    random = np.random.default_rng(0)
    ours = model_shapes(MODEL) | codec_shapes(CODEC)
    shapes = espnet.their_shapes(ours, CODEC, MODEL.vocabulary)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors | {espnet.VOCAB_WEIGHT: espnet.class_weights(MODEL.vocabulary)}


@pytest.fixture
def imported(native, tmp_path):
    save_file(native, tmp_path / "base.safetensors")
    config = ImportConfig(str(tmp_path / "ours"), MODEL, CODEC, espnet=str(tmp_path / "base.safetensors"))
    return import_checkpoint(config)


def export(checkpoint, output, **changes):
    config = ExportConfig(str(checkpoint), str(output), **({"dtype": "float32"} | changes))
    return export_checkpoint(config)


def test_listing_of_the_release_is_the_golden(capsys):
    golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    found = listed(capsys, "--format=espnet", "--gin_file=gin/models/8b.gin")
    weight = found.pop("vocab_weight")
    assert weight == {"name": "vocab_weight", "shape": [160392], "dtype": "float32"}
    assert {name: row["shape"] for name, row in found.items()} == golden
    assert {row["dtype"] for row in found.values()} == {"bfloat16"}
    assert count({name: tuple(shape) for name, shape in golden.items()}) == 9_093_843_593


def test_listing_of_the_parts(capsys):
    assert len(listed(capsys, "--format=qwen3", "--gin_file=gin/models/8b.gin")) == 399
    assert len(listed(capsys, "--format=tower", "--gin_file=gin/models/8b.gin")) == 525


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_native_round_trip_is_bit_exact(native, imported, tmp_path, suffix):
    if suffix == "pt":
        pytest.importorskip("torch")
    back = open_tensors(export(imported, tmp_path / f"back.{suffix}"))
    assert back.keys() == native.keys()
    for name, tensor in native.items():
        np.testing.assert_array_equal(back[name].read(), tensor, err_msg=name)


def test_bfloat16_checkpoints_keep_their_bits(native, tmp_path):
    pytest.importorskip("torch")
    half = {n: x if n == espnet.VOCAB_WEIGHT else x.astype(ml_dtypes.bfloat16) for n, x in native.items()}
    write_tensors(tmp_path / "half.pt", half.items())
    imported = import_checkpoint(
        ImportConfig(str(tmp_path / "o"), MODEL, CODEC, espnet=str(tmp_path / "half.pt"))
    )
    back = load_file(export(imported, tmp_path / "back.safetensors", dtype="bfloat16"))
    for name, tensor in half.items():
        assert back[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(back[name].view(np.uint8), tensor.view(np.uint8), err_msg=name)


def test_our_parameters_survive_their_format():
    ours = tiny_models.parameters(tiny_models.random_model())
    ours |= {n: np.random.default_rng(1).normal(size=s).astype("f4") for n, s in codec_shapes(CODEC).items()}
    shapes = {name: x.shape for name, x in ours.items()}
    table = espnet.entries(shapes, CODEC)
    theirs = dict(to_theirs(table, ours))
    back = to_ours(table, theirs.__getitem__, shapes)
    assert back.keys() == ours.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)


def test_import_is_what_generation_and_training_read(imported):
    from bagpiper_jax.generation.replies import load_generator

    generator = load_generator(imported)
    assert generator.model.config == MODEL


def test_transformers_loads_our_export_and_we_load_transformers(imported, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    path = export(imported, tmp_path / "decoder.safetensors", format="qwen3")
    tower = export(imported, tmp_path / "tower.safetensors", format="tower")
    d = MODEL.decoder
    theirs = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=40, hidden_size=d.width, intermediate_size=d.ffn_width, num_hidden_layers=d.layers,
            num_attention_heads=d.heads, num_key_value_heads=d.kv_heads, head_dim=d.head_width,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    whole = load_file(path)
    assert {n for n, _ in theirs.state_dict().items()} == whole.keys()
    theirs.save_pretrained(tmp_path / "qwen")
    config = ImportConfig(
        str(tmp_path / "mixed"), MODEL, qwen3=str(tmp_path / "qwen"), tower=str(tower), seed=3
    )
    mixed = stored(import_checkpoint(config))
    text = MODEL.vocabulary.text_start
    embedding = theirs.model.embed_tokens.weight.detach().numpy()
    np.testing.assert_array_equal(mixed["decoder/embed_tokens"][text : text + 40], embedding)
    assert abs(mixed["decoder/embed_tokens"][:text].std() - d.init_std) < 0.1 * d.init_std
    np.testing.assert_array_equal(mixed["lm_head"][text : text + 40], theirs.lm_head.weight.detach().numpy())
    up = torch.stack([layer.mlp.up_proj.weight for layer in theirs.model.layers]).detach().numpy()
    np.testing.assert_array_equal(mixed["decoder/layers/ffn/up"], up.transpose(0, 2, 1))
    np.testing.assert_array_equal(mixed["tower/conv_out"], stored(imported)["tower/conv_out"])


def stored(directory) -> dict[str, np.ndarray]:
    with ocp.StandardCheckpointer() as checkpointer:
        return {
            name: np.asarray(x) for name, x in flatten(checkpointer.restore(directory / "parameters")).items()
        }


def test_tied_embeddings_give_the_head():
    fresh = {name: np.zeros(shape, np.float32) for name, shape in model_shapes(MODEL).items()}
    text = {n: (40, 32) if n in qwen3.VOCABULARY_TABLES else s for n, s in model_shapes(MODEL).items()}
    whole = {n: np.ones(s, np.float32) for n, s in text.items()}
    theirs = dict(to_theirs(qwen3.entries(text), whole))
    del theirs["lm_head.weight"]
    from bagpiper_jax.interop.tensors import Tensor

    tensors = {name: Tensor(x.shape, lambda x=x: x) for name, x in theirs.items()}
    ours = qwen3.import_backbone(tensors, fresh, MODEL.vocabulary, "tied")
    start = MODEL.vocabulary.text_start
    assert ours["lm_head"][start : start + 40].all() and not ours["lm_head"][:start].any()


FAULTS = {
    "missing": (lambda t: t.pop("model.norm.weight"), r"missing model.norm.weight \[32\]"),
    "unknown": (lambda t: t.update(extra=np.zeros(3)), r"unknown extra \[3\]"),
    "misshapen": (
        lambda t: t.update({"stream_emb.weight": t["stream_emb.weight"].T}),
        r"stream_emb.weight is \[32, 8\], should be \[8, 32\]",
    ),
    "other order of the vocabulary": (
        lambda t: t.update({espnet.VOCAB_WEIGHT: t[espnet.VOCAB_WEIGHT][::-1]}),
        "does not have the layout specials | text | codec",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_nothing_is_written(native, tmp_path, fault):
    spoil, message = FAULTS[fault]
    tensors = dict(native)
    spoil(tensors)
    save_file({n: np.ascontiguousarray(x) for n, x in tensors.items()}, tmp_path / "base.safetensors")
    config = ImportConfig(str(tmp_path / "ours"), MODEL, CODEC, espnet=str(tmp_path / "base.safetensors"))
    with pytest.raises(InterchangeError, match=message):
        import_checkpoint(config)
    assert not (tmp_path / "ours").exists()


def test_all_faults_are_listed_at_once(native, tmp_path):
    save_file({n: x for n, x in native.items() if "proj1" not in n}, tmp_path / "base.safetensors")
    config = ImportConfig(str(tmp_path / "ours"), MODEL, CODEC, espnet=str(tmp_path / "base.safetensors"))
    with pytest.raises(InterchangeError, match=r"2 faults(.|\n)*proj1.bias(.|\n)*proj1.weight"):
        import_checkpoint(config)


def test_broken_and_absent_files_are_named(native, tmp_path):
    whole = tmp_path / "a.safetensors"
    save_file(native, whole)
    (tmp_path / "torn.safetensors").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "torn.pt").write_bytes(b"PK no zip")
    for name, message in {
        "torn.safetensors": "torn.safetensors is no complete safetensors file",
        "torn.pt": "torn.pt is no complete PyTorch file",
        "nothing.pt": "nothing.pt does not exist",
    }.items():
        with pytest.raises(InterchangeError, match=message):
            open_tensors(tmp_path / name)
    (tmp_path / "model.bin.txt").write_text("x")
    with pytest.raises(InterchangeError, match="give a .safetensors file"):
        open_tensors(tmp_path / "model.bin.txt")


def test_pickled_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"module": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InterchangeError, match="evil.pt is no complete PyTorch file of plain tensors"):
        open_tensors(tmp_path / "evil.pt")


def test_shards_of_a_directory_are_one_checkpoint(native, tmp_path):
    names = sorted(native)
    (tmp_path / "shards").mkdir()
    save_file({n: native[n] for n in names[::2]}, tmp_path / "shards" / "1.safetensors")
    save_file({n: native[n] for n in names[1::2]}, tmp_path / "shards" / "2.safetensors")
    assert open_tensors(tmp_path / "shards").keys() == native.keys()
    save_file({names[0]: native[names[0]]}, tmp_path / "shards" / "3.safetensors")
    with pytest.raises(InterchangeError, match="in two shards"):
        open_tensors(tmp_path / "shards")


def test_nothing_is_overwritten(imported, tmp_path):
    (tmp_path / "there.safetensors").write_text("precious")
    with pytest.raises(InterchangeError, match="there.safetensors exists"):
        export(imported, tmp_path / "there.safetensors")
    with pytest.raises(InterchangeError, match="exists; remove it"):
        import_checkpoint(ImportConfig(str(imported), MODEL, CODEC, espnet="x.pt"))
    assert (tmp_path / "there.safetensors").read_text() == "precious"


def test_a_checkpoint_without_codec_cannot_be_native(tmp_path):
    parameters = tiny_models.parameters(tiny_models.random_model())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((tmp_path / "run" / "parameters").absolute(), unflatten(parameters))
    save_model_config(tmp_path / "run", MODEL)
    with pytest.raises(InterchangeError, match="give ExportConfig.codec"):
        export(tmp_path / "run", tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="must end in .safetensors or .pt|give ExportConfig"):
        export(tmp_path / "run", tmp_path / "x.txt", format="qwen3")


def test_class_weights_of_the_release():
    weights = espnet.class_weights(Vocabulary())
    assert weights.shape == (160392,) and weights[152191] == 1 and weights[152192] == 0.125
    assert dataclasses.is_dataclass(ImportConfig)
    with pytest.raises(ValueError, match="ImportConfig.espnet"):
        ImportConfig("x")
