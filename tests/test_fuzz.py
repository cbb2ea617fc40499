"""A thousand damaged inputs: each is refused under a name, or means exactly what its bytes say. None changes silently.

A silent change is a value that a reader hands on although the input says something else, or nothing: a number cut to
fit, text replaced, a field lost, of two equal names the last. Where bytes are protected by a checksum (records, the
cache's manifest, codes), the value must be the original one.
"""

import collections
import dataclasses
import json
import re

import fuzzing
import numpy as np
import pytest
from fuzzing import damage, disturb, generator, is_sound, line, pick, same, strict
from synthetic_cache import CODES, LIMITS, STREAMS, VOCABULARY, dialogue_of, example

from bagpiper_jax import dialogue
from bagpiper_jax.captions import AnnotationError, AudioAnnotation, CaptionFilter, describe, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import user, user_records
from bagpiper_jax.corpora.assembly import RecordError as UserRecordError
from bagpiper_jax.data import codes, records
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.lock import Lock, LockedTask, read_lock, write_lock
from bagpiper_jax.data.records import DIRECTIONS, Record, RecordError
from bagpiper_jax.manifest import MANIFEST, Clip, ManifestError, clip_line, read_manifest

ANNOTATION = {
    "duration": 9.0,
    "turns": [{"speaker": "a", "start": 0.5, "end": 2.0, "text": "hello there"}],
    "speakers": [{"id": "a", "gender": "female", "voice": ["low-pitched"]}],
    "sounds": [{"label": "dog bark", "start": 2.0, "end": 3.0, "level": "loud"}],
    "music": [{"start": 4.0, "end": 8.0, "key": "C major", "tempo": 96.0, "instruments": ["piano"]}],
    "acoustics": {"room": "hall", "noise": "faint hiss"},
    "absent": ["rain"],
}
CLIP = {
    "id": "clip-1", "split": "train", "domain": "mixed", "audio": "audio/clip-1.flac", "duration": 9.0,
    "caption": "A dog barks – twice.", "annotation": ANNOTATION, "source": "s", "licence": "CC0",
    "dialogue": [["user", "audio", "clip-1"], ["assistant", "text", "A dog."]], "directions": ["text_only"],
}  # fmt: skip
RECORD = {
    name: CLIP[name] for name in ("id", "audio", "caption", "annotation", "dialogue", "split", "licence")
}

ODD_WORDS = (
    "\u00b2",
    "..",
    "1.2.3",
    "a",
    "\nSpeakers:",
    "\nMusic: 1-2 s",
    "beats",
    "voice",
    '"',
    "events",
    "9" * 5000,
    "",
)


@dataclasses.dataclass
class Tally:
    """Outcomes of a target's cases; each case ends as one of them or fails the test."""

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def check(self, cases: int) -> None:
        assert self.counts.total() == cases, self.counts
        assert self.counts["kept"] and self.counts.total() > self.counts["kept"], "the damage is one-sided"


def test_manifest_lines(tmp_path):
    cases, tally = 200, Tally()
    types = {"audio": (str,), "caption": (str,), "text": (str,), "annotation": (dict,), "dialogue": (list,),
             "directions": (list,), "metrics": (dict,), "duration": (int, float)}  # fmt: skip
    for number in range(cases):
        rng = generator("manifest", number)
        data = line(disturb(CLIP, rng) if rng.integers(3) else CLIP, rng)
        around = [clip_line(Clip(f"other-{n}", "train", "text", text="x")).encode() for n in range(2)]
        (tmp_path / MANIFEST).write_bytes(around[0] + data + b"\n" + around[1])
        try:
            _, clip, _ = read_manifest(tmp_path)
        except ManifestError as error:
            assert re.search(r"manifest\.jsonl:2: .", str(error)), (number, error)
            tally.counts["refused"] += 1
            continue
        said = strict(data)
        assert is_sound(said), (number, data)
        assert all(same(getattr(clip, name), value) for name, value in said.items()), (number, data)
        for name, value in said.items():
            assert isinstance(value, types.get(name, (str,))) or value is None, (number, name, value)
            assert not isinstance(value, bool) and (name != "duration" or value >= 0), (number, value)
        tally.counts["kept"] += 1
    tally.check(cases)


def test_two_clips_of_one_id_are_refused(tmp_path):
    (tmp_path / MANIFEST).write_text(clip_line(Clip(**CLIP)) * 2, encoding="utf-8")
    with pytest.raises(ManifestError, match=r"manifest.jsonl:2: clip id 'clip-1' is that of line 1"):
        list(read_manifest(tmp_path))


def test_lines_of_a_users_corpus():
    cases, tally = 200, Tally()
    for number in range(cases):
        rng = generator("user", number)
        data = line(disturb(RECORD, rng) if rng.integers(3) else RECORD, rng)
        try:
            value = user_records.load_line(data)
            record = user_records.parse(value, 1, 20_000)
        except UserRecordError as error:
            assert error.reason and error.detail and error.remedy, number
            tally.counts[error.reason] += 1
            continue
        said = strict(data)
        unread = {name.split(" (")[0] for name in user_records.unknown_fields(value)}
        for name, content in said.items():
            if name not in unread:
                _check_field(record, name, content, (number, data))
        tally.counts["kept"] += 1
    tally.check(cases)


def _check_field(record, name, content, case):
    """A field is what the line says: text stripped, as documented, and nothing is accepted that is not text."""
    found = getattr(record, name)
    if name == "dialogue" and content is not None:
        assert found == tuple((r, m, c.strip()) for r, m, c in content), case
    elif isinstance(content, str) and (content.strip() or name != "id"):
        assert found == content.strip() and is_sound(content), case
    elif content is not None and name != "id":
        assert same(found, content), case


def test_a_build_accounts_for_every_line(tmp_path):
    lines = []
    for number in range(100):
        rng = generator("build", number)
        value = {"id": f"t{number % 90}", "text": f"Plain words, number {number}."}
        lines.append(line(disturb(value, rng), rng) if rng.integers(2) else json.dumps(value).encode())
    source = tmp_path / "in" / "mine.jsonl"
    source.parent.mkdir()
    source.write_bytes(b"\n".join(lines) + b"\n")
    config = user.UserCorpusConfig(str(source), str(tmp_path / "out"), max_reject_frac=1.0, workers=1)
    built = user.build(config)
    kept = {clip.id: clip for clip in read_manifest(built)}
    rejected = [json.loads(row) for row in (built / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    blank = sum(not content.strip() for content in lines)
    assert len(kept) + len(rejected) + blank == len(lines) and all(r["reason"] for r in rejected)
    refused = {r["line"] for r in rejected}
    for number, content in enumerate(lines, 1):
        if number not in refused and content.strip():
            said = strict(content)
            assert any(clip.text == said["text"].strip() for clip in kept.values()), content


def _plain(kind, value):
    """An annotation's JSON with what is unset left out and seconds as floats: two of them say the same if equal."""
    if not isinstance(value, dict):
        return value
    numbers = ("duration", "start", "end", "tempo")
    found = {}
    for name, item in value.items():
        if isinstance(item, list):
            item = [_plain(name, each) for each in item]
        elif isinstance(item, dict):
            item = _plain(name, item)
        if name in numbers and type(item) is int:
            item = float(item)
        if item not in (None, [], {}) and not (kind == "turns" and (name, item) == ("language", "en")):
            found[name] = item
    return found


def test_annotations():
    cases, tally = 400, Tally()
    for number in range(cases):
        rng = generator("annotation", number)
        value = disturb(ANNOTATION, rng) if number else ANNOTATION
        try:
            annotation = AudioAnnotation.from_json(value)
        except AnnotationError as error:
            assert str(error), number
            tally.counts["refused"] += 1
            continue
        assert is_sound(value), (number, value)
        assert same(_plain("", annotation.to_json()), _plain("", value)), (number, value)
        for style in ("flowing", "attributes"):
            parse_caption(describe(annotation, style, rng)), facts(annotation)
        tally.counts["kept"] += 1
    tally.check(cases)


def test_captions_are_read_and_filtered_whatever_they_hold():
    rng = np.random.default_rng(0)
    annotation = AudioAnnotation.from_json(ANNOTATION)
    good = [describe(annotation, style, rng) for style in ("flowing", "attributes")]
    limits, tally = CaptionFilter(min_tokens=5), Tally()
    for number in range(300):
        rng = generator("caption", number)
        caption, seconds = pick(rng, good), 9.0
        if number % 3:
            caption = damage(caption.encode(), rng).decode(
                "utf-8", errors=pick(rng, ["replace", "surrogateescape"])
            )
        if number % 4 == 1:
            words = caption.split(" ")
            for _ in range(4):
                words[int(rng.integers(len(words)))] = pick(rng, ODD_WORDS)
            caption = " ".join(words)
        if number % 5 == 0:
            caption = str(disturb({"caption": caption}, rng))
        if number % 7 == 0:
            seconds = float(pick(rng, [np.nan, np.inf, -1.0, 0.0, 1e9]))
        parsed = parse_caption(caption)
        assert parsed.count == len(parsed.kinds) and is_sound([e.start for e in parsed.events]), number
        reason = limits.reason(caption, seconds)
        assert reason is None or re.fullmatch(r"[a-z_]+", reason), number
        if reason is None:
            assert 0 < seconds <= 30 and is_sound(caption) and 5 <= len(caption.split()) <= 800, number
        tally.counts["kept" if reason is None else reason] += 1
    tally.check(300)


def test_dialogues_of_wrong_arrays():
    cases, tally = 100, Tally()
    for number in range(cases):
        rng = generator("dialogue", number)
        content = {
            "text": rng.integers(0, 256, int(rng.integers(1, 9))).astype(np.int32),
            "audio": rng.integers(0, CODES, (int(rng.integers(1, 6)), STREAMS)).astype(np.int32),
        }
        kind = pick(rng, ["text", "audio"])
        faulty = fuzzing.array(content[kind], rng) if number % 4 else content[kind]
        weight = pick(rng, [1.0, 1.0, 0.5, np.nan, -1.0, np.inf])
        messages = [
            dialogue.EncodedMessage("user", "text", content["text"]),
            dialogue.EncodedMessage("assistant", kind, faulty, weight),
        ]
        try:
            rendered = dialogue.render(messages, VOCABULARY)
        except dialogue.DialogueError as error:
            assert "message 1 (assistant" in str(error), number
            tally.counts["refused"] += 1
            continue
        (_, _, first), (_, _, second) = dialogue.parse(rendered.tokens, VOCABULARY)
        np.testing.assert_array_equal(first, content["text"])
        np.testing.assert_array_equal(second, faulty, err_msg=str(number))
        assert np.isfinite(rendered.loss_weights).all() and rendered.loss_weights.min() >= 0, number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_features_of_a_task():
    """What a task hands to the cache writer ends as the same numbers in the record, or as a named rejection."""
    cases, tally = 150, Tally()
    for number in range(cases):
        rng = generator("features", number)
        features = example(dialogue_of(pick(rng, DIRECTIONS), rng), "clip")
        name = pick(rng, records.FEATURE_KEYS)
        if name != "audio":
            features[name] = fuzzing.array(features[name], rng) if number % 4 else features[name]
        else:
            features[name] = pick(
                rng, [5, "text", b"", None, np.zeros(4), damage(features[name] or b"x", rng)]
            )
        try:
            record = Record.from_example(features, "clip")
            records.validate(record, LIMITS.text_size, LIMITS.codebook_size, LIMITS.num_streams)
            again = records.decode(records.encode(record), record.audio)
            messages = again.messages()
        except RecordError as error:
            assert re.fullmatch(r"[a-z_]+", error.reason), (number, name)
            tally.counts[error.reason] += 1
            continue
        columns = {"msg_role": "role", "msg_modality": "modality", "msg_start": "start", "msg_len": "length",
                   "msg_weight": "weight", "text": "text", "codes": "codes"}  # fmt: skip
        for feature, column in columns.items():
            np.testing.assert_array_equal(
                getattr(again, column), features[feature], err_msg=f"{number} {feature}"
            )
        assert again.audio == features["audio"] and len(messages) == len(features["msg_role"])
        tally.counts["kept"] += 1
    tally.check(cases)


def test_bytes_of_records():
    """Without the container's checksum: what is decoded is what the bytes say, down to the last one."""
    cases, tally = 200, Tally()
    for number in range(cases):
        rng = generator("record", number)
        whole = records.encode(Record.from_example(example(dialogue_of("generation", rng)), "clip-é"))
        data = damage(whole, rng)
        try:
            record = records.decode(data)
        except RecordError as error:
            assert error.reason == "corrupt_record", number
            tally.counts[error.reason] += 1
            continue
        assert records.encode(record) == data, number
        try:
            messages = record.messages()
        except RecordError:
            tally.counts["corrupt messages"] += 1
            continue
        assert sum(len(m.content) for m in messages if m.modality == "text") <= len(record.text), number
        assert all(0 <= start for start in record.start.tolist()), number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_locks(tmp_path):
    task = LockedTask("t", 1.0, "t/train/0", "0" * 64, 9, "text_only")
    write_lock(tmp_path / "good", Lock("m", "examples", "byte", 256, "c", 64, 8, 512, {"train": (task,)}))
    good = json.loads((tmp_path / "good").read_text())
    cases, tally, path = 120, Tally(), tmp_path / "m.lock.json"
    for number in range(cases):
        rng = generator("lock", number)
        path.write_bytes(line(disturb(good, rng) if rng.integers(3) else good, rng))
        try:
            lock = read_lock(path)
        except CacheError as error:
            assert "m.lock.json" in str(error) and "cache_tasks" in str(error), (number, error)
            tally.counts["refused"] += 1
            continue
        said = strict(path.read_bytes())
        assert is_sound(said) and same(
            {"format": 1, **dataclasses.asdict(lock)}, {"system_prompt": "", **said}
        )
        assert all(type(t.rate) in (int, float) and t.rate > 0 for t in lock.splits.get("train", ())), number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_code_stores(tmp_path):
    rng = np.random.default_rng(0)
    made = [rng.integers(0, CODES, (5, STREAMS)).astype(np.uint16) for _ in range(3)]
    codes.write_shard(tmp_path / "whole.npz", ["a", "b", "é"], made, STREAMS)
    whole, expected = (tmp_path / "whole.npz").read_bytes(), codes.read_shard(tmp_path / "whole.npz")
    cases, tally, path = 150, Tally(), tmp_path / "damaged.npz"
    for number in range(cases):
        path.write_bytes(damage(whole, generator("codes", number)))
        try:
            found = codes.read_shard(path)
        except codes.CodeStoreError as error:
            assert "damaged.npz" in str(error), number
            tally.counts["refused"] += 1
            continue
        assert found[0] == expected[0], number
        for one, two in zip(found[1:], expected[1:], strict=True):
            assert one.dtype == two.dtype, number
            np.testing.assert_array_equal(one, two, err_msg=str(number))
        tally.counts["kept"] += 1
    tally.check(cases)
