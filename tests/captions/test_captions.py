import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from bagpiper_jax import captions
from bagpiper_jax.captions import (
    Acoustics,
    AnnotationError,
    AudioAnnotation,
    CaptionFilter,
    Music,
    SoundEvent,
    Speaker,
    Turn,
    describe,
    filter_counts,
    lexicon,
    parse_caption,
)
from bagpiper_jax.captions.filters import longest_run, ngram_repetition
from bagpiper_jax.captions.parsing import facts

SCENE = AudioAnnotation(
    duration=6.0,
    turns=(
        Turn("A", 0.5, 1.5, "Mind the step, it's 2.5 cm high!"),
        Turn("B", 4.0, 5.5, "Привет, как дела?", language="ru"),
    ),
    speakers=(
        Speaker("A", gender="male", age="elderly", accent="British", voice=("low-pitched",)),
        Speaker("B", gender="female"),
    ),
    sounds=(SoundEvent("dog bark", 1.6, 2.0, "loud"), SoundEvent("toilet flush", 5.5, 6.0, "soft")),
    music=(Music(2.1, 3.9, "B-flat minor", 96.0, ("violin", "cello"), "folk"),),
    acoustics=Acoustics(room="a small hall", noise="a faint hiss", quality="clear"),
    absent=("applause", "laughter"),
)


def generators(count=40):
    return [None, *(np.random.default_rng(seed) for seed in range(count))]


def test_annotation_survives_json():
    value = json.loads(json.dumps(SCENE.to_json()))
    assert AudioAnnotation.from_json(value) == SCENE
    assert AudioAnnotation.from_json({"duration": 2}) == AudioAnnotation(duration=2.0)
    assert AudioAnnotation(duration=2.0).to_json() == {"duration": 2.0}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"duration": 0}, "duration must be positive"),
        ({"duration": float("nan")}, "annotation.duration must be a finite number, got nan"),
        ({"duration": "6"}, "annotation.duration must be float"),
        ({"duration": True}, "annotation.duration must be float"),
        ({"sound": []}, "no field 'sound'; did you mean 'sounds'"),
        ({"sounds": {}}, "annotation.sounds must be a list"),
        ({"sounds": ["bell"]}, r"annotation.sounds\[0\] must be an object"),
        ({"sounds": [{"label": "bell", "start": 0.0}]}, r"annotation.sounds\[0\] lacks end"),
        ({"sounds": [{"label": "bell", "start": 1.0, "end": 9.0}]}, "does not lie in a clip of 6 s"),
        ({"sounds": [{"label": "bell", "start": 1.0, "end": 1.0}]}, "a sound from 1 to 1 s"),
        ({"sounds": [{"label": " ", "start": 0.0, "end": 1.0}]}, "label is blank"),
        (
            {"sounds": [{"label": "bell", "start": 0.0, "end": 1.0, "level": "huge"}]},
            "level 'huge' of 'bell'",
        ),
        ({"turns": [{"speaker": "Z", "start": 0.0, "end": 1.0, "text": "x"}]}, "speaker 'Z'; known: A, B"),
        ({"speakers": [{"id": "A"}, {"id": "A"}], "turns": []}, "speaker ids repeat: A, A"),
        ({"speakers": [{"id": "A", "gender": 1}]}, r"speakers\[0\].gender must be str or NoneType"),
        ({"acoustics": {"romm": "hall"}}, "did you mean 'room'"),
    ],
)
def test_a_wrong_annotation_says_where_and_why(change, message):
    with pytest.raises(AnnotationError, match=message):
        AudioAnnotation.from_json({**SCENE.to_json(), **change})


def test_a_wrong_annotation_is_no_object():
    with pytest.raises(AnnotationError, match="annotation must be an object"):
        AudioAnnotation.from_json([])


def test_flowing_style_ends_in_a_summary():
    text = describe(SCENE)
    body, summary = text.split("\n\n")
    assert body == (
        "A clear recording in a small hall with a faint hiss. It opens with a low-pitched elderly male voice with "
        'a British accent saying "Mind the step, it\'s 2.5 cm high!". Then comes a loud dog bark. Then comes a '
        "moderate violin and cello melody in B-flat minor, in folk style. Then comes a female voice saying in Russian "
        '"Привет, как дела?". It ends with a soft sound of toilet flush. There is no applause or laughter.'
    )
    assert summary == (
        "In summary, the clip holds five events: speech, then dog bark, then violin and cello, then speech, "
        "then toilet flush."
    )


def test_attribute_style_lists_times_and_transcript():
    assert describe(SCENE, "attributes").splitlines() == [
        "Duration: 6.0 s.",
        "Speaker turns: 0.5-1.5 s A; 4.0-5.5 s B (ru).",
        'Transcript: A "Mind the step, it\'s 2.5 cm high!"; B "Привет, как дела?".',
        "Speakers: A a low-pitched elderly male voice with a British accent; B a female voice.",
        "Sound events: 1.6-2.0 s dog bark, loud; 5.5-6.0 s toilet flush, soft.",
        "Music: 2.1-3.9 s violin and cello, genre folk, key B-flat minor, 96 beats per minute.",
        "Acoustics: room a small hall; noise a faint hiss; quality clear.",
        "Absent: applause; laughter.",
    ]


def test_unknown_style_is_refused():
    with pytest.raises(ValueError, match="style 'poem' is none of flowing, attributes"):
        describe(SCENE, "poem")


def test_wording_varies_and_meaning_does_not():
    texts = {describe(SCENE, rng=rng) for rng in generators()}
    assert len(texts) > 10
    for text in texts:
        assert parse_caption(text) == facts(SCENE)


def test_overlap_is_told():
    scene = AudioAnnotation(4.0, sounds=(SoundEvent("rain", 0.0, 4.0), SoundEvent("bell", 1.0, 2.0)))
    assert "Over it sounds a bell." in describe(scene)
    assert parse_caption(describe(scene)).kinds == ("rain", "bell")


def test_a_background_is_told_apart_from_events():
    scene = AudioAnnotation(
        4.0, sounds=(SoundEvent("rain", 0.0, 4.0, snr=20.0), SoundEvent("bell", 1.0, 2.0)),
        music=(Music(0.0, 4.0, "C major", 100.0, ("piano",), snr=12.0),),
    )  # fmt: skip
    assert describe(scene) == (
        "A recording. Faintly in the background one hears falling rain. Clearly in the background one hears a "
        "moderate piano melody in C major. It opens with a bell.\n\nIn summary, the clip holds one event: bell."
    )
    assert describe(scene, "attributes").splitlines()[1:] == [
        "Sound events: 1.0-2.0 s bell.",
        "Background sounds: 0.0-4.0 s rain, faintly.",
        "Background music: 0.0-4.0 s piano, key C major, 100 beats per minute, clearly.",
    ]


def test_a_clip_without_events():
    text = describe(AudioAnnotation(1.0, absent=("speech", "music")))
    assert text == "A recording. There is no speech or music.\n\nIn summary, no event is heard."
    assert parse_caption(text).kinds == () and parse_caption(text).stated_count == 0


KINDS = st.sampled_from([*lexicon.SOUND_NOUNS, "Toilet flush", "a screaming voice"])
INSTRUMENTS = st.sampled_from([(), ("piano",), ("church organ",), ("flute", "Viola")])
TEXTS = st.sampled_from(["seven", "window", "Dr. Wind: 3.5 bells!", 'a "loud" engine, playing', "no melody?"])


@st.composite
def annotations(draw):
    count, events = draw(st.integers(0, 4)), {"turns": [], "sounds": [], "music": []}
    for place in range(count):
        span = (float(place), place + 0.9)
        match draw(st.integers(0, 2)):
            case 0:
                events["turns"].append(Turn(draw(st.sampled_from("AB")), *span, draw(TEXTS)))
            case 1:
                level = draw(st.sampled_from([None, "loud", "medium", "soft"]))
                events["sounds"].append(SoundEvent(draw(KINDS), *span, level))
            case 2:
                key = draw(st.sampled_from([None, "C major", "F-sharp minor", "B-flat major"]))
                tempo = draw(st.sampled_from([None, 60.0, 100.0, 180.0]))
                genre = draw(st.sampled_from([None, "folk", "Romantic Classical", "dance music"]))
                events["music"].append(Music(*span, key, tempo, draw(INSTRUMENTS), genre))
    speakers = (Speaker("A", voice=("low-pitched",)), Speaker("B", gender="female", age="young"))
    noise = draw(st.sampled_from([None, "a faint hiss", "rain in the background"]))
    acoustics = Acoustics(noise=noise, quality=draw(st.sampled_from([None, "clear"])))
    absent = tuple(draw(st.sets(st.sampled_from(["speech", "music"]))))
    return AudioAnnotation(
        5.0, speakers=speakers, acoustics=acoustics, absent=absent, **map_values(tuple, events)
    )


def map_values(function, items):
    return {key: function(value) for key, value in items.items()}


@hypothesis.given(annotations(), st.integers(0, 2**32))
@hypothesis.settings(max_examples=300, deadline=None)
def test_flowing_captions_read_back_exactly(annotation, seed):
    assert parse_caption(describe(annotation, rng=np.random.default_rng(seed))) == facts(annotation)


@hypothesis.given(annotations())
@hypothesis.settings(max_examples=200, deadline=None)
def test_attribute_captions_read_back_exactly(annotation):
    parsed = parse_caption(describe(annotation, "attributes"))
    assert (
        tuple(dataclasses.replace(event, start=None) for event in parsed.events) == facts(annotation).events
    )
    assert [event.start for event in parsed.events] == [event.start for event in annotation.events()]


@hypothesis.given(
    annotations(), KINDS, st.sampled_from([3.0, 12.0, 30.0]), INSTRUMENTS, st.integers(0, 2**32)
)
@hypothesis.settings(max_examples=150, deadline=None)
def test_backgrounds_overlap_and_rooms_read_back_exactly(annotation, label, snr, instruments, seed):
    longer = tuple(dataclasses.replace(sound, end=sound.end + 0.6) for sound in annotation.sounds)
    under = Music(0.0, 6.0, "F-sharp minor", 100.0, instruments, snr=snr)
    mixed = dataclasses.replace(
        annotation,
        duration=6.0,
        sounds=(SoundEvent(label, 0.0, 6.0, snr=snr), *longer),
        music=(under, *annotation.music),
        acoustics=dataclasses.replace(annotation.acoustics, room="an echoing hall"),
        absent=(),
    )
    read = parse_caption(describe(mixed, rng=np.random.default_rng(seed)))
    assert read == facts(mixed)
    rows = parse_caption(describe(mixed, "attributes"))
    told = {"start": None}
    assert tuple(dataclasses.replace(event, **told) for event in rows.events) == read.events
    assert tuple(dataclasses.replace(event, **told) for event in rows.background) == read.background
    assert (rows.room, rows.noise) == (read.room, read.noise)


@hypothesis.given(st.text(max_size=400))
def test_any_text_can_be_read(text):
    assert parse_caption(text).count == len(parse_caption(text).kinds)


@hypothesis.given(annotations(), st.integers(0, 500), st.integers(0, 500))
def test_any_damaged_caption_can_be_read(annotation, start, length):
    for style in ("flowing", "attributes"):
        text = describe(annotation, style)
        parse_caption(text[start : start + length] + text[start:])


@pytest.mark.parametrize(
    "text, kinds, words",
    [
        ("A dog is barking loudly. A church bell rings. It is quiet.", ("dog bark", "bell"), ()),
        ('It begins with a voice saying "two three', ("speech",), ("two", "three")),
        ('Then comes a bell. Then comes Then comes a low voice says "dog".', ("bell", "speech"), ("dog",)),
        ("In summary, the clip holds two events: bell, then piano.", ("bell", "piano"), ()),
        ("A clear recording with rain behind it. There is no bell or wind.", (), ()),
        ("", (), ()),
    ],
)
def test_imperfect_captions_give_what_they_tell(text, kinds, words):
    parsed = parse_caption(text)
    assert (parsed.kinds, parsed.words) == (kinds, words)


def test_real_captions_pass_the_published_filter_and_can_be_read(demo_clips):
    lines = (demo_clips / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    tokens = CaptionFilter(min_tokens=150)  # words, of which there are fewer than tokens
    assert filter_counts(tokens.reason(record["caption"], 10.0) for record in records) == {
        "kept": len(records)
    }
    spoken = [
        parse_caption(r["caption"]).words for r in records if r["id"] == "understanding_speech_18fd5726"
    ]
    assert "tutankhamun's" in spoken[0]


def good_caption(words=250):
    rng = np.random.default_rng(0)
    return " ".join("".join(rng.choice(list("abcdefghij"), rng.integers(3, 9))) for _ in range(words))


@pytest.mark.parametrize(
    "caption, seconds, reason",
    [
        (good_caption(), 10.0, None),
        (good_caption(), 30.0, None),
        (good_caption(200), 10.0, None),
        (good_caption(800), 10.0, None),
        (good_caption(199), 10.0, "too_few_tokens"),
        (good_caption(801), 10.0, "too_many_tokens"),
        (good_caption(), 30.01, "duration"),
        (good_caption(), 0.0, "duration"),
        ("   \n\t ", 10.0, "blank"),
        ("… !!! —", 10.0, "blank"),
        (good_caption() + " z zzzzz", 10.0, None),
        (good_caption() + " zzzzzz", 10.0, "repeated_characters"),
        (good_caption() + " so so so", 10.0, None),
        (good_caption() + " So so so so", 10.0, "repeated_words"),
        (good_caption(150) + " " + good_caption(150), 10.0, "repeated_phrases"),
        (" ".join(good_caption(70).split() * 4)[:1600], 10.0, "repeated_phrases"),
        (good_caption().upper(), 10.0, "uppercase"),
        ("qwertyuiopasdfgh" + " ".join(w * 4 for w in good_caption().split()), 10.0, "word_length"),
    ],
)
def test_published_thresholds(caption, seconds, reason):
    assert CaptionFilter().reason(caption, seconds) == reason


def test_few_unique_words():
    rng = np.random.default_rng(0)
    words = rng.choice([f"word{i}" for i in range(50)], 240)
    assert ngram_repetition(list(words)) < 0.1 and longest_run(list(words)) <= 3
    assert CaptionFilter().reason(" ".join(words), 10.0) == "few_unique_words"


def test_the_callers_tokenizer_counts():
    assert CaptionFilter().reason("A bell rings.", 1.0, count_tokens=lambda text: 300) is None


def test_rejections_are_counted():
    filter = CaptionFilter(min_tokens=2)
    texts = ["a bell rings", " ", "", "dog", "it rains now"]
    counts = filter_counts(filter.reason(text, 1.0) for text in texts)
    assert counts == {"kept": 2, "blank": 2, "too_few_tokens": 1}


def test_the_room_exports_what_it_says():
    assert all(hasattr(captions, name) for name in captions.__all__)


def test_what_a_speaker_says_is_no_fact_of_the_caption():
    text = (
        'A recording. It opens with a calm woman voice saying "There is no rain. In summary, two events.". '
        "It ends with the sound of wind. There is no music or applause.\n\nIn summary, two events are heard: "
        "speech, then wind."
    )
    parsed = parse_caption(text)
    assert parsed.absent == ("music", "applause")
    assert parsed.kinds == ("speech", "wind")
    assert parsed.words == ("there", "is", "no", "rain", "in", "summary", "two", "events")
    assert parsed.stated_count == 2
    said_only = parse_caption(
        'A recording. A man voice says "there is no bell".\n\nIn summary, one event is heard: speech.'
    )
    assert said_only.absent == () and said_only.stated_count == 1


def test_a_quote_that_never_closes_hides_nothing_after_it():
    parsed = parse_caption(
        'A voice says "hello. There is no wind.\n\nIn summary, one event is heard: speech.'
    )
    assert parsed.absent == ("wind",) and parsed.stated_count == 1
