"""The voices of soundscapes, heard by others: Whisper's transcripts, and librosa's pitch."""

import librosa
import numpy as np
import pytest

from bagpiper_jax import audio
from bagpiper_jax.corpora.soundscapes import sentences, voices
from bagpiper_jax.corpora.user_audio import write_flac
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators.opening import open_evaluator
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


@pytest.mark.parametrize("voice", voices.VOICES)
def test_whisper_hears_the_sentences_of_every_voice(spoken, voice, tmp_path):
    from bagpiper_jax.evaluation.metrics.words.spoken_text import spoken_errors

    try:
        whisper = open_evaluator("whisper")
    except MissingEvaluatorError as error:
        pytest.skip(str(error))
    errors = []
    for number, (text, wave) in enumerate(spoken[voice]):
        path = tmp_path / f"{number}.flac"
        write_flac(path, (0.1 * wave / np.std(wave)).clip(-1, 1).astype(np.float32))
        errors.append(spoken_errors(text, whisper.transcribe(path, "en"), "en"))
    assert sum(each.words for each in errors) > 40
    assert total_rate(errors) <= 0.1
