"""Token layout against the release's numbers (docs/reference.md, Token layout)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagpiper_jax import vocabulary as v
from bagpiper_jax.vocabulary import Vocabulary

RELEASE = Vocabulary()


def test_the_release_layout():
    assert (v.PAD, v.BOS, v.EOS, v.EOT, v.SYSTEM, v.USER, v.ASSISTANT, v.TEXT, v.AUDIO) == tuple(range(9))
    assert RELEASE.text_start == 256
    assert RELEASE.codec_start == 152_192
    assert RELEASE.size == 160_392
    assert RELEASE.codec_size == 8200
    assert RELEASE.stream_pads().tolist() == [152_192 + 1025 * s for s in range(8)]
    codes = np.arange(8)[None] * 100
    assert RELEASE.codes_to_ids(codes)[0].tolist() == [152_192 + 1025 * s + 1 + 100 * s for s in range(8)]


def test_names_of_ids():
    described = [RELEASE.describe(i) for i in (0, 3, 11, 12, 255, 256, 152_192, 152_193, 160_391)]
    assert described == [
        "<|pad|>", "<|eot|>", "<|toolcall|>", "<|unused_12|>", "<|unused_255|>", "text:0",
        "<codec_layer0_pad>", "<codec_layer0_code0>", "<codec_layer7_code1023>",
    ]  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32))
def test_codes_and_ids_invert_each_other(codebook_size, streams, seed):
    layout = Vocabulary(text_size=300, codebook_size=codebook_size, num_streams=streams)
    codes = np.random.default_rng(seed).integers(0, codebook_size, (5, streams))
    ids = layout.codes_to_ids(codes)
    np.testing.assert_array_equal(layout.ids_to_codes(ids), codes)
    assert ids.min() > layout.codec_start and ids.max() < layout.size
    owner = (ids - layout.codec_start) // layout.stream_size
    np.testing.assert_array_equal(owner, np.broadcast_to(np.arange(streams), ids.shape))
    assert not np.isin(ids, layout.stream_pads()).any()


@given(st.lists(st.integers(0, 299)))
def test_text_and_ids_invert_each_other(text):
    layout = Vocabulary(text_size=300, codebook_size=4)
    ids = layout.text_to_ids(np.asarray(text, np.int64))
    mixed = np.concatenate([[v.BOS, v.USER], ids, [v.EOS, layout.codec_start]])
    assert layout.ids_to_text(mixed).tolist() == text


def test_values_outside_the_range_are_refused():
    with pytest.raises(ValueError, match="text id 151936 is outside"):
        RELEASE.text_to_ids([5, 151_936])
    with pytest.raises(ValueError, match="text id -1 is outside"):
        RELEASE.text_to_ids([-1])
    with pytest.raises(ValueError, match="code 1024 is outside"):
        RELEASE.codes_to_ids(np.full((2, 8), 1024))
    with pytest.raises(ValueError, match=r"codes must be \[N, 8\], got \[3, 4\]"):
        RELEASE.codes_to_ids(np.zeros((3, 4)))


def test_foreign_ids_clip_to_the_nearest_code():
    pads = RELEASE.stream_pads()[None]
    assert RELEASE.ids_to_codes(pads).tolist() == [[0] * 8]
    assert RELEASE.ids_to_codes(np.full((1, 8), 200_000)).tolist() == [[1023] * 8]
