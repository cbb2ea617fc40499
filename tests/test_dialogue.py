"""The sequence format against the release's rules, by example and by property.

See docs/reference.md, Message layout, Loss mask, Delay pattern and Guidance dropout.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagpiper_jax import vocabulary as v
from bagpiper_jax.dialogue import (
    DialogueError,
    Message,
    RenderConfig,
    delay,
    drop_condition,
    parse,
    render,
    render_prompt,
    rendered_length,
    undelay,
)
from bagpiper_jax.vocabulary import Vocabulary

LAYOUT = Vocabulary(text_size=50, codebook_size=16)
T0 = LAYOUT.text_start


def text(role, *ids) -> Message:
    return Message(role, "text", np.asarray(ids, np.int32))


def codes(frames, seed=0) -> Message:
    content = np.random.default_rng(seed).integers(0, 16, (frames, 8))
    return Message("assistant", "audio", content.astype(np.int32))


def wave(samples, role="user") -> Message:
    return Message(role, "audio", np.linspace(-1, 1, samples, dtype=np.float32))


def test_captioning_example_row_by_row():
    """user audio of 1 s, then assistant text: 13 placeholder rows, loss on the assistant's message only."""
    rendered = render([wave(16000), text("assistant", 7, 8)], LAYOUT)
    assert rendered.tokens[:, 0].tolist() == [
        v.BOS, v.USER, v.AUDIO, *[0] * 13, v.EOS, v.ASSISTANT, v.TEXT, T0 + 7, T0 + 8, v.EOS,
    ]  # fmt: skip
    assert not rendered.tokens[:, 1:].any()
    assert rendered.loss_weights[:, 0].tolist() == [0] * 17 + [1] * 5
    assert not rendered.loss_weights[:, 1:].any()
    (span,) = rendered.audio
    assert (span.start, span.num_tokens, len(span.samples)) == (3, 13, 16000)
    assert rendered.spans == ((1, 17), (17, 22))


def test_terminator_is_eot_before_the_same_role_and_eos_otherwise():
    messages = [wave(1600), text("user", 1), text("assistant", 2), codes(2), text("user", 3)]
    rendered = render(messages, LAYOUT)
    ends = [int(rendered.tokens[end - 1, 0]) for _, end in rendered.spans]
    assert ends == [v.EOT, v.EOS, v.EOT, v.EOS, v.EOS]


def test_delay_pattern_of_two_frames():
    ids = LAYOUT.codes_to_ids(np.arange(16).reshape(2, 8))
    rows = delay(ids, LAYOUT)
    pads = LAYOUT.stream_pads()
    assert rows.shape == (9, 8)
    for stream in range(8):
        expected = [pads[stream]] * stream + ids[:, stream].tolist() + [pads[stream]] * (7 - stream)
        assert rows[:, stream].tolist() == expected


def test_codec_rows_weigh_an_eighth_pads_included():
    rendered = render([text("user", 1), codes(3)], LAYOUT)
    start, end = rendered.spans[1]
    np.testing.assert_array_equal(rendered.loss_weights[start + 2 : end - 1], np.full((10, 8), 0.125))
    np.testing.assert_array_equal(rendered.loss_weights[[start, start + 1, end - 1], 0], [1, 1, 1])
    assert not rendered.loss_weights[[start, start + 1, end - 1], 1:].any()


def test_stream_and_message_weights_multiply():
    config = RenderConfig(stream_weights=(1.0, 0.5, *[0.0] * 6))
    half = Message("assistant", "audio", np.zeros((1, 8), np.int32), weight=0.5)
    rendered = render([text("user", 1), half], LAYOUT, config)
    start, _ = rendered.spans[1]
    assert rendered.loss_weights[start + 2].tolist() == [0.0625, 0.03125, *[0.0] * 6]
    assert rendered.loss_weights[start, 0] == 0.5


def test_loss_region_all_covers_users_but_never_bos_or_continuous_audio():
    rendered = render([wave(1600), text("user", 1), text("assistant", 2)], LAYOUT, RenderConfig("all"))
    weights = rendered.loss_weights[:, 0]
    assert weights[0] == 0
    assert weights.tolist() == [0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_bang_is_a_token_by_default_and_lost_by_the_releases_name():
    message = text("assistant", 0, 5)
    right = render([message], LAYOUT)
    assert right.tokens[3:5, 0].tolist() == [T0, T0 + 5] and right.loss_weights[3:5, 0].tolist() == [1, 1]
    released = render([message], LAYOUT, RenderConfig(released_bang_is_pad=True))
    assert released.tokens[3:5, 0].tolist() == [v.PAD, T0 + 5]
    assert released.loss_weights[3:5, 0].tolist() == [0, 1]


def test_silence_tail_fills_what_would_be_pads():
    clip = codes(2)
    tail = np.full((7, 8), 9, np.int32)
    message = Message("assistant", "audio", clip.content, tail=tail)
    rows = render([text("user", 1), message], LAYOUT).tokens[7:16]
    plain = render([text("user", 1), clip], LAYOUT).tokens[7:16]
    np.testing.assert_array_equal(undelay(rows), undelay(plain))
    silence = LAYOUT.codes_to_ids(tail)[0]
    for stream in range(8):
        assert rows[: stream + 2, stream].tolist() == plain[: stream + 2, stream].tolist()
        assert (rows[stream + 2 :, stream] == silence[stream]).all()


def test_dropping_the_condition_keeps_one_message_and_all_lengths():
    messages = [wave(16000), text("user", 1), codes(2, seed=1), text("user", 2), codes(3, seed=2)]
    whole = render(messages, LAYOUT)
    dropped = drop_condition(whole, keep=4)
    start, end = whole.spans[4]
    assert len(dropped) == len(whole) and dropped.audio == ()
    np.testing.assert_array_equal(dropped.tokens[start:end], whole.tokens[start:end])
    np.testing.assert_array_equal(dropped.loss_weights[start:end], whole.loss_weights[start:end])
    # bos, the other messages, and the other generated audio, which the release leaves in by mistake
    assert not dropped.tokens[:start].any() and not dropped.loss_weights[:start].any()


def test_prompt_ends_before_the_first_assistant_message():
    prompt = render_prompt([text("system", 1), wave(1600), text("assistant", 3), text("user", 4)], LAYOUT)
    assert prompt.tokens[-1, 0] == v.EOS
    assert v.ASSISTANT not in prompt.tokens[:, 0]
    assert len(prompt.audio) == 1


@pytest.mark.parametrize("role, modality", [("narrator", "text"), ("user", "video"), ("", "text")])
def test_unknown_role_or_modality_is_named(role, modality):
    with pytest.raises(DialogueError, match="unknown (role|modality).*known: "):
        Message(role, modality, "x")


def test_faults_name_the_message():
    with pytest.raises(DialogueError, match=r"message 1 \(assistant text\): content is empty"):
        render([text("user", 1), text("assistant")], LAYOUT)
    with pytest.raises(DialogueError, match=r"message 0 \(assistant text\): text id 50 is outside"):
        render([text("assistant", 50)], LAYOUT)
    with pytest.raises(DialogueError, match=r"message 0 \(assistant audio\): codes must be"):
        render([Message("assistant", "audio", np.zeros((4, 3), np.int32))], LAYOUT)
    with pytest.raises(DialogueError, match="at least one message"):
        render([], LAYOUT)


text_messages = st.builds(
    lambda role, ids: text(role, *ids),
    st.sampled_from(["system", "user", "assistant"]),
    st.lists(st.integers(0, 49), min_size=1, max_size=12),
)
audio_messages = st.builds(wave, st.integers(160, 40000), st.sampled_from(["system", "user"]))
codec_messages = st.builds(codes, st.integers(1, 12), st.integers(0, 99))
dialogues = st.lists(st.one_of(text_messages, audio_messages, codec_messages), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(dialogues)
def test_length_is_the_closed_form(messages):
    rendered = render(messages, LAYOUT)
    assert len(rendered) == rendered_length(messages) == len(rendered.loss_weights)
    assert sum(end - start for start, end in rendered.spans) + 1 == len(rendered)


@settings(max_examples=60, deadline=None)
@given(dialogues)
def test_parse_inverts_render(messages):
    found = parse(render(messages, LAYOUT).tokens, LAYOUT)
    assert [(role, modality) for role, modality, _ in found] == [(m.role, m.modality) for m in messages]
    for message, (_, _, content) in zip(messages, found, strict=True):
        if not message.is_continuous:
            np.testing.assert_array_equal(content, message.content)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**32))
def test_undelay_inverts_delay(frames, streams, seed):
    layout = Vocabulary(text_size=1, codebook_size=16, num_streams=streams)
    ids = layout.codes_to_ids(np.random.default_rng(seed).integers(0, 16, (frames, streams)))
    rows = delay(ids, layout)
    assert rows.shape == (frames + streams - 1, streams)
    np.testing.assert_array_equal(undelay(rows), ids)


def test_undelay_of_less_than_a_diagonal_is_empty():
    assert undelay(np.zeros((7, 8), np.int32)).shape == (0, 8)
    assert undelay(np.zeros((8, 8), np.int32)).shape == (1, 8)
