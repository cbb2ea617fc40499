"""Tokenizers: any string comes back, learning is deterministic, files that are no tokenizer are named."""

import json
import logging
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


TEXT = "A bell rings twice in a small room. A dog barks at the door, 10.5 s long."

TRUNCATION = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
    "pad_token": "<think>",
}  # fmt: skip


@pytest.fixture
def variant(bpe, tmp_path):
    """Writes the learned tokenizer with some of its parts replaced; its path."""

    def write(name="tokenizer.json", model=(), **parts) -> str:
        content = json.loads(bpe.content) | parts
        content["model"] |= dict(model)
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"truncation": TRUNCATION}, "truncation"),
        ({"truncation": TRUNCATION | {"direction": "Left", "max_length": 0}}, "truncation"),
        ({"truncation": TRUNCATION | {"stride": 20}}, "truncation"),
        ({"truncation": TRUNCATION | {"strategy": "OnlyFirst"}}, "truncation"),
        ({"padding": PADDING}, "padding"),
        ({"padding": PADDING | {"strategy": "BatchLongest", "pad_to_multiple_of": 8}}, "padding"),
        ({"model": {"dropout": 0.5}}, "dropout"),
        ({"truncation": TRUNCATION, "padding": PADDING}, "truncation"),
    ],
)
def test_settings_of_a_batch_or_a_training_do_not_change_texts(bpe, variant, caplog, settings, said):
    """The same ids and the same fingerprint as the file without them."""
    caplog.set_level(logging.INFO, "bagpiper_jax")
    path = variant(**settings)
    for _ in range(2):
        tokenizer = load_tokenizer(path)
        assert tokenizer.fingerprint == bpe.fingerprint and tokenizer.size == bpe.size
        assert tokenizer.encode(TEXT) == tokenizer._encode_whole(TEXT) == bpe.encode(TEXT)
        assert tokenizer.encode("") == [] and tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    lines = [line for line in caplog.messages if f"was saved with {said}, which is not applied" in line]
    assert len(lines) == 1 and path in lines[0]


def test_saved_truncation_reaches_no_export(variant, bpe, tmp_path):
    from bagpiper_jax.interop.hub import directories
    from bagpiper_jax.models.configs import BagpiperConfig, DecoderConfig

    model = BagpiperConfig(DecoderConfig(1, 8, 8, 1, 1, 8))
    for name, spec in (("plain", bpe.path), ("cut", variant(truncation=TRUNCATION, padding=PADDING))):
        (tmp_path / name).mkdir()
        directories.write_tokenizer(tmp_path / name, spec, "", model)
    plain, cut = (load_tokenizer(str(tmp_path / name)) for name in ("plain", "cut"))
    assert cut.fingerprint == plain.fingerprint and cut.encode(TEXT) == bpe.encode(TEXT)
    shifted = json.loads((tmp_path / "cut/tokenizer.json").read_text())
    assert shifted["truncation"] is None and shifted["padding"] is None


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<think>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<think>": {"id": "<think>", "ids": [0], "tokens": ["<think>"]}},
}


@pytest.mark.parametrize(
    "post_processor",
    [
        TEMPLATE,
        {"type": "Sequence", "processors": [TEMPLATE]},
        {"type": "BertProcessing", "sep": ["<think>", 0], "cls": ["</think>", 1]},
        {"type": "RobertaProcessing", "sep": ["<think>", 0], "cls": ["</think>", 1], "trim_offsets": True,
         "add_prefix_space": False},
    ],
)  # fmt: skip
def test_begin_and_end_tokens_of_others_are_not_added(variant, bpe, tmp_path, post_processor, caplog):
    from bagpiper_jax.text import hub
    from bagpiper_jax.vocabulary import Vocabulary

    tokenizer = load_tokenizer(variant(post_processor=post_processor))
    assert tokenizer.encode(TEXT) == bpe.encode(TEXT) and not caplog.messages
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(hub.shift(json.loads(tokenizer.content), Vocabulary()))
    )
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(TEXT).ids
    assert ids == [i + 256 for i in bpe.encode(TEXT)], "nor in the export, where their ids are not the text's"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "'The dog BARKS, 2' comes back as 'the dog barks, 2"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}}, "'naive"),
        ({"normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                         "strip_accents": None, "lowercase": False}}, "日本語"),
        ({"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}}, "' a  text"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}}, "' a  text"),
        ({"normalizer": {"type": "Prepend", "prepend": "_"}}, "comes back as '_The dog"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
         "' The dog"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "comes back as"),
        ({"decoder": None}, "comes back as"),
        ({"decoder": {"type": "Strip", "content": "A", "start": 100, "stop": 100}}, "is refused"),
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}, "comes back as"),
        ({"post_processor": TEMPLATE | {"single": TEMPLATE["single"][1:] * 2}}, "comes back as"),
        ({"added_tokens": [{"id": 500, "content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False,
                            "normalized": False, "special": True}]}, "comes back as 'a<mask>"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_loses_characters_is_told_of_once(variant, caplog, parts, said):
    path = variant(**parts)
    load_tokenizer(path), load_tokenizer(path)
    (line,) = caplog.messages
    assert line.startswith(f"{path} changes texts, and so all that is cached") and said in line


def test_a_tokenizer_that_loses_nothing_is_not_spoken_of(bpe, caplog):
    caplog.set_level(logging.INFO, "bagpiper_jax")
    load_tokenizer(bpe.path), load_tokenizer("byte")
    assert not caplog.messages


def test_names_of_our_own_tokens(variant, caplog):
    """Training may go on, as text ids stand apart; the export, which knows tokens by name, is refused."""
    from bagpiper_jax.text import hub
    from bagpiper_jax.vocabulary import Vocabulary

    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for name in ("<|user|>", "<|eos|>", "<codec_layer3_code17>", "<|unused_200|>"):
        caplog.clear()
        added = [{"id": 500, "content": name, "special": True, **flags}]
        tokenizer = load_tokenizer(variant(f"{name[2:6]}.json", added_tokens=added))
        assert f"has tokens with names of the model's own, {name}" in caplog.text
        with pytest.raises(TokenizerError, match="bear names of the model's own"):
            hub.shift(json.loads(tokenizer.content), Vocabulary())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"null", b"3", b"{}", b'{"model": null}', b"\xff\xfe{}", b"[" * 200_000, b'{"a":' * 5000 + b"1",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a c"]}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "truncation": 8}' b"}",
        b'{"<codec_layer0_pad>": 1, "<|assistant|>": 2}',
        b'{"model": {"vocab": ["<codec_layer0_pad>", "<|assistant|>"], "merges": 3}}',
        b'{"model": {"vocab": {"<codec_layer0_pad>": "1", "<|assistant|>": 2}, "merges": [["a"]]}}',
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match="tokenizer.json is not a readable"):
        load_tokenizer(str(tmp_path))


def test_a_token_twice_among_many_is_found_at_once(tmp_path):
    tokens = [f'"t{index}": {index}' for index in range(150_000)]
    path = tmp_path / "tokenizer.json"
    path.write_text(f'{{"model": {{"vocab": {{{", ".join([*tokens, tokens[-1]])}}}}}}}')
    with pytest.raises(TokenizerError, match="the name 't149999' stands twice"):
        load_tokenizer(str(tmp_path))


def test_a_deep_normalizer_is_a_tokenizer_or_named(variant):
    normalizer = {"type": "NFC"}
    for _ in range(400):
        normalizer = {"type": "Sequence", "normalizers": [normalizer]}
    with pytest.raises(TokenizerError, match="tokenizer.json is not a readable"):
        load_tokenizer(variant(normalizer=normalizer))


def test_a_folder_in_the_place_of_the_file_and_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(TokenizerError, match="not found; give 'byte'"):
        load_tokenizer(str(tmp_path))


def test_a_text_that_the_file_cannot_encode_is_a_fault_of_the_file(tmp_path, caplog):
    from tokenizers import Tokenizer, models, pre_tokenizers

    theirs = Tokenizer(models.WordLevel({"dog": 0, "barks": 1}, unk_token="[UNK]"))
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.encode("dog barks") == [0, 1] and "is refused" in caplog.text
    with pytest.raises(TokenizerError, match="cannot encode 'cat': Exception: WordLevel error: Missing"):
        tokenizer.encode("cat")
