"""For any dialogue: its declared length is its rendered length, dropped condition or not; and delay can be undone."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_cache import CODES, STREAMS, VOCABULARY, example

from bagpiper_jax import dialogue
from bagpiper_jax import vocabulary as v
from bagpiper_jax.data import records
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.rows import RowMaker
from bagpiper_jax.dialogue import Message, RenderConfig, delay, undelay
from bagpiper_jax.vocabulary import Vocabulary

texts = st.tuples(
    st.sampled_from(["system", "user", "assistant"]), st.just("text"), st.text(min_size=1, max_size=30)
)
clips = st.tuples(st.sampled_from(["system", "user"]), st.just("audio"), st.integers(201, 40_000))
generated = st.tuples(st.just("assistant"), st.just("audio"), st.integers(1, 40))
dialogues = st.lists(st.one_of(texts, clips, generated), min_size=1, max_size=7)
configs = st.builds(
    RenderConfig,
    loss_region=st.sampled_from(["assistant", "all"]),
    stream_weights=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * STREAMS),
    released_bang_is_pad=st.booleans(),
)


def authored(messages) -> list:
    """The dialogue with payloads in place of their lengths."""
    rng = np.random.default_rng(len(messages))
    payload = {
        ("audio", False): lambda n: (0.1 * rng.normal(size=n)).astype(np.float32),
        ("audio", True): lambda n: rng.integers(0, CODES, (n, STREAMS)).astype(np.int32),
        ("text", False): lambda text: text,
        ("text", True): lambda text: text,
    }
    return [(role, kind, payload[kind, role == "assistant"](content)) for role, kind, content in messages]


@settings(max_examples=80, deadline=None)
@given(dialogues, configs, st.data())
def test_declared_length_is_rendered_length_with_and_without_the_condition(messages, config, data):
    record = records.Record.from_example(example(authored(messages)))
    record = records.decode(records.encode(record), record.audio)
    declared = records.measure(record).length
    whole = dialogue.render(record.messages(), VOCABULARY, config)
    assert len(whole) == declared == len(whole.loss_weights) == whole.spans[-1][1]
    kept = [i for i, (role, kind, _) in enumerate(messages) if (role, kind) == ("assistant", "audio")]
    if not kept:
        return
    keep = data.draw(st.sampled_from(kept))
    start, end = whole.spans[keep]
    dropped = dialogue.drop_condition(whole, keep)
    assert len(dropped) == declared == len(dropped.loss_weights) and not dropped.audio
    for name in ("tokens", "loss_weights"):
        before, after = getattr(whole, name), getattr(dropped, name)
        np.testing.assert_array_equal(after[start:end], before[start:end])
        assert not after[:start].any() and not after[end:].any()


@settings(max_examples=20, deadline=None)
@given(dialogues, st.integers(0, 2**31), st.integers(0, 5))
def test_what_is_served_has_the_length_of_the_index(messages, seed, epoch):
    """Through the row maker of a run, with every condition dropped that can be, and with none."""
    record = records.Record.from_example(example(authored(messages)))
    length = records.measure(record).length
    for probability in (0.0, 1.0):
        rows = RowMaker([OneRecord(record)], ["task"], VOCABULARY, RenderConfig(), seed, probability)
        served = rows.example(0, epoch, 0, length)
        assert served is not None and len(served) == length
        sounds = any((role, kind) == ("assistant", "audio") for role, kind, _ in messages)
        assert bool(served.tokens[0, 0]) == (probability == 0.0 or not sounds)


@dataclasses.dataclass(frozen=True)
class OneRecord(TaskCache):
    """A cache of one record that needs no files."""

    record: records.Record = None

    def __init__(self, record):
        object.__setattr__(self, "record", record)

    def read(self, index: int, audio: bool = True) -> records.Record:
        return self.record


layouts = st.builds(
    Vocabulary, text_size=st.integers(1, 300), codebook_size=st.integers(1, 64), num_streams=st.integers(1, 9)
)


@settings(max_examples=100, deadline=None)
@given(layouts, st.integers(1, 40), st.integers(0, 2**32))
def test_delay_places_every_code_once_and_pads_the_rest(layout, frames, seed):
    rng, streams = np.random.default_rng(seed), layout.num_streams
    codes = rng.integers(0, layout.codebook_size, (frames, streams))
    ids = layout.codes_to_ids(codes)
    rows = delay(ids, layout)
    assert rows.shape == (frames + streams - 1, streams)
    slot, stream = np.indices(rows.shape)
    is_code = (slot >= stream) & (slot < stream + frames)
    np.testing.assert_array_equal(rows[~is_code], np.broadcast_to(layout.stream_pads(), rows.shape)[~is_code])
    np.testing.assert_array_equal(rows[is_code], ids[(slot - stream)[is_code], stream[is_code]])
    assert not np.isin(ids, layout.stream_pads()).any(), "a pad could be taken for a code"
    np.testing.assert_array_equal(undelay(rows), ids)
    np.testing.assert_array_equal(layout.ids_to_codes(undelay(rows)), codes)


@settings(max_examples=60, deadline=None)
@given(layouts, st.integers(1, 40), st.integers(0, 2**32))
def test_a_tail_fills_the_last_pads_and_changes_no_code(layout, frames, seed):
    rng, streams = np.random.default_rng(seed), layout.num_streams
    codes = rng.integers(0, layout.codebook_size, (frames, streams))
    tail = rng.integers(0, layout.codebook_size, (streams - 1, streams))
    ids = layout.codes_to_ids(codes)
    rows = delay(ids, layout, tail)
    np.testing.assert_array_equal(undelay(rows), ids)
    slot, stream = np.indices(rows.shape)
    np.testing.assert_array_equal(
        rows[slot < stream], np.broadcast_to(layout.stream_pads(), rows.shape)[slot < stream]
    )
    after = slot >= stream + frames
    told = np.concatenate([ids, layout.codes_to_ids(tail)])
    np.testing.assert_array_equal(rows[after], told[(slot - stream)[after], stream[after]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 2**32))
def test_every_clip_of_a_dialogue_can_be_read_back(lengths, seed):
    rng = np.random.default_rng(seed)
    said = [rng.integers(0, CODES, (n, STREAMS)).astype(np.int32) for n in lengths]
    rendered = dialogue.render([Message("assistant", "audio", codes) for codes in said], VOCABULARY)
    found = dialogue.parse(rendered.tokens, VOCABULARY)
    assert len(found) == len(said) and rendered.tokens[0, 0] == v.BOS
    for codes, (_, _, again) in zip(said, found, strict=True):
        np.testing.assert_array_equal(again, codes)
