"""Captioning and tagging as jobs: what comes out, what is counted, budgets, shards, prompts."""

import base64
import io
import json

import numpy as np
import pytest
import simulated_answers
import soundfile
from curation_helpers import SAID, corpus, result, settings
from misbehaving_endpoint import USAGE, Response, endpoint, text_of
from simulated_answers import TAGS

from bagpiper_jax import audio
from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.curation import tagging
from bagpiper_jax.curation.captioning import CaptionConfig, caption
from bagpiper_jax.curation.derived import Derivation, read_source_clips
from bagpiper_jax.curation.endpoint.failures import EndpointError
from bagpiper_jax.curation.tagging import TagConfig, tag
from bagpiper_jax.errors import Explained
from bagpiper_jax.jobs import simulate_dialogues, tag_captions
from bagpiper_jax.journal import Journal, JournalError
from bagpiper_jax.manifest import read_manifest


def test_captions_replace_and_are_filtered(tmp_path):
    corpus(tmp_path)
    (tmp_path / "in/audio/2.flac").write_bytes(b"fLaC no more")
    (tmp_path / "in/audio/3.flac").unlink()
    long = simulated_answers.answer([{"content": []}])

    def by_clip(messages):
        data = messages[0]["content"][0]["input_audio"]
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data["data"])), dtype="float32")
        assert (data["format"], rate, samples.shape) == ("wav", 16_000, (3200,))
        first = np.random.default_rng(0).uniform(-0.5, 0.5, 3200)
        return long if np.abs(samples - first).max() < 1e-3 else "Too short."

    with endpoint(by_clip) as server:
        config = CaptionConfig(**settings(tmp_path, server), caption_filter=CaptionFilter(min_tokens=8))
        caption(config)
        assert len(server.asked) == 2 and server.asked[0]["model"] == "m"
        assert server.asked[0]["messages"][0]["content"][1]["text"].startswith("Listen to the recording")
    clips, dropped, _ = result(tmp_path)
    assert clips["c0"].caption == long and clips["t"].text == "A document."
    assert dropped == {"c1": "caption_too_few_tokens", "c2": "audio_corrupt", "c3": "audio_missing"}


def test_a_captioner_without_a_prompt_gets_audio_alone_and_is_cut_off(tmp_path):
    corpus(tmp_path, 1)
    with endpoint(simulated_answers.answer, lambda *_: "length") as server:
        caption(CaptionConfig(**settings(tmp_path, server), instruct=False))
        assert [part["type"] for part in server.asked[0]["messages"][0]["content"]] == ["input_audio"]
    assert result(tmp_path)[1] == {"c0": "cut_caption"}


@pytest.mark.parametrize(
    "answered, reason",
    [
        (json.dumps(TAGS), None),
        (f"Sure! {json.dumps(TAGS)} Anything else?", None),
        ("I cannot tell.", "unreadable_tags"),
        (json.dumps(TAGS)[:-1], "unreadable_tags"),
        (json.dumps({**TAGS, "audio_type": "noise"}), "unreadable_tags"),
        (json.dumps({**TAGS, "is_pure_english": "yes"}), "unreadable_tags"),
        (json.dumps({**TAGS, "complexity": 6}), "unreadable_tags"),
        (json.dumps({**TAGS, "complexity": True}), "unreadable_tags"),
        (json.dumps([TAGS]), None),
        ("[" * 100_000, "unreadable_tags"),
        ('{"a":' * 100_000, "unreadable_tags"),
        ("{} \x07 bell", "unprintable_tags"),
    ],
)
def test_tags_become_metrics_or_a_counted_drop(tmp_path, answered, reason):
    corpus(tmp_path, 1, metrics={"clap_similarity": 0.5})
    with endpoint(lambda _: answered) as server:
        tag(TagConfig(**settings(tmp_path, server)))
    clips, dropped, _ = result(tmp_path)
    assert dropped == ({"c0": reason} if reason else {})
    assert reason or clips["c0"].metrics == {"clap_similarity": 0.5, **TAGS}


def test_a_spent_budget_is_counted_and_raised_later(tmp_path):
    corpus(tmp_path, 4)
    with endpoint(simulated_answers.answer) as server:
        tag(TagConfig(**settings(tmp_path, server, request_budget=3)))
        assert result(tmp_path)[2]["rejects"] == {"budget_spent": 1} and len(server.asked) == 3
        with pytest.raises(CorpusError, match="budget_spent 1"):
            tag(TagConfig(**{**settings(tmp_path, server, request_budget=3), "max_reject_frac": 0.1}))
        tag(TagConfig(**settings(tmp_path, server, request_budget=4)))
        assert result(tmp_path)[2]["rejects"] == {} and len(server.asked) == 4
        assert (
            json.loads((tmp_path / "out/corpus.json").read_text())["settings"]["endpoint"]["request_budget"]
            == 4
        )
    assert USAGE["total_tokens"] == 42 and all(text_of(b["messages"]) for b in server.asked)


def test_shards_share_the_clips_and_repeated_ids_are_asked_once(tmp_path):
    corpus(tmp_path, 5)
    found = []
    with endpoint(simulated_answers.answer) as server:
        for shard in range(2):
            here = {**settings(tmp_path, server), "output": str(tmp_path / f"out{shard}")}
            tag(TagConfig(**here, shard=shard, num_shards=2))
            found += [clip.id for clip in read_manifest(tmp_path / f"out{shard}")]
        assert sorted(found) == ["c0", "c1", "c2", "c3", "c4", "t"]
        here = settings(tmp_path, server)
        tag(TagConfig(**{**here, "corpora": here["corpora"] * 2}))
        assert result(tmp_path)[2]["rejects"] == {"repeated_id": 6} and len(server.asked) == 10


def test_own_prompts_stand_in_for_ours(tmp_path):
    corpus(tmp_path, 1)
    (tmp_path / "prompts").mkdir()
    with endpoint(simulated_answers.answer) as server:
        here = {**settings(tmp_path, server), "prompts": str(tmp_path / "prompts")}
        with pytest.raises(CorpusError, match="tag.txt cannot be read"):
            tag(TagConfig(**here))
        (tmp_path / "prompts/tag.txt").write_bytes(b"\xff\xfeBelow is the description: $caption")
        with pytest.raises(CorpusError, match="tag.txt cannot be read"):
            tag(TagConfig(**here))
        (tmp_path / "prompts/tag.txt").write_text("Below is the description: $captoin")
        with pytest.raises(CorpusError, match=r"may use \$caption"):
            tag(TagConfig(**here))
        (tmp_path / "prompts/tag.txt").write_text("Below is the description: $caption, for 5 $$.")
        tag(TagConfig(**here))
        assert (
            server.asked[0]["messages"][0]["content"]
            == f"Below is the description: {SAID} Number 0., for 5 $."
        )


def test_jobs_explain_their_faults(tmp_path):
    corpus(tmp_path, 40)
    with endpoint(manner=lambda *_: "server_error") as server:
        flags = [f"--gin.TagConfig.corpora=('{tmp_path}/in',)", f"--gin.TagConfig.output={tmp_path}/out"]
        asked = [
            f"--gin.Endpoint.url={server.url}",
            "--gin.TagConfig.endpoint=@Endpoint()",
            "--gin.Endpoint.attempts=1",
        ]
        with pytest.raises(Explained, match=".* is down"):
            tag_captions.main([*flags, *asked, "--gin.Endpoint.model=m"])
    assert not (tmp_path / "out/manifest.jsonl").exists()
    with pytest.raises(Explained, match=".*nowhere"):
        flags = ["corpora=('nowhere',)", f"output={tmp_path}/x", "endpoint=@Endpoint()"]
        simulate_dialogues.main([*(f"--gin.SimulateConfig.{f}" for f in flags), "--gin.Endpoint.model=m"])


THOUGHT = "Okay, the user wants something. {} Let me think."


@pytest.mark.parametrize(
    "reply, reason",
    [
        ("<think>\n%s\n</think>\n\nRain falls.", None),
        ("%s</think>Rain falls.<|im_end|>", None),
        ("[THINK]%s[/THINK]Rain falls.</s>", None),
        ("<think>%s Rain falls.", "markup_caption"),
        ("Rain falls. <think>%s</think> It stops.", "markup_caption"),
        ("Rain falls.<|im_end|>\n<|im_start|>user\n%s", "markup_caption"),
        ("<codec_layer0_code17> %s", "markup_caption"),
        ("<think>%s</think>", "empty_caption"),
    ],
)
def test_captions_hold_neither_reasoning_nor_markup(tmp_path, reply, reason):
    corpus(tmp_path, 1)
    with endpoint(lambda _: reply.replace("%s", THOUGHT)) as server:
        caption(CaptionConfig(**settings(tmp_path, server), caption_filter=None))
    clips, dropped, _ = result(tmp_path)
    assert dropped == ({"c0": reason} if reason else {})
    assert reason or clips["c0"].caption == "Rain falls."


@pytest.mark.parametrize(
    "reply, reason",
    [
        ('<think>{"audio_type": 5}</think>%s<|im_end|>', None),
        ('I could say {} or {"a": 1}.</think>```json\n%s\n```', None),
        ("<think>I could say %s", "markup_tags"),
        ("<think>%s</think>", "empty_tags"),
        ("<answer>%s</answer>", "markup_tags"),
    ],
)
def test_tags_are_read_behind_the_reasoning(tmp_path, reply, reason):
    corpus(tmp_path, 1)
    with endpoint(lambda _: reply.replace("%s", json.dumps(TAGS))) as server:
        tag(TagConfig(**settings(tmp_path, server)))
    clips, dropped, _ = result(tmp_path)
    assert dropped == ({"c0": reason} if reason else {}) and (reason or clips["c0"].metrics == TAGS)


def test_an_error_that_nobody_foresaw_costs_one_record(tmp_path, monkeypatch, caplog):
    """Whatever reading a clip's audio raises is counted under its type, and the other clips go on."""
    corpus(tmp_path, 4)
    errors = {
        "1.flac": ZeroDivisionError("no frames"),
        "2.flac": MemoryError(),
        "3.flac": RuntimeError("a codec"),
    }
    read = audio.read

    def failing(path, *args, **kwargs):
        if path.name in errors:
            raise errors[path.name]
        return read(path, *args, **kwargs)

    monkeypatch.setattr(audio, "read", failing)
    caplog.set_level("DEBUG", "bagpiper_jax")
    with endpoint(simulated_answers.answer) as server:
        caption(CaptionConfig(**settings(tmp_path, server), caption_filter=None))
    clips, dropped, _ = result(tmp_path)
    assert sorted(clips) == ["c0", "t"]
    assert dropped == {"c1": "error_ZeroDivisionError", "c2": "error_MemoryError", "c3": "error_RuntimeError"}
    assert caplog.text.count("Traceback") == 3 and "no frames" in caplog.text


def test_an_interrupt_ends_the_job(tmp_path, monkeypatch):
    corpus(tmp_path, 2)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tagging, "text_question", interrupted)
    with endpoint(simulated_answers.answer) as server, pytest.raises(KeyboardInterrupt):
        tag(TagConfig(**settings(tmp_path, server)))


def test_a_full_disk_ends_the_job_and_nothing_more_is_paid_for(tmp_path, monkeypatch):
    corpus(tmp_path, 40)

    def full(self, entry):
        raise self._unwritable(OSError(28, "No space left on device"))

    with endpoint(simulated_answers.answer) as server:
        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(JournalError, match="answers.jsonl cannot be written: No space left on device"):
            tag(TagConfig(**settings(tmp_path, server)))
        assert len(server.asked) <= 8
    assert not (tmp_path / "out/manifest.jsonl").exists()


def test_two_jobs_do_not_write_one_output(tmp_path):
    """The second is refused before it touches what the first has written."""
    corpora = (corpus(tmp_path, 2),)
    first = Derivation(tmp_path / "out", corpora, "tagging")
    (source, *_) = read_source_clips(corpora, tmp_path / "out")
    with first, endpoint(simulated_answers.answer) as server:
        first.write(source, source.clip)
        with pytest.raises(JournalError, match="in use by another process"):
            tag(TagConfig(**settings(tmp_path, server)))
        assert not server.asked
        first.finish({})
    assert [clip.id for clip in read_manifest(tmp_path / "out")] == ["c0"]
    with endpoint(simulated_answers.answer) as server:
        tag(TagConfig(**settings(tmp_path, server)))
    assert [clip.id for clip in read_manifest(tmp_path / "out")] == ["c0", "c1", "t"]


def test_a_job_that_ends_early_leaves_no_half_file_and_the_corpus_before(tmp_path):
    corpus(tmp_path, 4)
    with endpoint(simulated_answers.answer) as server:
        tag(TagConfig(**settings(tmp_path, server)))
    before = (tmp_path / "out/manifest.jsonl").read_bytes()
    refusal = Response(401, {"error": "no key"})
    with endpoint(manner=lambda *_: refusal) as server, pytest.raises(EndpointError):
        tag(TagConfig(**settings(tmp_path, server), max_tokens=99))
    assert (tmp_path / "out/manifest.jsonl").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answers.jsonl", "corpus.json", "manifest.jsonl", "rejects.jsonl",
    ]  # fmt: skip


def test_an_input_without_records_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/manifest.jsonl").write_text("")
    with endpoint() as server, pytest.raises(CorpusError, match="in: there are no records to read"):
        tag(TagConfig(**settings(tmp_path, server)))
