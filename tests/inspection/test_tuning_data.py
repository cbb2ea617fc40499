"""A user's JSONL with an example of each contradiction, through the jobs: corpus, cache, `inspect_data --validate`."""

import dataclasses

import numpy as np
import pytest
import soundfile
from places import REPOSITORY
from synthetic_cache import example, write_mixture_of
from task_helpers import cache_mixture, config
from user_corpus_helpers import tone, write_jsonl

from bagpiper_jax.captions import AudioAnnotation, SoundEvent, describe
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.inspection.tuning_data import judge_tuning_data
from bagpiper_jax.jobs import build_corpus, inspect_data
from bagpiper_jax.text import ByteTokenizer

SCENE = AudioAnnotation(
    0.5, sounds=(SoundEvent("bell", 0, 0.1), SoundEvent("rain", 0.2, 0.3), SoundEvent("siren", 0.4, 0.5)),
    absent=("music",),
)  # fmt: skip
CAPTION = describe(SCENE)


def reply(answer: str, caption: str = CAPTION) -> str:
    return f"Caption of the audio: {caption}\n\n<think>\nThe caption says it.\n</think>\n\n{answer}"


def record(name: str, question: str, said: str, hears: bool = True) -> dict:
    audio = [["user", "audio", "good.wav"]] * hears
    dialogue = [*audio, ["user", "text", question], ["assistant", "text", said]]
    return {"id": name, "split": "train", "dialogue": dialogue}


SOUND = [
    record("sound-0", "How many events are heard?", reply("Three.")),
    record("sound-1", "Is there any music?", reply("No.")),
    record("free-0", "What mood is it?", reply("Gloomy.")),
]
FAULTY = [
    record("music", "Is there any music?", reply("Yes.")),
    record("count", "How many events are heard?", reply("Two.")),
    record("last", "What is heard last?", reply("Last comes bell.")),
    record("empty", "How many events are heard?", reply("Three.", caption="")),
    record("deaf", "How many events are heard?", reply("Three."), hears=False),
    {
        "id": "annotated", "split": "train", "audio": "good.wav", "caption": CAPTION,
        "annotation": dataclasses.replace(SCENE, sounds=SCENE.sounds[:2]).to_json(),
    },
]  # fmt: skip


def validated(folder, records: list[dict]) -> int:
    """The exit code of `inspect_data --validate` over a mixture of these records, which keeps to every limit."""
    source = write_jsonl(folder, records)
    soundfile.write(source.parent / "good.wav", tone(), 16_000)
    settings = {"source": source, "directory": folder / "user", "workers": 1}
    build_corpus.main(
        [f"--gin_file={REPOSITORY}/gin/corpora/user.gin"]
        + [f"--gin.UserCorpusConfig.{name}={value}" for name, value in settings.items()]
    )
    rates = {"user_sft_generation": 0.0}
    lock = cache_mixture(config(folder, mixtures=("user_sft",), rates=rates, splits=("train",)))
    return inspect_data.main([
        f"--lock={lock}", "--validate", "--steps=2", f"--data_root={folder}",
        "--gin.InspectConfig.shape=@BatchShape()", "--gin.BatchShape.rows=1", "--gin.BatchShape.slots=1024",
        "--gin.BatchShape.chunks=8", "--gin.InspectConfig.limits=@MixtureLimits()",
        "--gin.MixtureLimits.min_packing=0.0",
    ])  # fmt: skip


def test_each_fault_of_a_user_s_dialogues_is_named_and_counted(tmp_path, capsys):
    assert validated(tmp_path, SOUND + FAULTY) == 4
    said = capsys.readouterr().out
    for name, reason, part in (
        ("music", "contradicts_caption", "is answered 'Yes.'; by the caption it is 'No.'"),
        ("count", "contradicts_caption", "is answered 'Two.'; by the caption it is 'Three.'"),
        ("last", "contradicts_caption", "by the caption it is 'Last comes siren.'"),
        ("empty", "empty_caption", "nothing stands behind"),
        ("deaf", "question_without_audio", "no audio is there to hear"),
    ):
        (line,) = [each for each in said.splitlines() if f"({name})" in each and f"  {reason}: " in each]
        assert "user_sft_understanding record " in line and part in line and "build_corpus" in line
    assert f"caption_contradicts_annotation: {tmp_path / 'user'} clip annotated: the caption lists" in said
    (table,) = [
        each for each in said.splitlines() if each.startswith("dialogues of user_sft_understanding: ")
    ]
    # The annotated clip is one dialogue with five variants: an answer each.
    assert "9 read, 12 judged, 1 not judged" in table
    assert " 1 empty_caption" in table and " 1 question_without_audio" in table
    assert (
        f"annotated captions of {tmp_path / 'user'}: 1 read, 1 judged: 1 caption_contradicts_annotation"
        in said
    )


def test_sound_dialogues_are_valid_and_free_questions_are_counted(tmp_path, capsys):
    assert validated(tmp_path, SOUND) == 0
    assert (
        "3 read, 2 judged, 1 not judged" in (said := capsys.readouterr().out) and "no contradiction" in said
    )


@pytest.mark.parametrize("most, read", [(0, 30), (7, 7), (50, 30)])
def test_so_many_are_read_and_the_first_of_many_faults_are_named(tmp_path, most, read):
    heard = ("user", "audio", np.zeros(1600, np.float32))
    asked = [heard, ("user", "text", "Is there any music?"), ("assistant", "text", reply("Yes."))]
    write_mixture_of(tmp_path, [example(asked, f"c{i}") for i in range(30)])
    caches = {"task": TaskCache(tmp_path / "task/train")}
    (found,) = judge_tuning_data(caches, ByteTokenizer(), str(tmp_path), most)
    assert (found.read, found.total, found.judged, len(found.faults)) == (read, 30, read, read)
    named = [violation.place for violation in found.violations()]
    assert named[:2] == [
        "task record 0 (c0)",
        f"task record {1 if read == 30 else 5} (c{1 if read == 30 else 5})",
    ]
    assert len(named) == min(read, 21) and (read < 21 or named[-1] == "task")


def test_pre_training_has_no_dialogue_to_judge(tmp_path):
    heard = ("user", "audio", np.zeros(1600, np.float32))
    write_mixture_of(tmp_path, [example([heard, ("assistant", "text", CAPTION)], "c0")])
    assert (
        judge_tuning_data({"task": TaskCache(tmp_path / "task/train")}, ByteTokenizer(), "nowhere", 0) == ()
    )
