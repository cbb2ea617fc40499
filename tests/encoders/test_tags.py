"""Tags of frames: what an annotation says of every moment."""

import numpy as np

from bagpiper_jax.captions import Acoustics, AudioAnnotation, Music, SoundEvent, Speaker, Turn
from bagpiper_jax.encoders.tags import Tags
from bagpiper_jax.manifest import Clip

ANNOTATION = AudioAnnotation(
    duration=4.0,
    speakers=(Speaker("A", gender="female", voice=("low-pitched",)),),
    turns=(Turn("A", 0.0, 1.0, "seven"), Turn("A", 3.0, 4.0, "two words")),
    sounds=(SoundEvent("bell", 0.5, 1.5, level="loud"),),
    music=(Music(2.0, 3.0, key="C major", tempo=180.0, instruments=("piano",)),),
    acoustics=Acoustics(noise="a faint hiss"),
)


def clip(annotation=ANNOTATION):
    return Clip(id="a", split="train", domain="mixed", audio="a.wav", annotation=annotation.to_json())


def at(tags, second):
    held = tags.of(clip(), np.array([second], np.float32))[0]
    return {name for name, holds in zip(tags.names, held, strict=True) if holds}


def test_a_frame_has_the_tags_of_everything_that_sounds_then():
    tags = Tags([clip()] * 20)
    speech = {"speech", "language: en", "voice: low-pitched", "voice: female", "recording: a faint hiss"}
    assert at(tags, 0.25) == speech | {"word: seven"}
    assert at(tags, 0.75) == speech | {"word: seven", "bell", "level: loud"}
    assert at(tags, 2.5) == {"music", "piano", "key: C major", "tempo: fast", "recording: a faint hiss"}
    assert at(tags, 3.5) == speech  # a sentence is no word
    assert at(tags, 1.75) == {"recording: a faint hiss"}


def test_a_single_word_has_parts():
    tags = Tags([clip()] * 20, word_parts=4)
    assert len(tags) == len(Tags([clip()] * 20)) + 4
    found = [{name for name in at(tags, second) if "word" in name} for second in (0.0, 0.3, 0.74, 0.76, 3.5)]
    parts = [{"word: seven", f"part of word: seven, {part} of 4"} for part in (1, 2, 3, 4)]
    assert found == [*parts, set()]
    assert {name for name in tags.names if tags.names.index(name) in tags.groups()["part of word"]} == {
        f"part of word: seven, {part} of 4" for part in (1, 2, 3, 4)
    }


def test_rare_tags_and_clips_without_annotation_are_left_out():
    rare = AudioAnnotation(duration=1.0, sounds=(SoundEvent("once heard", 0.0, 0.5),))
    bare = Clip(id="b", split="train", domain="sound", audio="b.wav")
    tags = Tags([clip()] * 20 + [clip(rare)] * 19 + [bare])
    assert "once heard" not in tags.names and "bell" in tags.names
    assert not tags.of(clip(rare), np.array([0.2], np.float32)).any()


def test_groups_hold_every_tag_once():
    tags = Tags([clip()] * 20)
    groups = tags.groups()
    assert sorted(i for members in groups.values() for i in members) == list(range(len(tags)))
    assert [tags.names[i] for i in groups["key"]] == ["key: C major"]
    assert {tags.names[i] for i in groups["kind"]} == {"bell", "music", "piano", "speech"}
