"""The voices of soundscapes, heard by others: Whisper's transcripts, and librosa's pitch."""

import itertools

import librosa
import numpy as np
import pytest

from bagpiper_jax import audio
from bagpiper_jax.corpora.soundscapes import sentences, voices
from bagpiper_jax.corpora.user_audio import write_flac
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators.opening import open_evaluator
from bagpiper_jax.evaluation.metrics.words.spoken_text import spoken_errors
from bagpiper_jax.evaluation.metrics.words.word_errors import total_rate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spoken():
    """Voice → eight sentences, with their text."""
    pytest.importorskip(
        "hibari", reason="hibari-tts is not installed: pip install 'bagpiper_jax[quickstart]'"
    )
    rng = np.random.default_rng(0)
    said = {voice: [sentences.draw(rng, held_out=False).text for _ in range(8)] for voice in voices.VOICES}
    return {voice: [(text, voices.say(rng, text, voice)) for text in texts] for voice, texts in said.items()}


def pitch(wave):
    hertz, _, likely = librosa.pyin(wave, fmin=60, fmax=500, sr=audio.SAMPLE_RATE)
    return np.median(hertz[likely > 0.5])


def test_voices_are_as_high_as_they_are_called(spoken):
    low, medium, high = (np.median([pitch(wave) for _, wave in said[:3]]) for said in spoken.values())
    assert list(spoken) == ["low-pitched", "medium-pitched", "high-pitched"]
    assert low < 0.7 * medium and high > 1.25 * medium


def test_whisper_hears_the_sentences(spoken, tmp_path):
    """With still edges, as in scenes; tiny.en mishears a good tenth of such short sentences out of any context."""
    try:
        whisper = open_evaluator("whisper")
    except MissingEvaluatorError as error:
        pytest.skip(str(error))
    errors, rng = [], np.random.default_rng(0)
    for number, (text, wave) in enumerate(itertools.chain(*spoken.values())):
        path = tmp_path / f"{number}.flac"
        samples = np.pad(0.07 * wave / np.std(wave), 6400)
        samples += 1e-4 * rng.standard_normal(len(samples))
        write_flac(path, samples.clip(-1, 1).astype(np.float32))
        errors.append(spoken_errors(text, whisper.transcribe(path, "en"), "en"))
    assert sum(each.words for each in errors) > 150
    assert total_rate(errors) <= 0.2
