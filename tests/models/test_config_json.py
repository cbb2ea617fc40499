"""A run's config.json: what it says comes back, and whatever else stands there is explained with the file's name."""

import dataclasses
import json

import pytest

from bagpiper_jax.models.config_json import FILE, ModelConfigError, load_model_config, save_model_config
from bagpiper_jax.models.configs import BagpiperConfig

CONFIG = BagpiperConfig().with_tables(128)


@pytest.fixture
def content():
    return {"model": json.loads(json.dumps(dataclasses.asdict(CONFIG))), "tokenizer": "byte", "codec": None}


def assert_explained(directory, *words):
    with pytest.raises(ModelConfigError) as error:
        load_model_config(directory)
    said = str(error.value)
    assert str(directory / FILE) in said and all(word.lower() in said.lower() for word in words), said


def test_it_comes_back(tmp_path):
    save_model_config(tmp_path, CONFIG, tokenizer="tokenizer.json", stage="sft")
    assert load_model_config(tmp_path) == (CONFIG, {"tokenizer": "tokenizer.json", "stage": "sft"})
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    assert load_model_config(tmp_path / "checkpoints" / "3")[0] == CONFIG


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"3", b'"model"', b"{}", b'{"model": null}', b'{"model": []}', b'{"model": "8b"}',
        b"\xff\xfe{}", b'{"model": \xff}', b"[" * 100_000, b'{"model":' * 100_000, b"\0" * 100,
        b'{"model": {}, "tokenizer": 3}', b'{"model": {}, "codec": ["a"]}', b'{"model": {}, "stage": {}}',
        b'{"model": {}, "system_prompt": false}', b'{"model": {}, "digests": [1]}',
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_explained(tmp_path, text):
    (tmp_path / FILE).write_bytes(text)
    assert_explained(tmp_path, "is no model configuration")


@pytest.mark.parametrize("wrong", [None, "four", [4], {}, 4.5, True, -1, 0, float("nan"), [None]])
@pytest.mark.parametrize("path", ["decoder", "vocabulary", "table_multiple", "decoder/layers", "tower/heads"])
def test_a_field_of_another_type_or_an_impossible_size_is_explained(tmp_path, content, path, wrong):
    *parents, name = ["model", *path.split("/")]
    place = content
    for parent in parents:
        place = place[parent]
    if wrong == {} and name in ("decoder", "vocabulary"):
        pytest.skip("an empty object means the defaults")
    place[name] = wrong
    (tmp_path / FILE).write_text(json.dumps(content))
    assert_explained(tmp_path, name)


@pytest.mark.parametrize(
    "name, wrong", [("attention", "flash"), ("remat", None), ("dtype", "int7"), ("rope_theta", "x")]
)
def test_a_name_that_does_not_exist_is_explained(tmp_path, content, name, wrong):
    content["model"]["decoder"][name] = wrong
    (tmp_path / FILE).write_text(json.dumps(content))
    assert_explained(tmp_path, name)


def test_unknown_fields_and_missing_files_are_explained(tmp_path, content):
    with pytest.raises(ModelConfigError, match="holds no config.json"):
        load_model_config(tmp_path)
    content["model"]["decoder"]["depth"] = 3
    (tmp_path / FILE).write_text(json.dumps(content))
    assert_explained(tmp_path, "depth")
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert_explained(tmp_path)
