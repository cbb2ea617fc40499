"""The record codec, validation by named reason, and damaged bytes that never pass silently."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_cache import LIMITS, VOCABULARY, dialogue_of, example

from bagpiper_jax import dialogue
from bagpiper_jax.data import records
from bagpiper_jax.data.records import Record
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.outcomes import RecordError


def record_of(direction, seed=0) -> Record:
    return Record.from_example(example(dialogue_of(direction, np.random.default_rng(seed))), "clip-é")


def validate(record: Record) -> None:
    records.validate(record, LIMITS.text_size, LIMITS.codebook_size, LIMITS.num_streams)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_codec_round_trip_measure_and_direction(direction):
    record = record_of(direction)
    validate(record)
    again = records.decode(records.encode(record), record.audio)
    for field in dataclasses.fields(Record):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(record, field.name))
    measure = records.measure(record)
    rendered = dialogue.render(again.messages(), VOCABULARY)
    assert measure.length == len(rendered)
    assert DIRECTIONS[measure.direction] == direction
    assert measure.chunks == sum(-(-(len(s.samples) // 160) // 100) for s in rendered.audio)


@settings(max_examples=200)
@given(st.data())
def test_truncated_or_lengthened_bytes_are_refused(data):
    whole = records.encode(record_of("generation", 1))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(RecordError, match="corrupt_record"):
        records.decode(whole[:cut])
    with pytest.raises(RecordError, match="corrupt_record"):
        records.decode(whole + b"\0" * data.draw(st.integers(1, 9)))


FAULTS = {
    "no_messages": {k: np.zeros(0, np.int32) for k in ("role", "modality", "start", "length", "weight")},
    "bad_message_table": {"start": np.asarray([0], np.int32)},
    "unknown_role": {"role": np.asarray([5, 99], np.int32)},
    "unknown_modality": {"modality": np.asarray([7, 9], np.int32)},
    "bad_weight": {"weight": np.asarray([1, np.nan], np.float32)},
    "bad_codes": {"codes": np.zeros((4, 3), np.uint16)},
    "empty_message": {"length": np.asarray([0, 5], np.int32)},
    "text_out_of_range": {"text": np.full(500, 256, np.int32)},
    "code_out_of_range": {"codes": np.full((90, 8), 64, np.uint16)},
    "audio_mismatch": {"audio": b"x"},
    "no_loss": {"weight": np.zeros(2, np.float32)},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_every_fault_has_its_reason(reason):
    record = dataclasses.replace(record_of("caption_to_audio"), **FAULTS[reason])
    with pytest.raises(RecordError) as caught:
        validate(record)
    assert caught.value.reason == reason


@pytest.mark.parametrize("start, length", [(-1, 3), (0, 10_000), (5_000, 2)])
def test_spans_beyond_their_payload_are_refused(start, length):
    record = record_of("text_only")
    record = dataclasses.replace(record, start=np.asarray([start]), length=np.asarray([length]))
    with pytest.raises(RecordError, match="bad_message_table"):
        validate(record)


def test_audio_shorter_than_a_mel_frame_is_refused():
    record = record_of("audio_to_caption")
    record = dataclasses.replace(record, length=np.asarray([150, record.length[1]], np.int32))
    with pytest.raises(RecordError, match="audio_too_short"):
        validate(record)


def test_audio_shorter_than_its_table_says_is_found_on_reading():
    record = record_of("audio_to_caption")
    record = dataclasses.replace(record, length=record.length + np.asarray([500_000, 0], np.int32))
    with pytest.raises(RecordError, match="audio_too_short"):
        record.messages()
    with pytest.raises(RecordError, match="audio_too_short"):
        dataclasses.replace(record, audio=b"").messages()
    with pytest.raises(RecordError, match="corrupt_audio"):
        dataclasses.replace(record, audio=b"fLaC nonsense").messages()


def test_missing_or_misshapen_features_are_refused():
    features = example(dialogue_of("generation", np.random.default_rng(0)))
    with pytest.raises(RecordError, match="missing_feature: codes, audio"):
        Record.from_example({k: v for k, v in features.items() if k not in ("codes", "audio")})
    with pytest.raises(RecordError, match="bad_codes"):
        Record.from_example({**features, "codes": np.zeros(8, np.int32)})
    with pytest.raises(RecordError, match="code_out_of_range"):
        Record.from_example({**features, "codes": np.full((2, 8), -1)})


def test_several_clips_share_one_stream():
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in (900, 1700)]
    turns = [("user", "audio", waves[0]), ("user", "text", "and"), ("user", "audio", waves[1]),
             ("assistant", "text", "same")]  # fmt: skip
    record = Record.from_example(example(turns))
    first, _, second, _ = record.messages()
    np.testing.assert_allclose(first.content, waves[0], atol=1 / 32768)
    np.testing.assert_allclose(second.content, waves[1], atol=1 / 32768)
