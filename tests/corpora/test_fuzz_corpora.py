"""Damaged manifests, lines, annotations and captions: refused under a name, or taken as exactly what they say.

A silent change is a value that a reader hands on although the input says something else, or nothing: a number cut to
fit, text replaced, a field lost, of two equal names the last.
"""

import json
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from fuzzing import Tally, damage, disturb, generator, is_sound, line, pick, same, strict

from bagpiper_jax.captions import AnnotationError, AudioAnnotation, CaptionFilter, describe, parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import user, user_records
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.parquet import ParquetReader
from bagpiper_jax.manifest import MANIFEST, Clip, ManifestError, clip_line, read_manifest
from bagpiper_jax.outcomes import RecordError

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
        except RecordError as error:
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


def test_tables(tmp_path):
    """Damage anywhere, and single bits of the footer, which has no checksum: rows that are read are those written."""
    turns = [["user", "text", "Who?"], ["assistant", "text", "Me."]]
    rows = [{"id": f"r{i}", "text": f"Text number {i}. " * 5, "dialogue": turns, "n": i} for i in range(8)]
    path, cases, tally = tmp_path / "x.parquet", 200, Tally()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), path, row_group_size=3, write_page_checksum=True
    )
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    for number in range(cases):
        rng = generator("table", number)
        flipped = bytearray(whole)
        flipped[len(whole) - 8 - int(rng.integers(footer))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damage(whole, rng) if number % 2 else bytes(flipped))
        try:
            reader = ParquetReader([path], "train")
        except CorpusError as error:
            assert "x.parquet" in str(error), number
            tally.counts["refused"] += 1
            continue
        for row in range(min(len(reader), 9)):
            try:
                assert reader[row].clip.text in {row["text"].strip() for row in rows} | {None}, number
            except RecordError as error:
                assert error.reason and error.detail, number
        tally.counts["kept"] += 1
    tally.check(cases)
