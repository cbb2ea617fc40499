"""Import and export: the release's names, round trips to the bit through every format, faults by name."""

import gzip
import json

import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_models
from interop_helpers import (
    BFLOAT16,
    CODEC,
    MODEL,
    assert_equal,
    exporting,
    halved,
    importing,
    native_tensors,
    save_native,
)
from places import FIXTURES

from bagpiper_jax.errors import Explained
from bagpiper_jax.interop import fillings, sources
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import card_of
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.formats.tensors import Tensor
from bagpiper_jax.interop.importing import ImportConfig, codec_shapes
from bagpiper_jax.interop.tables import espnet, qwen3
from bagpiper_jax.interop.tables.grammar import count, to_theirs
from bagpiper_jax.jobs import export_checkpoint as export_job
from bagpiper_jax.jobs import import_checkpoint as import_job
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.models.parameters import flatten, unflatten
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.state import model_shapes
from bagpiper_jax.vocabulary import Vocabulary

GOLDEN = FIXTURES / "state_dict_8b.json.gz"


def listed(capsys, *flags) -> dict[str, dict]:
    export_job.main(["--list", *flags])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def native():
    return native_tensors()


@pytest.fixture(scope="module")
def imported(native, tmp_path_factory):
    """A float32 import, which no test changes."""
    path = tmp_path_factory.mktemp("imported")
    return importing(path / "ours", espnet=save_native(path / "base.safetensors", native))


@pytest.fixture(scope="module")
def imported_half(native, tmp_path_factory):
    """The same in bfloat16, from torch's file."""
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("half")
    return importing(path / "ours", espnet=save_native(path / "base.pt", halved(native)))


def read_all(path) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in open_tensors(path).items()}


def stored(directory) -> dict[str, np.ndarray]:
    """As Orbax itself restores them."""
    with ocp.StandardCheckpointer() as checkpointer:
        return {n: np.asarray(x) for n, x in flatten(checkpointer.restore(directory / "parameters")).items()}


def test_listing_of_the_release_is_the_golden(capsys):
    golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    found = listed(capsys, "--format=espnet", "--gin_file=gin/models/8b.gin")
    weight = found.pop("vocab_weight")
    assert weight == {"name": "vocab_weight", "shape": [160392], "dtype": "float32"}
    assert {name: row["shape"] for name, row in found.items()} == golden
    assert {row["dtype"] for row in found.values()} == {"bfloat16"}
    assert count({name: tuple(shape) for name, shape in golden.items()}) == 9_093_843_593


def test_listing_of_the_parts(capsys):
    for format, tensors in {"qwen3": 399, "tower": 525, "xcodec": 454, "vllm": 1381}.items():
        assert len(listed(capsys, f"--format={format}", "--gin_file=gin/models/8b.gin")) == tensors


def test_orbax_restores_what_we_write(native, imported, imported_half):
    ours, half = stored(imported), stored(imported_half)
    assert {name: x.shape for name, x in ours.items()} == model_shapes(MODEL)
    assert {x.dtype for x in ours.values()} == {np.dtype(np.float32)} and {
        x.dtype for x in half.values()
    } == {BFLOAT16}
    up = np.stack([native[f"model.layers.{i}.mlp.up_proj.weight"].T for i in range(MODEL.decoder.layers)])
    np.testing.assert_array_equal(ours["decoder/layers/ffn/up"], up)
    np.testing.assert_array_equal(ours["lm_head"], native["lm_head.weight"])
    for name, x in ours.items():
        np.testing.assert_array_equal(half[name], x.astype(BFLOAT16), err_msg=name)


@pytest.mark.parametrize("source", ["imported", "imported_half"])
@pytest.mark.parametrize("output", ["back.safetensors", "back.pt", "vllm"])
def test_whole_checkpoints_round_trip_to_the_bit(native, request, tmp_path, source, output):
    if output.endswith("pt"):
        pytest.importorskip("torch")
    expected = native if source == "imported" else halved(native)
    format = "vllm" if output == "vllm" else "espnet"
    path = exporting(request.getfixturevalue(source), tmp_path / output, format)
    if format == "vllm":
        expected = {name: x for name, x in expected.items() if name != espnet.VOCAB_WEIGHT}
    assert_equal(read_all(path), expected)
    card = path / "README.md" if format == "vllm" else card_of(path)
    assert '| imported from | {"espnet": "base' in card.read_text()


def test_every_way_round_is_the_same_checkpoint(native, imported_half, tmp_path):
    """.pt → ours → vLLM → ours → parts for transformers → ours."""
    whole = importing(tmp_path / "b", espnet=exporting(imported_half, tmp_path / "v", "vllm"))
    assert_equal(stored(whole), stored(imported_half))
    parts = {kind: exporting(whole, tmp_path / kind, kind) for kind in ("qwen3", "tower", "xcodec")}
    back = importing(tmp_path / "c", **parts)
    ours, expected = stored(back), stored(whole)
    for name in ("stream_emb", "adaptor/kernel", "adaptor/bias"):  # they have no place in transformers
        del ours[name], expected[name]
    assert_equal(ours, expected)
    assert_equal(read_all(back / "codec.safetensors"), read_all(whole / "codec.safetensors"))
    decoder = read_all(parts["qwen3"])
    assert_equal(decoder, {n: x for n, x in halved(native).items() if n in decoder})


def test_types_are_chosen(native, imported, tmp_path):
    path = exporting(imported, tmp_path / "half.safetensors", dtype="bfloat16")
    assert_equal(read_all(path), halved(native))
    narrow = importing(tmp_path / "narrow", espnet=path, dtype="float32")
    assert {x.dtype for x in stored(narrow).values()} == {np.dtype(np.float32)}


def test_a_layer_of_another_type_is_widened_and_told(native, tmp_path, caplog):
    mixed = halved(native)
    name = "model.layers.1.mlp.up_proj.weight"
    mixed[name] = native[name]
    ours = stored(importing(tmp_path / "ours", espnet=save_native(tmp_path / "mixed.safetensors", mixed)))
    assert (
        ours["decoder/layers/ffn/up"].dtype == np.float32
        and ours["decoder/layers/ffn/gate"].dtype == BFLOAT16
    )
    np.testing.assert_array_equal(ours["decoder/layers/ffn/up"][1], native[name].T)
    assert "mixes types" in caplog.text and "model.layers.0.mlp.up_proj.weight (bfloat16)" in caplog.text


def test_import_is_what_generation_and_training_read(imported_half):
    from bagpiper_jax.generation.replies import load_generator

    generator = load_generator(imported_half)
    assert generator.model.config == MODEL
    assert generator.model.lm_head.dtype == np.float32  # master weights, whatever is stored


def test_parameters_are_cut_for_the_mesh(native, tmp_path):
    from bagpiper_jax.interop.formats import orbax_store

    source = save_native(tmp_path / "base.safetensors", native)
    path = importing(tmp_path / "ours", espnet=source, mesh=MeshConfig(fsdp=4, tensor=2))
    opened = orbax_store.open_parameters(path / "parameters", model_shapes(MODEL))
    chunks = {name: x._array.chunk_layout.read_chunk.shape for name, x in opened.items()}
    d = MODEL.decoder
    assert chunks["decoder/layers/ffn/up"] == (1, d.width // 4, d.ffn_width // 2)
    assert chunks["lm_head"] == (MODEL.vocabulary.size // 2, d.width // 4)
    assert_equal(read_all(exporting(path, tmp_path / "back.safetensors")), native)


def test_a_runs_checkpoint_is_exported_too(tmp_path):
    """Stored by Orbax: stacked parameters in one piece."""
    parameters = tiny_models.parameters(tiny_models.random_model(MODEL))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(
            (tmp_path / "run" / "checkpoints" / "7" / "parameters").absolute(), unflatten(parameters)
        )
    save_model_config(tmp_path / "run", MODEL, tokenizer="byte")
    item = tmp_path / "run" / "checkpoints" / "7" / "provenance"
    item.mkdir()
    (item / "metadata").write_text(
        json.dumps({"gin": "TrainConfig.seed = 5", "environment": {"commit": "abc"}})
    )
    path = exporting(tmp_path / "run", tmp_path / "q", "qwen3")
    assert_equal(
        read_all(path),
        dict(to_theirs(qwen3.entries({n: x.shape for n, x in parameters.items()}), parameters)),
    )
    card = (path / "README.md").read_text()
    assert "| step | 7 |" in card and "TrainConfig.seed = 5" in card and "| commit | abc |" in card


def test_tied_embeddings_give_the_head_and_new_rows_are_drawn():
    config, shapes = MODEL, model_shapes(MODEL)
    text = {**shapes, **{n: (40, 32) for n in qwen3.VOCABULARY_TABLES}}
    theirs = dict(to_theirs(qwen3.entries(text), {n: np.ones(s, np.float32) for n, s in text.items()}))
    del theirs["lm_head.weight"]
    tensors = {n: Tensor(x.shape, x.dtype, lambda a, b, x=x: x[a:b]) for n, x in theirs.items()}
    found = sources.backbone(tensors, config, shapes, 3, "tied")
    start, rows = config.vocabulary.text_start, config.vocabulary.size
    head, embedding = (found[n].read(0, rows) for n in ("lm_head", "decoder/embed_tokens"))
    assert (head[start : start + 40] == 1).all() and (embedding[start : start + 40] == 1).all()
    fresh = np.concatenate([head[:start], head[start + 40 :]])
    assert abs(fresh.std() / config.decoder.init_std - 1) < 0.05 and not np.array_equal(
        head[:9], embedding[:9]
    )
    parts = [found["lm_head"].read(i, min(i + 50, rows)) for i in range(0, rows, 50)]
    np.testing.assert_array_equal(np.concatenate(parts), head)


def test_new_rows_do_not_depend_on_how_they_are_read():
    rows = fillings.normal_rows("lm_head", 4, 0.02, seed=1)
    whole = rows.read(0, 3000)
    np.testing.assert_array_equal(rows.read(1000, 2500), whole[1000:2500])
    assert abs(whole.std() / 0.02 - 1) < 0.05
    assert not np.array_equal(fillings.normal_rows("lm_head", 4, 0.02, seed=2).read(0, 9), whole[:9])


def test_layers_that_nothing_gives_are_drawn_one_by_one():
    name = "decoder/layers/ffn/gate"
    filling = fillings.initial(MODEL, 3, [name])[name]
    whole = filling.read(0, MODEL.decoder.layers)
    assert whole.shape == model_shapes(MODEL)[name] and len(whole) > 1
    np.testing.assert_array_equal(filling.read(1, 2)[0], whole[1])
    assert not np.array_equal(whole[0], whole[1])
    np.testing.assert_allclose(whole.std(axis=(1, 2)), MODEL.decoder.init_std, rtol=0.1)


FAULTS = {
    "missing": (lambda t: t.pop("model.norm.weight"), r"missing model.norm.weight \[32\]"),
    "unknown": (lambda t: t.update(extra=np.zeros(3, "f4")), r"unknown extra \[3\]"),
    "misshapen": (
        lambda t: t.update({"stream_emb.weight": t["stream_emb.weight"].T}),
        r"stream_emb.weight is \[32, 8\], should be \[8, 32\]",
    ),
    "no float": (
        lambda t: t.update({"model.norm.weight": np.ones(32, np.int8)}),
        "model.norm.weight is int8",
    ),
    "other order of the vocabulary": (
        lambda t: t.update({espnet.VOCAB_WEIGHT: t[espnet.VOCAB_WEIGHT][::-1]}),
        "does not have the layout specials | text | codec",
    ),
    "prefix": (
        lambda t: [t.update({"wrapped." + n: t.pop(n)}) for n in list(t)],
        r"every name begins with the unknown prefix 'wrapped.'; remove it(.|\n)*unknown wrapped.lm_head.weight",
    ),
    "two": (
        lambda t: [t.pop(n) for n in list(t) if "proj1" in n],
        r"2 faults(.|\n)*proj1.bias(.|\n)*proj1.weight",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_nothing_is_written(native, tmp_path, fault):
    spoil, message = FAULTS[fault]
    tensors = dict(native)
    spoil(tensors)
    source = save_native(tmp_path / "base.safetensors", tensors)
    with pytest.raises(InterchangeError, match=message):
        importing(tmp_path / "ours", espnet=source)
    assert {p.name for p in tmp_path.iterdir()} == {"base.safetensors"}


def test_the_job_ends_with_one_message(tmp_path):
    with pytest.raises(Explained, match="nothing.pt does not exist"):
        import_job.main(
            [
                f"--gin.ImportConfig.output={tmp_path / 'x'}",
                f"--gin.ImportConfig.espnet={tmp_path}/nothing.pt",
            ]
        )


def test_a_checkpoint_without_codec_warns(native, tmp_path, caplog):
    tensors = {n: x for n, x in native.items() if not n.startswith(espnet.CODEC_PREFIX)}
    path = importing(tmp_path / "ours", espnet=save_native(tmp_path / "base.safetensors", tensors))
    assert "holds no codec" in caplog.text and not (path / "codec.safetensors").exists()
    with pytest.raises(InterchangeError, match="give ExportConfig.codec"):
        exporting(path, tmp_path / "x.safetensors")


def test_nothing_is_overwritten(imported, tmp_path):
    (tmp_path / "there.safetensors").write_text("precious")
    with pytest.raises(InterchangeError, match="there.safetensors exists"):
        exporting(imported, tmp_path / "there.safetensors")
    with pytest.raises(InterchangeError, match="exists; remove it"):
        importing(imported, espnet="x.pt")
    assert (tmp_path / "there.safetensors").read_text() == "precious"


def test_jobs_end_with_one_message(tmp_path):
    with pytest.raises(Explained, match="holds no config.json"):
        export_job.main([f"--checkpoint={tmp_path}", f"--output={tmp_path / 'x.pt'}"])


def test_a_failed_export_leaves_nothing(imported, tmp_path):
    with pytest.raises(InterchangeError, match="tokenizer 'nowhere' not found"):
        exporting(imported, tmp_path / "v", "vllm", tokenizer="nowhere")
    assert not list(tmp_path.iterdir())


def test_settings_that_make_no_sense():
    weights = espnet.class_weights(Vocabulary())
    assert weights.shape == (160392,) and weights[152191] == 1 and weights[152192] == 0.125
    assert codec_shapes(CODEC)
    with pytest.raises(ValueError, match="ImportConfig.espnet"):
        ImportConfig("x")
    with pytest.raises(ValueError, match="must end in .safetensors or .pt"):
        ExportConfig("run", "x.txt")
