"""Checkpoint files that are broken, hostile or of another kind: one message that names file and entry."""

import collections
import copy
import json

import fuzzing
import numpy as np
import pytest
from interop_helpers import CODEC, MODEL
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from test_interop_files import INDEX, PLAN, TENSORS, header_edit, read_all

from bagpiper_jax.errors import Explained
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import safetensors_file, verification
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.hub import config as hub_config
from bagpiper_jax.interop.hub import sizes as hub_sizes
from bagpiper_jax.jobs import import_checkpoint as import_job
from bagpiper_jax.text import JsonTokenizer, TokenizerError, learn_bpe
from bagpiper_jax.text import hub as hub_tokenizer


def a(**changes):
    return lambda header: header["a"].update(changes)


HEADERS = {
    "entry that is a list": (lambda h: h.update(a=[1]), r"a is \[1\], not an object"),
    "entry that is null": (lambda h: h.update(a=None), "a is None, not an object"),
    "no shape": (lambda h: h["a"].pop("shape"), "a has the shape None"),
    "float in the shape": (a(shape=[5.0, 3]), r"a has the shape \[5.0, 3\], not a list of"),
    "text as shape": (a(shape="53"), "a has the shape 53, not a list of"),
    "bool in the shape": (a(shape=[True, 15]), r"a has the shape \[True, 15\]"),
    "negative shape": (a(shape=[-5, -3]), r"a has the shape \[-5, -3\]"),
    "number beyond numpy": (a(shape=[2**63, 0]), "a has the shape"),
    "too many axes": (a(shape=[1] * 40 + [5, 3]), "a has the shape"),
    "float offsets": (a(data_offsets=[0.0, 60.0]), r"a has data_offsets \[0.0, 60.0\], not"),
    "negative offset": (a(data_offsets=[-60, 0]), r"a has data_offsets \[-60, 0\], not"),
    "bool offset": (a(data_offsets=[False, 60]), r"a has data_offsets \[False, 60\], not"),
    "one offset": (a(data_offsets=[0]), r"a has data_offsets \[0\], not"),
    "offsets by name": (a(data_offsets={"0": 0, "1": 60}), "a has data_offsets"),
    "offsets of another size": (a(data_offsets=[0, 64]), r"a \[5, 3\] of F32 does not take the bytes 0 to 64"),
    "swapped offsets": (a(data_offsets=[60, 0]), "a .* does not take the bytes 60 to 0"),
    "dtype as number": (a(dtype=5), "a has the unknown dtype 5"),
    "dtype as list": (a(dtype=["F32"]), "a has the unknown dtype"),
    "overlap": (
        lambda h: h["scalar"].update(data_offsets=h["c"]["data_offsets"][:1] + [h["c"]["data_offsets"][0] + 4]),
        "c begins at byte .*: it overlaps the tensor before it",
    ),
    "gap": (lambda h: h.pop("a"), "b.weight begins at byte 60, not 0: it leaves a gap"),
    "metadata that is a list": (lambda h: h.update(__metadata__=[1]), "__metadata__ is"),
    "metadata with numbers": (lambda h: h.update(__metadata__={"format": 1}), "__metadata__ is"),
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    writer = safetensors_file.File(tmp_path / "a.safetensors", PLAN)
    for name, x in TENSORS.items():
        writer.write(name, x)
    writer.close()
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("fault", HEADERS)
def test_headers_that_lie(file, fault):
    change, message = HEADERS[fault]
    header_edit(file, change)
    with pytest.raises(InterchangeError, match=f"a.safetensors is no complete safetensors file: {message}"):
        open_tensors(file)


@pytest.mark.parametrize(
    "text",
    [b"[1, 2]", b"null", b"5", b'"text"', b"[" * 100_000, b'{"a":' * 5000, b"{}" + b"\xff", b'{"a": NaN}',
     b'{"x": 1, "x": 1}', b"9" * 5000],
    ids=range(10),
)  # fmt: skip
def test_headers_that_are_no_object(file, text):
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(InterchangeError, match="a.safetensors is no complete safetensors file"):
        open_tensors(file)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_lengths_of_headers(file, length):
    file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(InterchangeError, match=f"a header of {length} bytes"):
        open_tensors(file)


def outcome(function, *faults):
    """What it returns, or None for one of its own faults."""
    try:
        return function()
    except faults as error:
        assert str(error)
        return None


def with_header(data: bytes, change) -> bytes:
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(change(json.loads(data[8 : 8 + length]))).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def test_damaged_safetensors_against_the_librarys_reader(tmp_path):
    """What the library refuses is refused here; what is read here is what the library reads."""
    path, counts = tmp_path / "x.safetensors", collections.Counter()
    save_file(TENSORS, path)
    whole = path.read_bytes()
    for number in range(600):
        rng = fuzzing.generator("safetensors", number)
        if number % 2:
            path.write_bytes(fuzzing.damage(whole, rng))
        else:
            path.write_bytes(with_header(whole, lambda header, rng=rng: fuzzing.disturb(header, rng)))
        found = outcome(lambda: read_all(path), InterchangeError)
        expected = outcome(lambda: library(path), SafetensorError, OSError)
        counts[found is not None, expected is not None] += 1
        if found is not None:
            assert expected is not None, number
            assert {n: x.tobytes() for n, x in found.items()} == {n: x.tobytes() for n, x in expected.items()}
    assert counts[False, False] > 100 and counts[True, True] > 20
    assert counts[False, True] <= 12, "only twice named or odd JSON is refused beyond the library"


def library(path):
    with safe_open(path, framework="numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


INDICES = {
    "number as shard": ({"a": 1}, "places a in 1, not in a file"),
    "null as shard": ({"a": None}, "places a in None, not in a file"),
    "list as shard": ({"a": ["x"]}, "places a in .'x'., not in a file"),
    "map that is a list": ([["a", "b"]], "its weight_map is .*, not an object"),
    "map that is null": (None, "its weight_map is None, not an object"),
    "path upwards": ({"a": "../x.safetensors"}, "lacks 1 shards that its index names: ../x.safetensors"),
    "absolute path": ({"a": "/etc/passwd"}, "lacks 1 shards"),
    "two dots": ({"a": ".."}, "lacks 1 shards"),
    "nothing": ({"a": ""}, "lacks 1 shards"),
    "zero byte": ({"a": "x\0y"}, "lacks 1 shards"),
    "another file": ({"a": "config.json"}, "config.json is no complete safetensors file"),
}


@pytest.mark.parametrize("fault", INDICES)
def test_indices_that_lie(tmp_path, fault):
    placed, message = INDICES[fault]
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "config.json").write_text("{}")
    (tmp_path / "inner" / INDEX).write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(InterchangeError, match=message):
        open_tensors(tmp_path / "inner")


@pytest.mark.parametrize(
    "text", ["[]", "null", "5", "[" * 100_000, '{"weight_map": {}, "weight_map": {}}', "\ud800"]
)
def test_indices_that_are_no_object(tmp_path, text):
    (tmp_path / INDEX).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InterchangeError, match="index.json is no index of shards"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("kind", ["qwen3", "espnet", "tower", "xcodec"])
def test_disturbed_model_configurations(tmp_path, kind):
    whole = {
        "qwen3": hub_config.decoder(MODEL.decoder, 300, "float32"),
        "tower": {"thinker_config": {"audio_config": hub_config.tower(MODEL.tower, "float32")}},
        "xcodec": hub_config.codec(CODEC, "float32"),
        "espnet": {
            "text_config": hub_config.decoder(MODEL.decoder, MODEL.vocabulary.size, "float32"),
            "audio_config": hub_config.tower(MODEL.tower, "float32"),
            **hub_config.layout(MODEL.vocabulary),
        },
    }[kind]
    tally = fuzzing.Tally()
    for number in range(300):
        content = fuzzing.disturb(copy.deepcopy(whole), fuzzing.generator(kind, number))
        text = json.dumps(content).encode("utf-8", "surrogatepass")
        (tmp_path / "config.json").write_bytes(text)
        sizes = outcome(
            lambda: hub_sizes.completed({kind: str(tmp_path)}, MODEL, CODEC, ()), InterchangeError
        )
        if sizes:
            outcome(lambda sizes=sizes: hub_sizes.check(kind, tmp_path, *sizes), InterchangeError)
        given = outcome(lambda: hub_sizes.check(kind, tmp_path, MODEL, CODEC) or "same", InterchangeError)
        tally.counts["kept" if given else "refused"] += 1
    tally.check(300)


@pytest.mark.parametrize(
    "config", ["[]", "null", '{"hidden_size": "32"}', '{"rope_parameters": 5}', "{", "[" * 9999]
)
def test_the_job_ends_with_one_message(tmp_path, config):
    directory = tmp_path / "qwen"
    directory.mkdir()
    save_file({"model.norm.weight": np.ones(3, np.float32)}, directory / "model.safetensors")
    (directory / "config.json").write_text(config)
    flags = [f"--gin.ImportConfig.qwen3={directory}", f"--gin.ImportConfig.output={tmp_path / 'ours'}"]
    with pytest.raises(Explained, match="config.json"):
        import_job.main(flags)
    assert not (tmp_path / "ours").exists()


@pytest.fixture(scope="module")
def pt(tmp_path_factory):
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("pt") / "x.pt"
    state = {"a": torch.arange(600.0).reshape(20, 30), "b": torch.ones(40).bfloat16(), "c": torch.tensor(2.5)}
    torch.save({"module": state}, path)
    return path


def test_damaged_torch_files_never_give_other_numbers(pt, tmp_path):
    whole, expected, tally = pt.read_bytes(), read_all(pt), fuzzing.Tally()
    path = tmp_path / "y.pt"
    for number in range(200):
        path.write_bytes(fuzzing.damage(whole, fuzzing.generator("torch", number)))
        found = outcome(lambda: [read_all(path), verification.verify([path])][0], InterchangeError)
        tally.counts["refused" if found is None else "kept"] += 1
        if found is not None and found.keys() == expected.keys():
            assert all(found[name].tobytes() == x.tobytes() for name, x in expected.items()), number
    tally.check(200)


def torch_states(torch):
    meta = torch.ones(3, device="meta")
    return {
        "names that are numbers": ({5: torch.ones(2)}, "the name 5 is int, no text"),
        "no tensor": ({"step": 5}, "step is int, no tensor"),
        "nested": ({"model": {"a": torch.ones(2)}}, "model is dict, no tensor"),
        "sparse": ({"s": torch.eye(3).to_sparse()}, "s is a sparse, quantized or nested tensor"),
        "no values": ({"m": meta}, r"m has no values \(meta\)"),
        "list": ([torch.ones(2)], "holds no state dict, but list"),
        "under module": ({"module": 3}, "holds no state dict, but int"),
    }


@pytest.mark.parametrize(
    "kind", ["names that are numbers", "no tensor", "nested", "sparse", "no values", "list", "under module"]
)
def test_torch_files_of_other_things(tmp_path, kind):
    torch = pytest.importorskip("torch")
    content, message = torch_states(torch)[kind]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InterchangeError, match=f"x.pt (.|\n)*{message}"):
        open_tensors(tmp_path / "x.pt")


def test_parameters_that_want_gradients_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.nn.Parameter(torch.ones(2, 3))}, tmp_path / "x.pt")
    np.testing.assert_array_equal(read_all(tmp_path / "x.pt")["w"], np.ones((2, 3)))


def test_damaged_tokenizers(tmp_path):
    plain = learn_bpe(["a dog barks", "dogs bark and bark"], 300, tmp_path / "tokenizer.json").content
    shifted = json.dumps(hub_tokenizer.shift(json.loads(plain), MODEL.vocabulary))
    for form, whole in {"plain": plain, "shifted": shifted}.items():
        tally = fuzzing.Tally()
        for number in range(120):
            rng = fuzzing.generator(form, number)
            if number % 2:
                data = fuzzing.damage(whole.encode(), rng)
            else:
                data = json.dumps(fuzzing.disturb(json.loads(whole), rng)).encode("utf-8", "surrogatepass")
            (tmp_path / "x.json").write_bytes(data)
            size = outcome(lambda: JsonTokenizer(str(tmp_path / "x.json")).size, TokenizerError)
            tally.counts["refused" if size is None else "kept"] += 1
        tally.check(120)
