"""Checkpoint files: what safetensors and torch write we read, and they read what we write; broken ones are named."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from interop_helpers import BFLOAT16, assert_equal
from safetensors.numpy import load_file, save_file

from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats import safetensors_file, torch_file
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.formats.tensors import INDEX

RANDOM = np.random.default_rng(0)
TENSORS = {
    "a": RANDOM.normal(size=(5, 3)).astype(np.float32),
    "b.weight": RANDOM.normal(size=(7, 2, 2)).astype(BFLOAT16),
    "c": RANDOM.normal(size=9).astype(np.float16),
    "scalar": np.array(2.5, np.float32),
}
PLAN = {name: (x.shape, x.dtype) for name, x in TENSORS.items()}


def read_all(path):
    return {name: tensor.read() for name, tensor in open_tensors(path).items()}


def write(kind, path, tensors=TENSORS, rows=2):
    writer = kind(path, {name: (x.shape, x.dtype) for name, x in tensors.items()})
    for name in reversed(tensors):
        x = tensors[name]
        for start in range(0, len(x) if x.ndim else 1, rows):
            writer.write(name, x[start : start + rows] if x.ndim else x)
    writer.close()
    return path


@pytest.fixture
def shards(tmp_path):
    directory = tmp_path / "shards"
    directory.mkdir()
    writer = safetensors_file.Shards(directory, PLAN, limit=90)
    for name, x in TENSORS.items():
        writer.write(name, x)
    writer.close()
    return directory


def test_safetensors_reads_what_we_write_and_we_read_its_files(tmp_path):
    assert_equal(load_file(write(safetensors_file.File, tmp_path / "a.safetensors")), TENSORS)
    save_file(TENSORS, tmp_path / "b.safetensors")
    assert_equal(read_all(tmp_path / "b.safetensors"), TENSORS)
    np.testing.assert_array_equal(
        open_tensors(tmp_path / "b.safetensors")["b.weight"].rows(2, 5), TENSORS["b.weight"][2:5]
    )


@pytest.mark.parametrize("mapped", [True, False])
def test_torch_reads_what_we_write(tmp_path, mapped):
    torch = pytest.importorskip("torch")
    path = write(torch_file.File, tmp_path / "a.pt")
    found = torch.load(path, weights_only=True, mmap=mapped)["module"]
    assert list(found) == list(TENSORS)
    assert found["b.weight"].dtype == torch.bfloat16
    for name, x in TENSORS.items():
        np.testing.assert_array_equal(found[name].float().numpy(), x.astype(np.float32))
    assert_equal(read_all(path), TENSORS)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            if "/data/" in info.filename:  # torch maps tensors where they lie
                path_bytes = path.read_bytes()
                names, extra = (
                    path_bytes[info.header_offset + 26 :][:2],
                    path_bytes[info.header_offset + 28 :][:2],
                )
                start = (
                    info.header_offset
                    + 30
                    + int.from_bytes(names, "little")
                    + int.from_bytes(extra, "little")
                )
                assert start % 64 == 0


def test_we_read_what_torch_writes(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch_file, "_MAPPED_BYTES", 20)  # maps the file anew again and again
    state = {
        "a": torch.randn(4, 3),
        "view": torch.arange(12.0).reshape(3, 4).T,
        "half": torch.ones(3).bfloat16(),
    }
    for name, content in {"plain.pt": state, "module.pt": {"module": state}}.items():
        torch.save(content, tmp_path / name)
        found = read_all(tmp_path / name)
        assert found["half"].dtype == BFLOAT16 and found["half"].tolist() == [1, 1, 1]
        np.testing.assert_array_equal(found["a"], state["a"].numpy())
        np.testing.assert_array_equal(found["view"], state["view"].numpy())


def test_tensors_left_out_are_a_fault_of_the_writer(tmp_path):
    kinds = [safetensors_file.File, torch_file.File] if torch_is_here() else [safetensors_file.File]
    for kind in kinds:
        writer = kind(tmp_path / "x", PLAN)
        writer.write("a", TENSORS["a"][:2])
        with pytest.raises(ValueError, match="a|bytes too few"):
            writer.close()


def torch_is_here() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def test_safetensors_need_no_torch(tmp_path):
    path = write(safetensors_file.File, tmp_path / "a.safetensors")
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None\n"
        "from bagpiper_jax.interop import exporting, importing\n"
        "from bagpiper_jax.interop.formats.opening import open_tensors\n"
        f"assert len(open_tensors({str(path)!r})) == 4\n"
        f"try: open_tensors({str(tmp_path / 'a.pt')!r})\n"
        "except Exception as error: assert 'needs torch (the interop extra)' in str(error), error\n"
    )
    (tmp_path / "a.pt").write_bytes(b"")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_shards_stay_below_the_limit_and_are_indexed(shards):
    assert_equal(read_all(shards), TENSORS)
    sizes = {p.name: sum(x.nbytes for x in load_file(p).values()) for p in shards.glob("*.safetensors")}
    assert len(sizes) == 2 and max(sizes.values()) <= 90
    index = json.loads((shards / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in TENSORS.values())
    assert set(index["weight_map"]) == TENSORS.keys() and set(index["weight_map"].values()) == sizes.keys()


def test_absent_shards_matter_only_if_something_of_theirs_is_wanted(shards):
    last = sorted(shards.glob("*.safetensors"))[-1]
    last.unlink()
    assert open_tensors(shards, lambda names: {n for n in names if n == "a"}).keys() == {"a"}
    with pytest.raises(InterchangeError, match=f"lacks 1 shards that its index names: {last.name}"):
        open_tensors(shards)


def edit_index(shards, change):
    index = json.loads((shards / INDEX).read_text())
    change(index["weight_map"])
    (shards / INDEX).write_text(json.dumps(index))


INDEX_FAULTS = {
    "elsewhere": (
        lambda m: m.update(a=m["scalar"], scalar=m["a"]),
        r"a is not in model-00002(.|\n)*scalar is not in model-00001(.|\n)*a is in \S+, but the index places it in",
    ),
    "forgotten": (
        lambda m: m.pop("c"),
        "c is in model-00002-of-00002.safetensors, but the index places it nowhere",
    ),
    "invented": (lambda m: m.update(z=m["a"]), "z is not in model-00001-of-00002.safetensors"),
    "outside": (lambda m: m.update(z="../../x.safetensors"), "lacks 1 shards"),
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_an_index_must_fit_its_shards(shards, fault):
    change, message = INDEX_FAULTS[fault]
    edit_index(shards, change)
    with pytest.raises(InterchangeError, match=message):
        open_tensors(shards)


def test_broken_index(shards):
    (shards / INDEX).write_text("{")
    with pytest.raises(InterchangeError, match="is no index of shards"):
        open_tensors(shards)


def test_shards_without_index(shards, tmp_path):
    (shards / INDEX).unlink()
    assert open_tensors(shards).keys() == TENSORS.keys()
    save_file({"a": TENSORS["a"]}, shards / "again.safetensors")
    with pytest.raises(InterchangeError, match="a and 0 more tensors are in two shards"):
        open_tensors(shards)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.pt").write_bytes(b"")
    with pytest.raises(InterchangeError, match="holds no .safetensors file; name the .pt file itself"):
        open_tensors(tmp_path / "empty")


def header_edit(path, change):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


TORN = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-10]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"1234"),
    "empty": lambda p: p.write_bytes(b""),
    "header beyond the end": lambda p: p.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
    "no json": lambda p: p.write_bytes((4).to_bytes(8, "little") + b"oops"),
    "shape swapped for another size": lambda p: header_edit(p, lambda h: h["a"].update(shape=[5, 4])),
    "unknown type": lambda p: header_edit(p, lambda h: h["a"].update(dtype="F3")),
}


@pytest.mark.parametrize("way", TORN)
def test_broken_safetensors_are_named(tmp_path, way):
    path = write(safetensors_file.File, tmp_path / "a.safetensors")
    TORN[way](path)
    with pytest.raises(InterchangeError, match="a.safetensors is no complete safetensors file"):
        open_tensors(path)


def test_broken_and_absent_files_are_named(tmp_path):
    with pytest.raises(InterchangeError, match="nothing.pt does not exist"):
        open_tensors(tmp_path / "nothing.pt")
    (tmp_path / "model.txt").write_text("x")
    with pytest.raises(InterchangeError, match="give a .safetensors file"):
        open_tensors(tmp_path / "model.txt")
    torch = pytest.importorskip("torch")
    (tmp_path / "torn.pt").write_bytes(b"PK no zip")
    with pytest.raises(InterchangeError, match="torn.pt is no complete PyTorch file"):
        open_tensors(tmp_path / "torn.pt")
    torch.save({"module": {"a": torch.ones(3), "step": 5}}, tmp_path / "more.pt")
    with pytest.raises(InterchangeError, match="more.pt holds no state dict"):
        open_tensors(tmp_path / "more.pt")


def test_pickled_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"module": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InterchangeError, match="evil.pt is no complete PyTorch file of plain tensors"):
        open_tensors(tmp_path / "evil.pt")
