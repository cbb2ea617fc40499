"""Training the codec: its losses, its codebooks, and a run that is killed and continues."""

import json
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_helpers import job, metrics, whole_and_killed, write_corpus
from tiny_codec import HOP, TINY, noise

from bagpiper_jax.encoders import codebooks, codec_losses, codec_report
from bagpiper_jax.encoders.codebooks import CodebookConfig
from bagpiper_jax.encoders.codec_data import crops
from bagpiper_jax.encoders.codec_report import HeldOutClip
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.encoders.waveforms import CorpusAudioError, Waveforms, prefetched
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import train_codec
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.models.codecs.xcodec import functional, storage


class TestLosses:
    def test_magnitude_of_a_sine_is_half_its_amplitude(self):
        t = np.arange(8192) / 16_000
        sine = (0.6 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)[None]
        spectrum = codec_losses.magnitudes(sine, 512)  # 1000 Hz is bin 32 exactly
        np.testing.assert_allclose(spectrum[0, 8:-8, 32], 0.3, rtol=1e-3)

    def test_magnitudes_equal_librosa(self):
        librosa = pytest.importorskip("librosa")
        wave = noise(0, 4096, 1)
        expected = np.abs(librosa.stft(wave[0], n_fft=256, hop_length=64, pad_mode="constant")).T
        ours = codec_losses.magnitudes(wave, 256)[0] * 128  # the window's sum
        np.testing.assert_allclose(ours[: len(expected)], expected, atol=1e-4)

    def test_mel_filters_are_librosas_up_to_scale(self):
        librosa = pytest.importorskip("librosa")
        expected = librosa.filters.mel(sr=16_000, n_fft=1024, n_mels=40, htk=True, norm=None).T
        expected = expected / expected.sum(0)
        np.testing.assert_allclose(codec_losses.mel_filters(1024, 40, 16_000), expected, atol=1e-4)

    def test_equal_waveforms_cost_nothing_and_louder_ones_cost_their_logarithm(self):
        wave = np.random.default_rng(1).standard_normal((2, 4096)).astype(np.float32)  # far above the floor
        assert all(float(value) < 1e-6 for value in codec_losses.spectral_losses(wave, wave, 16_000).values())
        distance = codec_losses.mel_distance(2 * wave, wave, 16_000)
        np.testing.assert_allclose(distance, np.log(2), atol=0.03)


class TestCodebooks:
    CONFIG = CodebookConfig(decay=0.9, dead_share=0.1, dropout=0.0)

    def books(self, streams=2, size=8, width=3):
        shapes = {"inited": (streams, 1), "cluster_size": (streams, size)}
        shapes |= {name: (streams, size, width) for name in ("embed", "embed_avg")}
        return {name: jnp.zeros(shape) for name, shape in shapes.items()}

    quantize = staticmethod(jax.jit(codebooks.quantize, static_argnames="config"))

    def run(self, latents, books, config):
        for step, latent in enumerate(latents):
            result = self.quantize(latent, books, step, jax.random.key(step), config)
            books = result.books
        return result

    def clusters(self, count):
        """`count` centres, and batches of points close to them."""
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(count, 3)) * 5
        points = centres[rng.integers(count, size=(60, 4, 32))] + 0.01 * rng.normal(size=(60, 4, 32, 3))
        return centres, list(points.astype(np.float32))

    def test_they_find_the_clusters_of_the_data(self):
        centres, latents = self.clusters(4)
        result = self.run(latents, self.books(streams=1, size=12), self.CONFIG)
        assert _farthest(centres, result.books["embed"][0]) < 0.1
        np.testing.assert_allclose(result.latent, latents[-1], atol=0.1)

    def test_dead_codes_restart_where_the_data_is(self):
        centres, latents = self.clusters(4)
        books = self.books(streams=1, size=12)
        books |= {"inited": jnp.ones((1, 1)), "embed": jnp.full((1, 12, 3), 1e3)}  # far from everything
        books |= {"cluster_size": jnp.ones((1, 12)), "embed_avg": books["embed"]}
        result = self.run(latents, books, self.CONFIG)
        assert _farthest(centres, result.books["embed"][0]) < 0.1

    def test_gradient_passes_straight_through(self):
        latent = jnp.array(np.random.default_rng(1).normal(size=(2, 16, 3)), jnp.float32)
        books = self.run([latent], self.books(), self.CONFIG).books
        out, pull = jax.vjp(
            lambda x: self.quantize(x, books, 0, jax.random.key(0), self.CONFIG).latent, latent
        )
        assert float(jnp.abs(out - latent).max()) > 1e-3  # it does quantise
        np.testing.assert_array_equal(pull(jnp.ones_like(out))[0], jnp.ones_like(latent))

    def test_codes_are_those_of_the_inference_quantiser(self):
        latent = jnp.array(np.random.default_rng(2).normal(size=(2, 16, TINY.codebook_width)), jnp.float32)
        books = self.run([latent], self.books(3, 16, TINY.codebook_width), self.CONFIG).books
        parameters = functional.initialize(TINY) | {f"quantizer/{name}": book for name, book in books.items()}
        quantizer = functional.build(parameters, TINY).quantizer
        result = self.quantize(latent, books, 0, jax.random.key(9), self.CONFIG)
        np.testing.assert_array_equal(result.codes, quantizer.encode(latent))
        np.testing.assert_allclose(result.latent, quantizer.decode(result.codes), atol=1e-5)

    def test_bypass_ends(self):
        config = CodebookConfig(dropout=0.0, bypass_steps=10)
        latent = jnp.array(np.random.default_rng(3).normal(size=(2, 16, 3)), jnp.float32)
        books = self.run([latent], self.books(), self.CONFIG).books
        first, last = (
            self.quantize(latent, books, step, jax.random.key(0), config).latent for step in (0, 10)
        )
        np.testing.assert_array_equal(first, latent)
        assert float(jnp.abs(last - latent).max(axis=(1, 2)).min()) > 1e-3


def _farthest(centres, book) -> float:
    """How far the worst-served centre is from its nearest code."""
    return np.linalg.norm(np.asarray(book)[:, None] - centres[None], axis=-1).min(0).max()


class TestReport:
    def clip(self, domain, turns=None):
        annotation = {"turns": turns} if turns else None
        return Clip(id="a", split="test", domain=domain, audio="a.wav", annotation=annotation)

    def test_speech_is_where_somebody_speaks(self):
        wave = noise(0, 16_000, 1)[0]
        turns = [{"start": 0.1, "end": 0.4, "text": "one"}, {"start": 0.5, "end": 0.9, "text": "two"}]
        assert HeldOutClip.of(self.clip("mixed", turns), wave).speech == ((0.1, 0.4), (0.5, 0.9))
        assert HeldOutClip.of(self.clip("sound"), wave).speech == ()
        ((start, end),) = HeldOutClip.of(self.clip("speech"), wave).speech
        assert start == 0 and end >= 1

    def test_a_faithful_codec_scores_better_than_a_wrong_one(self, monkeypatch):
        pytest.importorskip("pystoi")
        t = np.arange(2 * 16_000) / 16_000
        wave = (np.sin(2 * np.pi * 300 * t) * np.sin(2 * np.pi * 3 * t) ** 2).astype(np.float32)
        clip, codes = HeldOutClip.of(self.clip("speech"), wave), np.array([[0, 1, 2], [0, 3, 2]])

        def measured(change):
            monkeypatch.setattr(codec_report, "reconstruct", lambda _, __, x: (change(x), codes))
            return codec_report.measure({}, TINY, [clip])[0]

        same, other = measured(lambda x: x), measured(lambda x: np.roll(x, 5000))
        assert (
            same.stoi > 0.999
            and same.mel == {"speech": 0.0}
            and other.stoi < 0.8
            and other.mel["speech"] > 0.02
        )
        assert same.used == (1 / 16, 2 / 16, 1 / 16)
        np.testing.assert_allclose(same.perplexity, (1, 2, 1), rtol=1e-6)
        assert same.speech_seconds == 2


class TestData:
    def test_crops_are_a_function_of_the_step(self, tmp_path):
        corpus = write_corpus(tmp_path / "corpus")
        waveforms = Waveforms([corpus], "train")
        assert len(waveforms) == 5
        forward = [crops(waveforms, Tags([]), 7, step, 3, 4, HOP) for step in range(4)]
        fresh = Waveforms([corpus], "train")
        later = dict(prefetched(lambda step: crops(fresh, Tags([]), 7, step, 3, 4, HOP), range(2, 4)))
        np.testing.assert_array_equal(later[3].waveform, forward[3].waveform)
        assert not np.array_equal(forward[2].waveform, forward[3].waveform)

    def test_crops_carry_the_tags_of_their_frames(self, tmp_path):
        corpus = write_corpus(tmp_path / "corpus", annotated=True)
        waveforms = Waveforms([corpus], "train", annotated=True)
        tags = Tags([clip for _, clip in waveforms.clips] * 5)
        assert tags.names == ("bell", "level: loud")
        batch = crops(waveforms, tags, 0, 0, 4, 25, HOP)  # whole clips: nothing is left to chance
        centres = (np.arange(25) + 0.5) * HOP / 16_000
        inside = (0.2 <= centres) & (centres < 0.6)
        assert batch.tagged.all() and inside.sum() > 5
        np.testing.assert_array_equal(batch.tags, np.broadcast_to(inside[None, :, None], (4, 25, 2)))

    def test_crops_of_clips_without_annotation_bear_no_tag_loss(self, tmp_path):
        batch = crops(Waveforms([write_corpus(tmp_path / "c")], "train"), Tags([]), 0, 0, 4, 6, HOP)
        assert not batch.tagged.any()

    def test_replayed_crops_are_the_same_sounds_at_another_speed(self, tmp_path):
        waveforms = Waveforms([write_corpus(tmp_path / "corpus", annotated=True)], "train")
        tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
        waveforms.read = lambda index: tone
        batch = crops(waveforms, Tags([]), 0, 0, 20, 8, HOP, replayed=0.5)
        hertz = np.abs(np.fft.rfft(batch.waveform * np.hanning(8 * HOP))).argmax(1) * 16_000 / (8 * HOP)
        assert 5 < batch.tagged.sum() < 15
        np.testing.assert_allclose(hertz[batch.tagged], 1000, atol=4)
        others = hertz[~batch.tagged]
        assert others.min() > 790 and others.max() < 1260 and others.std() > 50

    def test_unreadable_clips_are_passed_over(self, tmp_path):
        corpus = write_corpus(tmp_path / "corpus")
        (corpus / "audio" / "1.wav").write_bytes(b"RIFFtorn")
        waveforms = Waveforms([corpus], "train")
        batch = crops(waveforms, Tags([]), 0, 0, 40, 1, HOP)
        assert (np.abs(batch.waveform).max(axis=1) > 0).all()
        assert waveforms.rejected == {"clip1": "corrupt"}

    def test_a_corpus_without_audio_is_refused(self, tmp_path):
        write_manifest(tmp_path, [Clip(id="a", split="train", domain="text", text="prose")])
        with pytest.raises(CorpusAudioError, match="no train audio in"):
            Waveforms([tmp_path], "train")
        with pytest.raises(Explained, match="no train audio in .*; build a corpus"):
            train_codec.main(
                [f"--gin.TrainCodecConfig.corpora=({str(tmp_path)!r},)", "--gin.TrainCodecConfig.output='x'"]
            )


TINY_RUN = """
CodecConfig.strides = (8, 5, 4, 4)
CodecConfig.encoder_width = 2
CodecConfig.decoder_width = 16
CodecConfig.acoustic_width = 8
CodecConfig.codebook_size = 8
CodecConfig.codebook_width = 16
CodecConfig.num_codebooks = 2
CodecConfig.semantic = @SemanticEncoderConfig()
SemanticEncoderConfig.width = 8
SemanticEncoderConfig.layers = 1
SemanticEncoderConfig.heads = 2
SemanticEncoderConfig.ffn_width = 8
SemanticEncoderConfig.conv_widths = (4, 4, 4, 4, 4, 4, 4)
SemanticEncoderConfig.conv_kernels = (10, 3, 3, 3, 3, 2, 4)
SemanticEncoderConfig.conv_strides = (5, 2, 2, 2, 2, 2, 4)
SemanticEncoderConfig.positional_kernel = 4
SemanticEncoderConfig.positional_groups = 2
TrainCodecConfig.codec = @CodecConfig()
TrainCodecConfig.optimizer = @CodecOptimizerConfig()
TrainCodecConfig.steps = 24
TrainCodecConfig.batch_clips = 2
TrainCodecConfig.crop_frames = 6
TrainCodecConfig.log_every = 1
TrainCodecConfig.save_every = 3
TrainCodecConfig.validate_every = 10
CodecOptimizerConfig.semantic_steps = 5
TrainCodecConfig.adversary = @AdversaryConfig()
TrainCodecConfig.word_parts = 3
TrainCodecConfig.replayed = 0.5
AdversaryConfig.begin = 14
AdversaryConfig.ramp_steps = 4
AdversaryConfig.discriminators = @DiscriminatorConfig()
DiscriminatorConfig.periods = (2, 3)
DiscriminatorConfig.period_width = 1
DiscriminatorConfig.windows = (64,)
DiscriminatorConfig.band_width = 2
"""


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", clips=24, annotated=True)
    training = "train_codec", "TrainCodecConfig"
    # killed once the adversary has begun
    whole, killed = whole_and_killed(*training, TINY_RUN, corpus, tmp_path, "codec.safetensors", 18)

    assert (killed / "codec.safetensors").read_bytes() == (whole / "codec.safetensors").read_bytes()
    assert metrics(killed) == metrics(whole)
    steps = metrics(whole, "train")
    assert len(steps) == 24 and ["mel" in line for line in steps] == [False] * 5 + [True] * 19
    assert ["adversarial" in line for line in steps] == [False] * 14 + [True] * 10
    heard = [line["mel"] + line["spectral"] for line in steps[5:]]
    # From step 14 on the adversary has its share of the gradient.
    assert np.mean(heard[-4:]) < np.mean(heard[:4]), heard
    report = json.loads((whole / "codec_report.json").read_text())
    assert report["fingerprint"] == storage.read_header(whole / "codec.safetensors")["fingerprint"]
    assert report["report"]["clips"] == 1 and len(report["report"]["used"]) == 2

    refused = [*job(*training, tmp_path / "tiny.gin", corpus, whole), "--gin.CodecConfig.decoder_width=32"]
    failure = subprocess.run(refused, capture_output=True, text=True)
    assert failure.returncode and "belongs to a run with other settings (codec:" in failure.stderr
