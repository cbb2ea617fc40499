"""Tokenizers: any string comes back, learning is deterministic, files that are no tokenizer are named."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagpiper_jax.text import ByteTokenizer, JsonTokenizer, TokenizerError, learn_bpe, load_tokenizer

CAPTIONS = [
    "A dog barks twice, then a bell rings at 1.25 s. In summary, two events are heard.",
    'Caption of the audio: a woman says "seven".\n\n<think>\n- User Intent: count\n</think>\n\nOne.',
    "Ein Cello spielt in D-Moll, 92 Schläge pro Minute.",
] * 5


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return learn_bpe(CAPTIONS, 420, tmp_path_factory.mktemp("bpe") / "tokenizer.json")


@given(st.text())
def test_bytes_round_trip(string):
    string = string.encode("utf-8", "replace").decode()
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(string)
    assert tokenizer.decode(ids) == string and all(0 <= i < tokenizer.size for i in ids)


@given(st.text())
def test_bpe_round_trips_any_text(bpe, string):
    string = string.encode("utf-8", "replace").decode()
    ids = bpe.encode(string)
    assert bpe.decode(ids) == string and all(0 <= i < bpe.size for i in ids)


def test_bpe_is_shorter_than_bytes_and_keeps_think_tokens_whole(bpe):
    assert len(bpe.encode(CAPTIONS[0])) < len(CAPTIONS[0]) / 1.5
    think = bpe.encode("<think>")
    assert len(think) == 1 and len(bpe.encode("a<think>b</think>")) == 4
    assert bpe.decode(bpe.encode("x <think> y </think>\n\nz")) == "x <think> y </think>\n\nz"


def test_size_is_as_asked_or_less(bpe):
    assert 258 < bpe.size <= 420


def test_learning_is_deterministic_across_processes_and_order(bpe, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_text import CAPTIONS\n"
        "from bagpiper_jax.text import learn_bpe\n"
        f"print(learn_bpe(CAPTIONS[::-1], 420, {str(tmp_path / 'other.json')!r}).fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert other.stdout.strip() == bpe.fingerprint
    assert learn_bpe([*CAPTIONS, "more text"], 420, tmp_path / "more.json").fingerprint != bpe.fingerprint


def test_loading(bpe, tmp_path):
    assert load_tokenizer("byte").fingerprint == "byte"
    assert load_tokenizer(bpe.path).fingerprint == bpe.fingerprint
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model": 3}')
    with pytest.raises(TokenizerError, match="tokenizer.json is not a readable"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(TokenizerError, match="'nowhere.json' not found; give 'byte'"):
        load_tokenizer("nowhere.json")


def test_learning_needs_text_and_room(tmp_path):
    with pytest.raises(TokenizerError, match="at least 258"):
        learn_bpe(CAPTIONS, 200, tmp_path / "t.json")
    with pytest.raises(TokenizerError, match="some text"):
        learn_bpe([], 400, tmp_path / "t.json")


def test_an_existing_tokenizer_of_the_library_is_read_as_it_is(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    theirs = Tokenizer(models.WordLevel({"[UNK]": 0, "dog": 1, "barks": 2}, unk_token="[UNK]"))
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = JsonTokenizer(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("dog barks loud") == [1, 2, 0] and tokenizer.size == 3
