"""Any example, any row, any clip's fate, any reject, any difference: as text and as a page that a browser shows."""

import dataclasses
import json
import re

import numpy as np
import pytest
from browser import look_at
from html_balance import Balance
from inspection_helpers import random_codec
from synthetic_cache import CODES, STREAMS, dialogue_of, example, write_mixture, write_mixture_of

from bagpiper_jax import audio
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError, TaskCache
from bagpiper_jax.data.records import Record
from bagpiper_jax.dialogue import RenderConfig
from bagpiper_jax.inspection.articles import row_map
from bagpiper_jax.inspection.comparison import compare, compare_caches
from bagpiper_jax.inspection.examples import show_record, show_row
from bagpiper_jax.inspection.served import ServedMixture
from bagpiper_jax.inspection.strips import mel_picture, streams_picture, weights_picture
from bagpiper_jax.jobs import inspect_data
from bagpiper_jax.manifest import Clip, write_manifest
from bagpiper_jax.pages import rendering
from bagpiper_jax.pages.pictures import spectrogram
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary

LAYOUT = Vocabulary(256, CODES, STREAMS)
SHAPE = BatchShape(2, 512, 16)


def show(lock, **fields):
    return inspect_data.inspect(inspect_data.InspectConfig(**{"lock": str(lock), "shape": SHAPE, **fields}))


def read_page(path) -> str:
    """A page's source, after checking that it is whole, closed and needs nothing from outside."""
    page = path.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and "<script" not in page
    bare = re.sub(r'"data:[^"]*"', '""', page)
    assert "http" not in bare and "url(" not in bare and "@import" not in bare
    return page


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A mixture of one task with all five directions, one hostile text, and a clip rejected."""
    rng = np.random.default_rng(0)
    examples = [
        example(dialogue_of(direction, rng), f"{direction}-{n}")
        for n in range(4)
        for direction in ("caption_to_audio", "audio_to_caption", "text_only", "understanding", "generation")
    ]
    examples.append(example([("assistant", "text", "</pre><script>alert(1)</script> & “ü”")], "hostile"))
    examples.append({**examples[0], "id": b"refused", "text": np.full(500, 999, np.int32)})
    codec = random_codec(tmp_path_factory.mktemp("codec") / "codec.safetensors")
    lock = write_mixture_of(tmp_path_factory.mktemp("mixed"), examples, codec_fingerprint=codec[2])
    return lock, str(codec[0])


@pytest.fixture(scope="module")
def seen(mixed, tmp_path_factory):
    """The view of a row, what a browser shows of its page, and what it shows of all other pages joined."""
    (lock, codec), root = mixed, tmp_path_factory.mktemp("pages")
    others = {
        "validate": {"validate": True, "steps": 5}, "summary": {}, "rejects": {"rejects": 3},
        "example": {"task": "task", "index": 3}, "clip": {"id": "hostile"}, "difference": {"compare": str(lock)},
    }  # fmt: skip
    name = "a_corpus_of_ones_own_with_a_name_as_long_as_any_caption_guided_understanding"
    long = write_mixture_of(root, [example([("assistant", "text", "x")])], task=name)
    others |= {
        f"long_{k}": {"lock": str(long), **v} for k, v in others.items() if k in ("validate", "rejects")
    }
    others["other"] = {"compare": str(long)}
    view = show(lock, step=3, row=1, codec=codec, html=str(root / "row.html"))
    read_page(root / "row.html")
    whole = []
    for name, fields in others.items():
        show(**{"lock": lock, "html": str(root / f"{name}.html"), **fields})
        whole.append(read_page(root / f"{name}.html"))
    body = "".join(page[page.index("<main>") : page.index("</main>")] for page in whole)
    joined = f"{whole[0][: whole[0].index('<main>')]}<main>{body}</main></body></html>"
    (root / "joined.html").write_text(joined, encoding="utf-8")
    # one start of the browser for everything
    return view, *look_at([root / "row.html", root / "joined.html"], root)


def test_a_browser_shows_a_row_with_its_pictures_and_sounds(seen):
    view, row, _ = seen
    assert view.said.endswith("/row.html")
    shown = list(view.examples.values())
    clips = [m for e in shown for m in e.messages if m.modality == "audio"]
    assert {m.role for m in clips} == {"user", "assistant"}
    seconds = [len(m.codes) / 50 if m.samples is None else len(m.samples) / 16000 for m in clips]
    for found in row:
        assert (found["broken_images"], found["broken_sounds"], found["targets"]) == (0, 0, 0), found
        np.testing.assert_allclose(found["seconds"], seconds, atol=0.001)
        # two pictures per clip, two strips per example and two of the row
        assert found["images"] == 2 * len(clips) + 2 * len(shown) + 2
        assert "Step 3 row 1" in found["text"]


def test_no_page_is_broken_or_wider_than_a_phone(seen):
    _, row, joined = seen
    for found in (*row, *joined):
        assert (found["broken_images"], found["broken_sounds"]) == (0, 0)
        assert found["overflow"] <= 0, f"wider than {found['width']} pixels"
    assert joined[0]["images"] > 10 and "Rejects of synthetic" in joined[0]["text"]


def test_what_a_clip_says_is_escaped_and_not_changed(mixed, tmp_path):
    view = show(mixed[0], id="hostile", html=str(tmp_path / "clip.html"))
    assert "</pre><script>alert(1)</script> & “ü”" in view.said
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; “ü”" in read_page(tmp_path / "clip.html")


def test_a_clips_fate_is_its_example_or_its_rejection(mixed):
    assert "task: rejected as text_out_of_range: " in show(mixed[0], id="refused").said
    assert show(mixed[0], id="generation-2").said.startswith("[task record 14] generation-2")
    with pytest.raises(CacheError, match="no task of synthetic knows a clip 'nobody'"):
        show(mixed[0], id="nobody")


def test_a_reject_is_shown_as_its_corpus_has_it(mixed, tmp_path, monkeypatch):
    """Also a clip that no cache ever saw, because the corpus rejected it."""
    corpus = tmp_path / "corpora/mine"
    clip = Clip("refused", "train", "sound", audio="refused.flac", caption="<b>Rain.</b>")
    write_manifest(corpus, [Clip("other", "train", "text", text="x"), clip])
    audio.write(corpus / "refused.flac", np.full(8000, 0.1, np.float32))
    (corpus / "rejects.jsonl").write_text('{"id": "early", "reason": "no_audio", "detail": "gone"}\n')
    made_from = {"inputs": {"mine/manifest.jsonl": "0", "audio": "0"}}
    monkeypatch.setattr(
        TaskCache, "manifest", property(lambda cache: {**_read(cache), "provenance": made_from})
    )
    fields = {"data_root": str(tmp_path / "corpora"), "html": str(tmp_path / "clip.html")}
    said = show(mixed[0], id="refused", **fields).said
    assert "rejected as text_out_of_range: " in said and "  caption: <b>Rain.</b>" in said
    page = read_page(tmp_path / "clip.html")
    assert "&lt;b&gt;Rain." in page and page.count("<audio") == 1
    assert "  reason: no_audio" in show(mixed[0], id="early", **fields).said
    (corpus / "refused.flac").write_bytes(b"no audio")
    assert show(mixed[0], id="refused", **fields) and "corrupt" in read_page(tmp_path / "clip.html")


def _read(cache: TaskCache) -> dict:
    return json.loads((cache.directory / "manifest.json").read_text())


def test_an_index_or_row_that_does_not_exist_is_refused(mixed):
    with pytest.raises(CacheError, match="task has 21 records, there is no record 21"):
        show(mixed[0], task="task", index=21)
    with pytest.raises(CacheError, match="there is no row 2"):
        show(mixed[0], step=0, row=2)
    with pytest.raises(CacheError, match="'tusk' is no task"):
        show(mixed[0], task="tusk", index=0)


def test_dropped_conditions_are_shown_as_dropped(mixed):
    lock, _ = mixed
    mixture = ServedMixture(str(lock), shape=SHAPE, cfg_dropout=1.0)
    loader = mixture.open()
    rows = [show_row(loader, loader.plan.row(r), "", ByteTokenizer()) for r in range(6)]
    dropped = [e for row in rows for e in row.examples if e.is_dropped]
    assert dropped
    for shown in dropped:
        (kept,) = [m for m in shown.messages if not m.dropped]
        assert kept.codes is not None and shown.mels == ()
        assert shown.tokens[: kept.span[0]].sum() == 0 and shown.tokens[kept.span[0], 0] > 0
    for row in rows:
        np.testing.assert_array_equal(
            row.batch.tokens[0][: row.slots[0]], np.concatenate([e.tokens for e in row.examples])
        )


def test_mel_shown_is_what_the_batch_holds(mixed):
    loader = ServedMixture(str(mixed[0]), shape=SHAPE).open()
    row = next(
        r
        for r in (show_row(loader, loader.plan.row(n), "", ByteTokenizer()) for n in range(20))
        if r.clips > 1
    )
    frames = row.batch.chunk_frames[0]
    given = np.concatenate([row.batch.mel[0, c, : frames[c]] for c in np.flatnonzero(frames)])
    shown = np.concatenate([mel for e in row.examples for mel in e.mels])
    np.testing.assert_array_equal(shown, given)


def test_the_map_has_a_place_for_every_slot_and_chunk(mixed):
    loader = ServedMixture(str(mixed[0]), shape=SHAPE).open()
    row = show_row(loader, loader.plan.row(0), "", ByteTokenizer())
    parts = rendering.environment().get_template("inspection/parts.html.j2").module
    drawn = str(parts.row_map(row_map(row, LAYOUT)))
    segments, chunks = drawn.split("</svg>")[0], drawn.split("</svg>")[1]
    widths = [int(w) for w in re.findall(r'x="\d+" width="(\d+)"', segments)]
    assert widths == [len(e) for e in row.examples] and sum(widths) == row.slots[0]
    assert chunks.count("<rect") == row.chunks[0]


def test_pictures_have_a_pixel_for_every_slot(mixed):
    import io

    from PIL import Image

    record = Record.from_example(example(dialogue_of("generation", np.random.default_rng(3))))
    weighted = RenderConfig(stream_weights=(4.0, 2.0, *[1.0] * 6))
    shown = show_record(record, "task", 0, ByteTokenizer(), LAYOUT, weighted)
    assert set(np.unique(shown.loss_weights)) == {0, 0.125, 0.25, 0.5, 1}
    heard = np.zeros(len(shown), bool)
    opened = [Image.open(io.BytesIO(picture)) for picture in (
        streams_picture(shown.tokens, heard, LAYOUT), weights_picture(shown.loss_weights),
        mel_picture(np.random.default_rng(0).normal(size=(37, 128)).astype(np.float32)),
        spectrogram(np.zeros(16000, np.float32)),
    )]  # fmt: skip
    assert [image.size for image in opened] == [(len(shown), 8), (len(shown), 8), (37, 128), (101, 257)]
    filled = np.asarray(opened[0].convert("RGBA"))[..., 3] > 0
    np.testing.assert_array_equal(filled.T, shown.tokens > 0)
    np.testing.assert_array_equal(np.asarray(opened[1].convert("RGBA"))[..., 3].T > 0, shown.loss_weights > 0)


def write_other(root, change) -> tuple[TaskCache, TaskCache]:
    rng = np.random.default_rng(5)
    directions = ("generation", "audio_to_caption", "text_only")
    examples = [example(dialogue_of(directions[n % 3], rng), f"c{n}") for n in range(9)]
    for name, content in (("one", examples), ("two", change([dict(e) for e in examples]))):
        write_mixture_of(root / name, content)
    return TaskCache(root / "one/task/train"), TaskCache(root / "two/task/train")


def test_caches_are_compared_clip_by_clip(tmp_path):
    def change(examples):
        examples[0]["text"] = examples[0]["text"] ^ 1
        examples[3]["codes"] = (examples[3]["codes"] + 1) % CODES
        examples[1]["audio"] = example(dialogue_of("audio_to_caption", np.random.default_rng(9)))["audio"]
        examples[2]["text"] = np.full(len(examples[2]["text"]), 400, np.int32)  # rejected
        del examples[4]
        return [*examples[::-1], example([("assistant", "text", "new")], "new")]

    one, two = write_other(tmp_path, change)
    found = compare_caches("task", one, two)
    changed = {c.id: c.parts for c in found.changed}
    assert changed == {"c0": ("text",), "c3": ("codes",), "c1": ("audio",)}
    assert set(found.removed) == {"c2 (text_out_of_range)", "c4"} and found.added == ("new",)
    assert found.same == 4 and not found.damaged and not found.is_equal
    assert compare_caches("task", one, one).is_equal


def test_difference_tells_settings_tasks_and_provenance(tmp_path):
    first = write_mixture(tmp_path / "a", {"text_only": (3, 1.0), "caption_to_audio": (3, 1.0)})
    second = write_mixture(tmp_path / "b", {"text_only": (4, 2.0)}, rate_unit="tokens")
    found = compare(str(first), str(second), "train")
    assert found.settings == ("rate_unit: 'examples' → 'tokens'", "rate of text_only: 1 → 2")
    assert [task.made_from for task in found.tasks] == [(), ("the task is only in the first",)]
    assert found.tasks[0].added == ("text_only-3",)
    said = show(first, compare=str(second)).said
    assert "text_only: 3 → 4 records; 3 the same, 0 changed, 0 removed, 1 added" in said
    assert said.endswith("DIFFERENT") and show(first, compare=str(first)).said.endswith("equal")


def test_a_damaged_record_is_shown_as_damaged(tmp_path):
    rng = np.random.default_rng(0)
    lock = write_mixture_of(tmp_path, [example(dialogue_of("text_only", rng), f"c{i}") for i in range(9)])
    (shard,) = (tmp_path / "task/train").glob("core*")
    data = bytearray(shard.read_bytes())
    data[data.find(b"c7")] ^= 1
    shard.write_bytes(bytes(data))
    view = show(lock, step=0, html=str(tmp_path / "row.html"))
    assert "damaged, its slots are empty: corrupt_record: " in view.said
    assert "record 7" in view.said and "Damaged, its slots are empty" in read_page(tmp_path / "row.html")
    found = compare_caches("task", *[TaskCache(tmp_path / "task/train")] * 2)
    assert found.is_equal  # the same manifest: --contents finds damage
    with pytest.raises(CacheError, match="its hash differs"):
        show(lock, contents=True)


def test_short_flags_are_bindings():
    assert inspect_data.expand(["--lock=a", "--id=x", "--validate", "--run=r.gin", "--gin.A.b=1"]) == [
        "--gin.InspectConfig.lock=a", "--gin.InspectConfig.id=x", "--gin.InspectConfig.validate=True",
        "--gin_file=r.gin", "--gin.InspectConfig.train=@TrainConfig()", "--gin.A.b=1",
    ]  # fmt: skip
    names = {field.name for field in dataclasses.fields(inspect_data.InspectConfig)}
    assert all(inspect_data.expand([f"--{name}=1"]) == [f"--gin.InspectConfig.{name}=1"] for name in names)
