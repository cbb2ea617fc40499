"""The report stands alone, escapes what models write, and says of every score what it means."""

import re

import numpy as np
import pytest
from browser import look_at
from html_balance import Balance

from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results.scenes.page import Exhibit, write_report
from bagpiper_jax.evaluation.results.scenes.training_run import Run, losses, read_run

NOTHING = Score("mel", None, "dB", 0, 0)
WAVE = np.sin(np.arange(16000) * 0.2).astype(np.float32)


def share(value, baseline=None, goal=None, deaf=None, ceiling=None, note="") -> Score:
    """A score in percent, of eight cases."""
    return Score("", value, "%", 8, 8, note=note, baseline=baseline, deaf=deaf, ceiling=ceiling, goal=goal)


def distance(value, baseline=None, deaf=None) -> Score:
    return Score("", value, "dB", 8, 8, baseline=baseline, deaf=deaf, higher_is_better=False)


def page_of(tmp_path, **changes):
    history = tuple(
        {"step": s, "kind": "train", "loss": 3.0 / s, "loss_stream0": float("nan")} for s in range(1, 9)
    )
    given = {
        "scores": {"Captions": {"kinds_in_order": share(95, 10, 90), "mel": NOTHING}},
        "runs": [Run("pretraining", history, {"validation": {"unigram_loss": 4.0}}, {"model": {}})],
        "exhibits": [Exhibit("c1", WAVE, 'says "<script>alert(1)</script>"', "a & b", None, WAVE, "<b>")],
        "codebooks": [{"used": 0.5, "perplexity": 12.0}],
        "dialogues": [{"question": "<i>?", "answer": "two", "truth": "two", "reply": "</pre><x>"}],
    }
    path = write_report(tmp_path / "report.html", "A <title>", **(given | changes))
    return path.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_outside_itself(tmp_path):
    page = page_of(tmp_path)
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page) + re.findall(r"url\(([^)]{0,20})", page)
    sources = [source for source in sources if not source.startswith("#")]
    assert len(sources) == 4 and all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page) and "@import" not in page


def test_an_inaudible_page_has_the_same_pictures_and_no_sound(tmp_path):
    page, silent = page_of(tmp_path), page_of(tmp_path, audible=False)
    assert page.count("<audio") == 2 and "audio" not in re.findall(r"data:(\w+)", silent)
    assert "<audio" not in silent and re.findall("<img[^>]*>", silent) == re.findall("<img[^>]*>", page)


def test_what_models_write_is_escaped_and_the_markup_balances(tmp_path):
    page = page_of(tmp_path)
    assert "<script" not in page and "&lt;script&gt;" in page and "<x>" not in page
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def rows(page: str) -> list[str]:
    """The text of each row of the tables of scores, by its elements."""
    table = "".join(re.findall(r'(?s)<table class="scores">.*?</table>', page))
    return [re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", row)) for row in re.findall("(?s)<tr.*?</tr>", table)]


def test_every_score_stands_beside_its_controls_and_its_goal(tmp_path):
    score = share(95, 10, 90, deaf=12.5, ceiling=99, note="right captions")
    page = page_of(tmp_path, scores={"Captions": {"kinds_in_order": score, "mel": NOTHING}})
    head, first, second = rows(page)
    assert head.split() == ["counted", "reached", "baseline", "deaf", "ceiling", "goal", "n"]
    numbers = "kinds in order right captions 95.0 % 10.0 % 12.5 % 99.0 % 90.0 % ✓ reached 8"
    assert first.strip() == numbers
    assert second.split() == ["mel", "▼", "nothing", "could", "be", "measured", *"––––––"]
    assert 'class="value good"' in page and "1 of 1 goals are reached. 0 of 1 rows" in page
    assert "unigram 4.00" in page


@pytest.mark.parametrize(
    "score, sentences",
    [
        (share(30, 30), ["at or below its baseline"]),
        (share(0, 0, deaf=0), ["at or below its baseline", "no better than the deaf model"]),
        (share(50, 10, deaf=25), ["the deaf model is well above the baseline"]),
        (distance(3.0, 2.0), ["at or above its baseline"]),
        (distance(1.0, 2.0, deaf=1.5), []),
        (share(50), []),
    ],
)
def test_rows_that_show_nothing_are_marked_in_words(tmp_path, score, sentences):
    page = page_of(tmp_path, scores={"Captions": {"kinds": score}})
    assert re.findall('<em class="mark">▼ (.*?)</em>', page) == sentences
    assert ('class="marked"' in page) == bool(sentences)


def test_a_target_that_the_baseline_reaches_too_is_not_good(tmp_path):
    page = page_of(tmp_path, scores={"Captions": {"event_count": share(100, 100, 95)}})
    assert 'class="value short"' in page and 'class="value good"' not in page
    assert "0 of 1 goals are reached. 1 of 1 rows" in page


def test_the_page_leads_with_sound_and_judges_in_words(tmp_path):
    clip = Exhibit("c1", WAVE, "true", "heard", WAVE, WAVE, "reheard", True, False)
    dialogues = [
        {"question": "How many?", "answer": "Two.", "truth": "Two.", "reply": "r", "right": True, "audio": WAVE},
        {"question": "First?", "answer": "", "truth": "Rain.", "reply": "r", "right": False, "audio": WAVE},
        {"request": "Rain!", "caption": "Rain.", "caption_right": True, "heard": "Hail.", "audio_right": False,
         "reply": "r", "audio": WAVE, "truth": "Rain."},
    ]  # fmt: skip
    page = page_of(tmp_path, exhibits=[clip] * 5, dialogues=dialogues)
    places = [
        page.index(f'<section id="{name}">') for name in ("listen", "questions", "requests", "scores", "runs")
    ]
    assert places == sorted(places)
    labels = re.findall('<audio[^>]*aria-label="([^"]*)"', page)
    assert labels[:3] == ["original", "codec copy", "generated from the true caption"]
    assert len(labels) == 5 * 3 + 3
    judged = re.findall('<span class="judged[^>]*>(.*?)</span>', page)
    assert judged == ["✓ kinds right", "✗ kinds wrong"] * 5 + [
        "✓ right",
        "✗ wrong",
        "✓ kinds right",
        "✗ kinds wrong",
    ]
    assert "(nothing)" in page


def test_the_page_is_readable_on_a_phone(tmp_path):
    """Nothing is wider than the window, every sound and picture opens, every link of the page leads somewhere."""
    page_of(tmp_path, dialogues=[{"question": "q" * 90, "reply": "r", "audio": WAVE}])
    for seen in look_at([tmp_path / "report.html"], tmp_path)[0]:
        assert seen["overflow"] == seen["broken_images"] == seen["broken_sounds"] == 0
        assert seen["sounds"] == 3 and seen["targets"] == 0


def test_an_empty_report_is_a_page(tmp_path):
    page = page_of(tmp_path, scores={}, runs=[], exhibits=[], codebooks=[], dialogues=[])
    assert "<h1>A &lt;title&gt;</h1>" in page


LINES = {
    "whole": '{"step": 1, "kind": "train", "loss": 2.0}',
    "cut": '{"step": 2, "kind": "tr',
    "list": "[1, 2]",
    "no step": '{"loss": 1.0}',
    "text as step": '{"step": "3", "loss": 1.0}',
    "no step at all": '{"step": NaN, "loss": 1.0}',
    "kind": '{"step": 4, "kind": ["train"], "loss": 1.0}',
    "deep": "[" * 100_000,
    "huge": '{"step": 1' + "0" * 400 + "}",
    "no loss": '{"step": 5, "kind": "train", "loss": null, "loss_stream0": "x", "loss_understanding": true}',
}


def test_a_run_that_was_killed_in_the_middle_of_a_line_still_has_its_report(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(LINES.values()).encode() + b"\n\xff\xfe\n")
    run = read_run("killed", tmp_path)
    assert [line["step"] for line in run.history] == [1, 5]
    assert "metrics.jsonl: 9 lines cannot be read and are left out" in caplog.text
    assert page_of(tmp_path, runs=[run]).count("<polyline") == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", "\0", '{"model": []}', '{"model": {"decoder": 3, "tower": {"layers": 1}}}',
        '{"validation": [1], "model": {"decoder": {}}}', '{"validation": {"unigram_loss": "x", "loss": []}}',
        '{"validation": {"unigram_loss": NaN}}',
    ],
)  # fmt: skip
def test_a_damaged_summary_or_configuration_is_left_out(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(LINES["whole"])
    for name in ("metrics.json", "config.json"):
        (tmp_path / name).write_text(text)
    run = read_run("damaged", tmp_path)
    assert "Training: damaged" in page_of(tmp_path, runs=[run])
    assert losses([run]) == []


def test_folders_where_files_belong_are_left_out(tmp_path):
    for name in ("metrics.jsonl", "metrics.json", "config.json"):
        (tmp_path / name).mkdir()
    assert read_run("odd", tmp_path) == Run("odd")
