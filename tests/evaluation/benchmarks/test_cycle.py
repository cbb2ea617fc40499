"""Captions to sound and back: what comes back is counted, whoever captions."""

import dataclasses
import functools

import pytest
from interop_helpers import MODEL, importing, native_tensors, save_native
from known_evaluators import Known, judged, write_sound

from bagpiper_jax import audio
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.evaluators import captioner, open_evaluator
from bagpiper_jax.evaluation.metrics import caption_agreement
from bagpiper_jax.generation.replies import load_generator
from bagpiper_jax.generation.segments import LoopConfig

SCENE = (
    'The audio begins with a man saying "open the door now". Then the sound of a bell is heard. In summary, there are '
    "2 events."
)
FEWER = 'A man says "open the gate".'
WORDS = {"a": SCENE, "b": "Something hums."}


class Captions:
    """Says of every file what is written down."""

    name, version = "captioner_known", "0"

    def __init__(self, said):
        self._said = said

    def caption(self, path):
        return self._said[path.stem]


def test_facts_and_words_that_come_back():
    assert caption_agreement.facts(SCENE, SCENE) == {"events": 1.0, "spoken_words": 1.0}
    assert caption_agreement.facts(SCENE, FEWER)["spoken_words"] == pytest.approx(2 / 4)
    assert caption_agreement.facts("It hums.", SCENE) == {}
    assert caption_agreement.similarity("A dog barks.", "barks a DOG") == 1.0
    assert caption_agreement.similarity("A dog barks.", "") == 0.0


def test_every_caption_is_judged_by_what_is_heard_of_it(tmp_path):
    rows = "".join(
        '{},"{}"\n'.format(id, text.replace('"', '""')) for id, text in {**WORDS, "c": "Rain."}.items()
    )
    (tmp_path / "captions.csv").write_text(f"id,caption\n{rows}", encoding="utf-8")
    known = Known(captioner=Captions({"a": SCENE, "b": "Nothing like it"}))
    benchmark = registry.open_benchmark("cycle", tmp_path, known)
    replies = {id: Reply(audio=write_sound(tmp_path / "g" / f"{id}.wav", 0.1)) for id in WORDS}
    found = judged(benchmark, replies)
    assert found[0].verdicts["text_captioner_known"].value == 1.0
    scores = {score.name: score for score in benchmark.official(found)}
    assert (scores["spoken_words_captioner_known"].value, scores["spoken_words_captioner_known"].scored) == (
        100.0,
        1,
    )
    text = scores["text_captioner_known"]
    assert 50 < text.value < 80 and (text.scored, text.expected, text.unit) == (2, 3, "%")
    assert benchmark.failed == 0.0 and [item.asked.wants for item in benchmark.items()] == ["audio"] * 3
    with pytest.raises(MissingEvaluatorError, match="captioner is not here"):
        registry.open_benchmark("cycle", tmp_path, Known()).verdicts(found[0].item, replies["a"])


def test_a_run_of_ours_captions(tmp_path, monkeypatch):
    model = dataclasses.replace(MODEL, tower=dataclasses.replace(MODEL.tower, mel_bins=128))
    run = importing(
        tmp_path / "Run 1", espnet=save_native(tmp_path / "base.pt", native_tensors(model)), model=model
    )
    short = dataclasses.replace(LoopConfig().text, max_steps=6, min_steps=1)
    monkeypatch.setattr(captioner, "LoopConfig", functools.partial(LoopConfig, text=short))
    found = open_evaluator("captioner", str(run))
    assert found.name == "captioner_run_1" and len(found.version) == 64
    sound = write_sound(tmp_path / "a.wav")
    loop = LoopConfig(text=short, modalities=("text",), max_segments=1)
    (reply,) = load_generator(run).reply([[Message("user", "audio", audio.read(sound))]], loop, 1)
    assert found.caption(sound) == reply.text
    with pytest.raises(MissingEvaluatorError, match="name the path of a run"):
        open_evaluator("captioner")
