import numpy as np
import pytest

from bagpiper_jax.captions import AudioAnnotation, Music, SoundEvent, Speaker, Turn, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import questions as q
from bagpiper_jax.manifest import Clip

SCENE = AudioAnnotation(
    duration=3.0,
    turns=(Turn("A", 0.1, 0.6, "seven"),),
    speakers=(Speaker("A", voice=("low-pitched",)),),
    sounds=(SoundEvent("bell", 2.0, 2.8, "loud"),),
    music=(Music(0.8, 1.7, "E minor", 180.0, ("piano",)),),
)
CLIP = Clip(id="c1", split="train", domain="mixed", annotation=SCENE.to_json())


def answers(annotation):
    return {asked.topic: asked.answer for asked in q.questions(annotation)}


def test_answers_follow_the_annotation():
    assert answers(SCENE) == {
        "count": "Three.",
        "first": "First comes speech.",
        "last": "Last comes bell.",
        "order": "Speech, then piano, then bell.",
        "words": '"seven".',
        "instrument": "piano.",
        "key": "E minor.",
        "tempo": "It is fast.",
        "speech": "Yes.",
        "music": "Yes.",
    }


def test_silence_about_a_thing_is_not_its_absence():
    bell = AudioAnnotation(1.0, sounds=(SoundEvent("bell", 0.0, 1.0),))
    assert "music" not in answers(bell) and "speech" not in answers(bell)
    told = AudioAnnotation(1.0, sounds=bell.sounds, absent=("music",))
    assert answers(told)["music"] == "No." and "speech" not in answers(told)


def test_understanding_dialogue_has_the_published_shape():
    asked = set()
    for seed in range(60):
        audio, question, answer = q.understanding_dialogue(CLIP, np.random.default_rng(seed))
        assert audio == ["user", "audio", "c1"]
        assert question[:2] == ["user", "text"] and answer[:2] == ["assistant", "text"]
        caption, thoughts = answer[2].split("\n\n<think>\n")
        thoughts, final = thoughts.split("\n</think>\n\n")
        assert (
            caption.startswith("Caption of the audio: ")
            and parse_caption(caption).kinds == facts(SCENE).kinds
        )
        heads = [line[2:].split(":")[0] for line in thoughts.split("\n")]
        assert heads == list(q.UNDERSTANDING_HEADS)
        assert final in answers(SCENE).values()
        asked.add(question[2])
    assert len(asked) == len(q.questions(SCENE))


def test_every_question_has_its_dialogue_with_audio_and_without():
    heard = q.understanding_dialogues(CLIP, np.random.default_rng(0))
    read = q.reading_dialogues(CLIP, np.random.default_rng(0))
    assert [d[1][2] for d in heard] == [d[0][2] for d in read] == [a.question for a in q.questions(SCENE)]
    for (_, _, whole), (_, caption, reasoned) in zip(heard, read, strict=True):
        assert caption[:2] == ["user", "text"] and reasoned[0] == "assistant"
        # The caption and what follows it are the reply to the audio, word for word.
        assert whole[2] == f"{caption[2]}\n\n{reasoned[2]}"


@pytest.mark.parametrize("style", q.REQUEST_STYLES)
def test_a_plan_is_a_generation_dialogue_without_its_audio(style):
    planned = q.planning_dialogue(CLIP, np.random.default_rng(3), style)
    assert planned == q.generation_dialogue(CLIP, np.random.default_rng(3), style=style)[:-1]


@pytest.mark.parametrize("style", q.REQUEST_STYLES)
def test_generation_dialogue_has_the_published_shape(style):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        system, request, answer, audio = q.generation_dialogue(CLIP, rng, "Make audio.", style)
        assert system == ["system", "text", "Make audio."] and audio == ["assistant", "audio", "c1"]
        assert request[:2] == ["user", "text"] and answer[:2] == ["assistant", "text"]
        assert '"seven"' in request[2], "transcripts are preserved exactly"
        assert ("E minor" in request[2] and "low-pitched" in request[2]) == (style == "realistic")
        assert 15 <= len(request[2].replace('"seven"', "").split()) <= 80
        thoughts, caption = answer[2].split("\n</think>\n\n")
        lines = thoughts.split("\n")
        assert lines[0] == "<think>"
        assert [line.split(":")[0] for line in lines[1:]] == [
            f"{i}. {head}" for i, head in enumerate(q.GENERATION_HEADS, 1)
        ]
        assert parse_caption(caption) == facts(SCENE)


def test_no_system_prompt_no_system_message():
    roles = [message[0] for message in q.generation_dialogue(CLIP, np.random.default_rng(0))]
    assert roles == ["user", "assistant", "assistant"]


def test_the_clips_own_caption_is_kept():
    clip = Clip(
        id="c1", split="train", domain="mixed", annotation=SCENE.to_json(), caption="A bell, perhaps."
    )
    assert (
        "Caption of the audio: A bell, perhaps.\n"
        in q.understanding_dialogue(clip, np.random.default_rng(0))[2][2]
    )
    assert q.generation_dialogue(clip, np.random.default_rng(0))[1][2].endswith("\n\nA bell, perhaps.")


def test_a_clip_that_tells_nothing_is_refused_by_name():
    bare = Clip(id="c2", split="train", domain="sound")
    empty = Clip(id="c3", split="train", domain="sound", annotation={"duration": 1.0})
    for make in (q.understanding_dialogue, q.generation_dialogue):
        with pytest.raises(q.QuestionError, match="clip c2 has no annotation"):
            make(bare, np.random.default_rng(0))
        with pytest.raises(q.QuestionError, match="clip c3"):
            make(empty, np.random.default_rng(0))
    with pytest.raises(ValueError, match="style 'rude'"):
        q.generation_dialogue(CLIP, np.random.default_rng(0), style="rude")
