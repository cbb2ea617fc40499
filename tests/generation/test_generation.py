"""Cached, batched, guided decoding against the plain forward pass of the same model."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from plain_decoding import CONFIG, GREEDY_AUDIO, GREEDY_TEXT, plain_decode, prompts, random_model
from synthetic_cache import VOCABULARY, example, write_mixture_of

from bagpiper_jax import vocabulary as v
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.data.prompts import collate
from bagpiper_jax.dialogue import render_prompt
from bagpiper_jax.generation import sampling
from bagpiper_jax.generation.batch import generate
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.bagpiper import Bagpiper


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.mark.parametrize(
    "modalities, guidance", [(("text",), 1.0), (("audio",), 1.0), (("audio",), 3.0), (("text", "audio"), 3.0)]
)
def test_decoding_equals_the_uncached_forward(model, modalities, guidance):
    config = LoopConfig(
        GREEDY_TEXT, dataclasses.replace(GREEDY_AUDIO, guidance=guidance), modalities, len(modalities)
    )
    batched = generate(model, prompts(), config)
    for prompt, segments in zip(prompts(), batched, strict=True):
        expected = plain_decode(model, prompt, modalities, guidance)
        assert [s.modality for s in segments] == list(modalities)
        for segment, rows in zip(segments, expected, strict=True):
            np.testing.assert_array_equal(segment.rows, rows)


def test_a_begun_reply_goes_on_as_the_uncached_forward_does(model):
    """Whatever its beginning's length: none, some, all that a segment holds, and more; the second text is free."""
    begun = [(), (3, 19), (0, 1, 2, 3, 4, 5, 6), tuple(range(9)), (7,)]
    config = LoopConfig(GREEDY_TEXT, GREEDY_AUDIO, ("text", "text"), 2)
    found = generate(model, prompts(), config, begun=begun)
    for prompt, ids, segments in zip(prompts(), begun, found, strict=True):
        expected = plain_decode(model, prompt, ("text", "text"), 1.0, begun=ids)
        assert segments[0].text_ids(CONFIG.vocabulary)[: len(ids)].tolist() == list(ids[:7])
        for segment, rows in zip(segments, expected, strict=True):
            np.testing.assert_array_equal(segment.rows, rows)


def test_a_row_does_not_depend_on_its_batch_mates(model):
    config = LoopConfig(
        SamplingConfig(0.9, 8, 1, 1, 7), SamplingConfig(0.9, 5, 2.0, 1, 9), ("text", "audio"), 2, seed=3
    )
    together = generate(model, prompts(), config)
    one_by_one = generate(model, prompts(), config, rows=1)
    for row, alone in zip(together, one_by_one, strict=True):
        for a, b in zip(row, alone, strict=True):
            np.testing.assert_array_equal(a.rows, b.rows)


def test_seeds_change_samples_and_only_theirs(model):
    config = LoopConfig(SamplingConfig(1.0, 0, 1, 7, 7), modalities=("text",), max_segments=1)
    prompt = prompts()[0]
    rows = generate(model, [prompt] * 3, config, seeds=[1, 2, 1])
    assert np.array_equal(rows[0][0].rows, rows[2][0].rows)
    assert not np.array_equal(rows[0][0].rows, rows[1][0].rows)


def test_emitted_ids_stay_in_their_intervals(model):
    vocabulary = CONFIG.vocabulary
    config = LoopConfig(
        SamplingConfig(5.0, 0, 1, 1, 20),
        SamplingConfig(5.0, 0, 1.5, 4, 20),
        ("text", "audio"),
        max_segments=2,
    )
    for seed, (text, audio) in enumerate(generate(model, prompts(), config, seeds=range(5))):
        assert ((text.rows[:, 0] >= 256) & (text.rows[:, 0] < vocabulary.codec_start)).all(), seed
        assert (text.rows[:, 1:] == 0).all()
        offset = audio.rows - vocabulary.stream_pads()
        assert ((offset >= 0) & (offset < vocabulary.stream_size)).all()
        assert len(audio.rows) >= 4


@pytest.mark.parametrize("marker, modality", [(v.TEXT, "text"), (v.AUDIO, "audio")])
@pytest.mark.parametrize("terminator, count", [(v.EOT, 2), (v.EOS, 1)])
def test_the_model_chooses_modalities_and_eot_opens_another_message(marker, modality, terminator, count):
    """A model whose hidden state is always ones, so that the head alone decides."""
    model = Bagpiper(CONFIG, rngs=nnx.Rngs(0))
    for parameter in (model.decoder.layers.attention.output, model.decoder.layers.ffn.down):
        parameter.set_value(parameter[...] * 0)
    model.decoder.embed_tokens.set_value(model.decoder.embed_tokens[...] * 0 + 1)
    head = np.zeros(model.lm_head.shape, np.float32)
    head[[marker, terminator]] = 1
    model.lm_head.set_value(head)
    segments = generate(model, prompts()[:2], LoopConfig(GREEDY_TEXT, GREEDY_AUDIO))
    assert [[s.modality for s in row] for row in segments] == [[modality] * count] * 2
    assert all(s.terminator == terminator for row in segments for s in row)


def test_top_k_bars_the_rest_and_temperature_sharpens():
    logits = np.tile(np.array([0.0, 1.0, 2.0, 3.0], np.float32), (4000, 1, 1))
    keys = jax.vmap(jax.random.key)(np.arange(4000))

    def shares(config):
        settings = np.full(4000, config.temperature, np.float32), np.full(4000, config.top_k)
        return np.bincount(sampling.sample(keys, logits, *settings)[:, 0], minlength=4) / 4000

    expected = np.exp([2 / 0.5, 3 / 0.5]) / np.exp([2 / 0.5, 3 / 0.5]).sum()
    np.testing.assert_allclose(shares(SamplingConfig(0.5, 2)), [0, 0, *expected], atol=0.02)
    np.testing.assert_allclose(
        shares(SamplingConfig(1.0, 0))[3], np.exp(3) / np.exp(range(4)).sum(), atol=0.03
    )
    assert shares(SamplingConfig(0.0, 2))[3] == 1


def test_more_than_there_is_is_all():
    """The first id is a terminator that is barred, as in every segment's first rows."""
    logits = np.tile(np.array([-np.inf, 0, 0, 0, 0, 0, 0], np.float32), (200, 1, 1))
    keys = jax.vmap(jax.random.key)(np.arange(200))
    warm = np.ones(200, np.float32)
    all_of_them = sampling.sample(keys, logits, warm, np.full(200, 0))
    np.testing.assert_array_equal(sampling.sample(keys, logits, warm, np.full(200, 20)), all_of_them)
    assert set(np.ravel(all_of_them)) == set(range(1, 7))


@pytest.mark.parametrize("top_k", [1, 33, 50, 0])
def test_a_draw_keeps_the_top_k_whatever_the_mates_keep(top_k):
    logits = jax.random.normal(jax.random.key(0), (40, 2, 60))
    keys, warm = jax.vmap(jax.random.key)(np.arange(40)), np.full(40, 3.0, np.float32)
    alone = sampling.sample(keys, logits, warm, np.full(40, top_k))
    ranks = np.argsort(np.argsort(-logits, axis=-1), axis=-1)
    drawn = np.take_along_axis(ranks, np.asarray(alone)[..., None], -1)
    assert drawn.max() < (top_k or 60) and (top_k == 1 or drawn.max() > 20)
    mixed = np.where(np.arange(40) % 3 == 0, top_k, 0)
    np.testing.assert_array_equal(sampling.sample(keys, logits, warm, mixed)[::3], alone[::3])


def test_guided_hidden_states_give_guided_logits(model):
    hidden = np.random.default_rng(0).normal(size=(2, 3, 32)).astype(np.float32)
    guided = sampling.guide(*hidden, np.full(3, 3.0, np.float32))
    for stream in range(4):
        conditional, null = (np.asarray(model.logits(h, stream)) for h in hidden)
        np.testing.assert_allclose(model.logits(guided, stream), 3 * conditional - 2 * null, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"guidance": 0.5}, {"temperature": -1}, {"min_steps": 0}, {"min_steps": 9, "max_steps": 8}]
)
def test_bad_sampling_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must|need"):
        SamplingConfig(**settings)


def test_prompts_beyond_the_shape_and_unknown_modalities_are_refused():
    with pytest.raises(ValueError, match="doesn't fit 4 slots"):
        collate(prompts()[:1], BatchShape(1, 4, 0), CONFIG)
    with pytest.raises(ValueError, match="unknown modalities smell"):
        LoopConfig(modalities=("smell",))


def test_prompts_are_laid_out_as_training_rows_are(tmp_path):
    """The same clips in the same windows, of a tower that attends to four chunks at a time."""
    wave = (0.1 * np.random.default_rng(0).normal(size=16000 * 6)).astype(np.float32)
    lock = write_mixture_of(tmp_path, [example([("user", "audio", wave), ("assistant", "text", "two")])])
    shape = BatchShape(rows=1, slots=128, chunks=8)
    loader = Loader(lock, shape, VOCABULARY, LoaderConfig(cfg_dropout=0.0, finite=True, window_chunks=4))
    trained = loader.batch(0)
    messages = loader.caches[0].read(0).messages()
    tower = dataclasses.replace(CONFIG.tower, window_chunks=4)
    config = dataclasses.replace(CONFIG, tower=tower, vocabulary=VOCABULARY)
    prompt = collate([render_prompt(messages, VOCABULARY)], shape, config)
    for name in ("mel", "chunk_frames", "chunk_clip", "chunk_window", "audio_slot"):
        np.testing.assert_array_equal(getattr(prompt, name), getattr(trained, name), err_msg=name)
    assert trained.chunk_window[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0]
    assert not prompt.loss_weights.any()
