"""LoRA adapters through PEFT's files: PEFT itself opens ours and gives our logits, and we open PEFT's."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny_models
from adapter_helpers import save_adapter
from interop_helpers import MODEL, exporting, importing, native_tensors, save_native
from safetensors.numpy import load_file, save_file

from bagpiper_jax.evaluation.logit_check import LogitCheckConfig, logit_check
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.generation.weights import load_model
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint
from bagpiper_jax.interop.peft import config as peft_config
from bagpiper_jax.models.adapters.lora import AdapterError, LoraConfig
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.training.weights import read_adapter

LORA = LoraConfig(rank=3, alpha=5.0, rank_stabilised=True)
EVERYTHING = dataclasses.replace(LORA, targets=(".*",), rank_stabilised=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("imported")
    small = {n: x * 0.1 if x.ndim > 1 else x for n, x in native_tensors().items()}
    return importing(path / "ours", espnet=save_native(path / "base.safetensors", small))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("adapter") / "ours", base, LORA, MODEL)


@pytest.fixture(scope="module")
def qwen3(base, tmp_path_factory):
    """The base as transformers opens it."""
    return exporting(base, tmp_path_factory.mktemp("qwen3") / "base", "qwen3")


TOKENS = np.random.default_rng(0).integers(1, MODEL.vocabulary.size, (2, 20))


def our_logits(checkpoint):
    model = load_model(checkpoint, MODEL)
    positions, segments = np.arange(20)[None].repeat(2, 0), np.ones((2, 20), np.int32)
    hidden = model.decoder(model.decoder.embed_tokens[...][TOKENS], positions, segments)[0]
    return np.asarray(model.logits(hidden, 0))


def their_logits(model):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.from_numpy(TOKENS)).logits.numpy()


def decoder_of(directory):
    transformers = pytest.importorskip("transformers")
    return transformers.Qwen3ForCausalLM.from_pretrained(directory).eval()


def bringing(source, base, output):
    return import_checkpoint(ImportConfig(str(output), peft=str(source), base=str(base)))


def parameters_of(checkpoint):
    return {path: np.asarray(x) for path, x in read_adapter(checkpoint, MODEL, None).items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for path, x in expected.items():
        assert found[path].dtype == x.dtype and found[path].tobytes() == x.tobytes(), path


@pytest.mark.parametrize("prefix", ["native", "vllm"])
def test_to_peft_and_back_is_bit_exact(base, adapter, tmp_path, prefix):
    path = exporting(adapter, tmp_path / "peft", "peft", prefix=prefix)
    names = load_file(path / peft_config.WEIGHTS)
    start = {
        "native": "base_model.model.model.layers.",
        "vllm": "base_model.model.language_model.model.layers.",
    }
    assert all(name.startswith(start[prefix]) for name in names) and len(names) == 3 * 7 * 2
    assert names[start[prefix] + "0.self_attn.k_proj.lora_A.weight"].shape == (3, MODEL.decoder.width)
    back = bringing(path, base, tmp_path / "back")
    assert_same_bits(parameters_of(back), parameters_of(adapter))
    assert load_model_config(back)[1]["codec"] == "codec.safetensors"


def test_adaptor_and_streams_go_there_and_back_too(base, tmp_path):
    adapter = save_adapter(tmp_path / "ours", base, EVERYTHING, MODEL)
    back = bringing(exporting(adapter, tmp_path / "peft", "peft"), base, tmp_path / "back")
    assert_same_bits(parameters_of(back), parameters_of(adapter))
    with pytest.raises(
        InterchangeError, match="vLLM takes changes of the decoder alone, not of adaptor/kernel"
    ):
        exporting(adapter, tmp_path / "vllm", "peft", prefix="vllm")


def test_peft_opens_ours_and_gives_our_logits(adapter, qwen3, tmp_path):
    peft = pytest.importorskip("peft")
    path = exporting(adapter, tmp_path / "peft", "peft")
    before = their_logits(decoder_of(qwen3))
    theirs = peft.PeftModel.from_pretrained(decoder_of(qwen3), path)
    expected, found = their_logits(theirs), our_logits(adapter)
    assert np.abs(expected - before).max() > 0.01 * np.abs(expected).max()
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    merged = exporting(adapter, tmp_path / "merged", "qwen3", "float32")
    assert np.abs(their_logits(decoder_of(merged)) - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, "down_proj": 5},
            "alpha_pattern": {"mlp.up_proj": 7},
        },
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2]},
    ],
)
def test_we_open_pefts_and_give_its_logits(base, qwen3, tmp_path, settings):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    torch.manual_seed(0)
    config = peft.LoraConfig(
        **{"r": 3, "lora_alpha": 4, "target_modules": "all-linear", "init_lora_weights": False} | settings
    )
    theirs = peft.get_peft_model(decoder_of(qwen3), config)
    theirs.save_pretrained(tmp_path / "peft")
    ours = bringing(tmp_path / "peft", base, tmp_path / "ours")
    expected, found = their_logits(theirs.eval()), our_logits(ours)
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    again = bringing(exporting(ours, tmp_path / "again", "peft"), base, tmp_path / "back")
    assert np.abs(our_logits(again) - found).max() <= 1e-6 * np.abs(found).max()


def test_streams_and_adaptor_are_changed_as_peft_changes_them(base, tmp_path):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    adapter = save_adapter(tmp_path / "ours", base, EVERYTHING, MODEL)
    path = exporting(adapter, tmp_path / "peft", "peft")
    settings = json.loads((path / peft_config.CONFIG).read_text()) | {"task_type": None}
    (path / peft_config.CONFIG).write_text(json.dumps(settings))
    ours, streams, width = load_model(base, MODEL), MODEL.vocabulary.num_streams, MODEL.decoder.width

    class Part(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stream_emb = torch.nn.Embedding(streams, width)
            self.adaptor = torch.nn.ModuleDict(
                {"continuous_audio": torch.nn.Linear(MODEL.tower.output_width, width)}
            )

        def forward(self, x):
            return self.adaptor["continuous_audio"](x), self.stream_emb(torch.arange(streams))

    part = Part()
    weights = {
        "stream_emb.weight": ours.stream_emb[...],
        "adaptor.continuous_audio.weight": ours.adaptor.kernel[...].T,
        "adaptor.continuous_audio.bias": ours.adaptor.bias[...],
    }
    part.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in weights.items()})
    x = np.random.default_rng(0).normal(size=(5, MODEL.tower.output_width)).astype(np.float32)
    with torch.no_grad():
        heard, rows = peft.PeftModel.from_pretrained(part, path)(torch.from_numpy(x))
    changed = load_model(adapter, MODEL)
    np.testing.assert_allclose(changed.adaptor(x), heard.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(changed.stream_emb[...], rows.numpy(), rtol=1e-5, atol=1e-6)


def test_merged_models_are_the_adapters_in_every_format(base, adapter, tmp_path):
    """Whole: the merged checkpoint's logits, of all streams, equal those of base and adapter; bfloat16 is cast once."""
    path = exporting(adapter, tmp_path / "merged.safetensors", "espnet", "float32")
    merged = importing(tmp_path / "again", espnet=path)
    batch = tiny_models.random_batch(MODEL, rows=1)
    found, expected = (
        np.asarray(jax.jit(lambda model: model.hidden(batch))(load_model(each, MODEL)))
        for each in (merged, adapter)
    )
    assert np.abs(found - expected).max() < 1e-6 * max(1.0, np.abs(expected).max())
    name = "model.layers.1.mlp.down_proj.weight"
    narrow = exporting(adapter, tmp_path / "half.safetensors", "espnet", "bfloat16")
    half, whole = (open_tensors(each)[name].read() for each in (narrow, path))
    assert (half == whole.astype(half.dtype)).all() and (whole != native_tensors()[name] * 0.1).any()


def test_logit_check_takes_an_adapter(adapter, tmp_path):
    pytest.importorskip("transformers")
    other = exporting(adapter, tmp_path / "merged", "qwen3", "float32")
    found = logit_check(LogitCheckConfig(str(adapter), str(other), tokenizer="byte"))
    assert found["stream 0"].relative_error < 1e-4


def test_a_base_that_moved_is_named_or_given(base, adapter, tmp_path):
    text = (adapter / "config.json").read_text().replace(str(base), "/gone")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "config.json").write_text(text)
    (moved / "parameters").symlink_to(adapter / "parameters")
    with pytest.raises(Exception, match="an adapter of /gone, which is not there; name the base"):
        load_model(moved, MODEL)
    load_model(moved, MODEL, WeightsConfig(base=str(base)))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"peft_type": "IA3"}, "peft_type is IA3; only LORA"),
        ({"use_dora": True}, "use_dora is True; only plain LoRA"),
        ({"bias": "all"}, "it trained biases"),
        ({"modules_to_save": ["lm_head"]}, r"whole modules beside its changes, such as a full head"),
        ({"r": 0}, "is no configuration of a LoRA"),
        (
            {"r": 4},
            "should be .4, 32.; it is of another model, or its adapter_config.json of another adapter",
        ),
    ],
)
def test_a_configuration_that_is_no_plain_lora_is_named(base, adapter, tmp_path, change, says):
    path = exporting(adapter, tmp_path / "peft", "peft")
    content = json.loads((path / peft_config.CONFIG).read_text()) | change
    (path / peft_config.CONFIG).write_text(json.dumps(content))
    with pytest.raises(InterchangeError, match=says):
        bringing(path, base, tmp_path / "ours")


def broken(path, change):
    tensors = load_file(path / peft_config.WEIGHTS)
    change(tensors)
    save_file(tensors, path / peft_config.WEIGHTS)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda t: t.update({"base_model.model.lm_head.weight": np.zeros((4, 4), np.float32)}),
            "whole parameters beside its changes: base_model.model.lm_head.weight. An adapter with a full head",
        ),
        (lambda t: t.pop(FIRST), "lora_B.weight without .*lora_A.weight; the file is not whole"),
        (
            lambda t: t.update({FIRST.replace("layers.0", "layers.9"): t[FIRST]}),
            "changes what the base has not",
        ),
        (lambda t: t.update({FIRST: t[FIRST] * np.nan}), "q_proj.lora_A.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(base, adapter, tmp_path, change, says):
    path = exporting(adapter, tmp_path / "peft", "peft")
    broken(path, change)
    with pytest.raises(InterchangeError, match=says):
        bringing(path, base, tmp_path / "ours")


def test_what_changes_another_base_or_nothing_is_named(base, adapter, tmp_path):
    path = exporting(adapter, tmp_path / "peft", "peft")
    other = importing(
        tmp_path / "other", espnet=save_native(tmp_path / "x.safetensors", native_tensors(seed=1))
    )
    with pytest.raises(AdapterError, match="is an adapter of another base"):
        bringing(path, other, tmp_path / "ours")
    with pytest.raises(AdapterError, match="is an adapter of another base"):
        exporting(adapter, tmp_path / "merged", "qwen3", base=str(other))
    with pytest.raises(InterchangeError, match="has no adapter; choose another format"):
        exporting(base, tmp_path / "nothing", "peft")
