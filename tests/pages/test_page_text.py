"""Text of models, files and people enters every page as text: it makes no element, no attribute, and is not lost."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic_cache import CODES, STREAMS

from bagpiper_jax import audio
from bagpiper_jax.batch import BatchShape, empty_batch
from bagpiper_jax.corpora.contradictions import Fault
from bagpiper_jax.evaluation.benchmarks.protocol import Score
from bagpiper_jax.evaluation.results.scenes.page import Exhibit, write_report
from bagpiper_jax.evaluation.results.scenes.training_run import Run
from bagpiper_jax.inspection import page
from bagpiper_jax.inspection.clip_history import Fate, Origin
from bagpiper_jax.inspection.comparison import Changed, Difference, TaskDifference
from bagpiper_jax.inspection.examples import Said, Shown, ShownRow
from bagpiper_jax.inspection.limits import Violation
from bagpiper_jax.inspection.survey import Survey, TaskSurvey
from bagpiper_jax.inspection.tuning_data import Judged
from bagpiper_jax.inspection.validation import Validation
from bagpiper_jax.manifest import Clip
from bagpiper_jax.vocabulary import Vocabulary

VOCABULARY = Vocabulary(256, CODES, STREAMS)
WAVE = np.sin(np.arange(1600) * 0.2).astype(np.float32)

PLAIN = "Ordinary"
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "</pre></title></style></svg></textarea><b>",
    "<!-- -- > ]]> <![CDATA[ <?php",
    "AT&T &lt;b&gt; &amp;amp; &#60;",
    "{{ 7 * 7 }} {% raw %} {# x #} ${x}",
    "javascript:alert(1)",
]


class _Structure(HTMLParser):
    """Elements with the names and, but for texts, the values of their attributes; and all text."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], []

    def handle_starttag(self, tag, attrs):
        free = ("alt", "aria-label", "src")
        self.elements.append((tag, tuple((name, None if name in free else value) for name, value in attrs)))
        self.text += [value or "" for name, value in attrs if name in ("alt", "aria-label")]

    def handle_data(self, data):
        self.text.append(data)


def structure(path: Path) -> _Structure:
    parser = _Structure()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    return parser


def report(path: Path, text: str) -> None:
    history = tuple({"step": s, "kind": text, "loss": 3.0 / s} for s in range(1, 4))
    write_report(
        path,
        text,
        {text: {text: Score(text, 50.0, "%", 2, 2, note=text, baseline=10.0, goal=90.0)}},
        [Run(text, history, config={"model": {"decoder": {"layers": 1, "width": text}}, text: text})],
        [Exhibit(text, WAVE, text, text, WAVE, WAVE, text)],
        [{"used": 0.5, "perplexity": 12.0}],
        [
            {"question": text, "answer": text, "truth": text, "reply": text},
            {"request": text, "reply": text, "heard": text, "audio": WAVE},
        ],
    )


def shown(text: str, fault: str = "") -> Shown:
    """An example that says `text` wherever it can."""
    codes = np.zeros((3, STREAMS), np.int32)
    messages = (
        Said("user", "text", 0.5, (1, 5), text=text),
        Said("user", "audio", 1.0, (5, 10), samples=WAVE),
        Said("assistant", "audio", 1.0, (10, 18), codes=codes),
        Said("assistant", "text", 1.0, (18, 20), text=text, dropped=True),
    )
    tokens = np.full((20, STREAMS), VOCABULARY.codec_start, np.int32)
    weights = np.ones((20, STREAMS), np.float32)
    mel = np.zeros((10, 128), np.float32)
    return Shown(text, 0, 7, text, () if fault else messages, fault, tokens, weights, (mel,))


def row(text: str) -> ShownRow:
    batch = empty_batch(1, BatchShape(1, 64, 4), STREAMS)
    return ShownRow(text, (shown(text), shown(text, fault=text)), batch)


def survey(text: str) -> Survey:
    task = TaskSurvey(text, 3, 1.0, 1.0, 1.0, 2.0, (1, 2, 3, 4), 0.0, 0.0, 3, {text: 1}, (4, 0))
    return Survey(text, text, text, 5, 2, 64, 4, (task,), 0.9, 0.5, (2.0, 3), {text: 1.0}, 4)


@dataclasses.dataclass
class Cache:
    """What `reject_page` reads of a task's cache."""

    text: str

    @property
    def manifest(self) -> dict:
        return {"counts": {self.text: 3}}

    def rejects(self):
        return [{"id": self.text, "reason": self.text, "detail": self.text}]


def decode(codes):
    return [WAVE] * len(codes)


def inspections(text: str, corpus: Path) -> dict[str, page.Page]:
    clip = Clip("c", "train", "sound", audio="a.flac", caption=text, text=text)
    changed = (Changed(text, 1, 2, (text,)),)
    difference = TaskDifference(text, (1, 2), (text,), 1, (text,), (text,) * 300, changed, (text,))
    fates = [Fate(text), Fate(text, reject={"id": text, "reason": text, "detail": text})]
    return {
        "row": page.row_page(row(text), VOCABULARY, decode),
        "examples": page.example_page([shown(text)], VOCABULARY, decode, fates, Origin(corpus, clip)),
        "refused": page.example_page(
            [], VOCABULARY, None, fates, Origin(corpus / text, reject={text: [text]})
        ),
        "rejects": page.reject_page([text], [Cache(text)], 3),
        "survey": page.survey_page(survey(text)),
        "validation": page.validation_page(
            Validation(
                (Violation(text, text, text, text),),
                survey(text),
                (row(text),),
                (text,),
                (Judged(text, text, 2, 3, 1, 1, ((text, Fault(text, text)),)),),
            ),
            VOCABULARY,
        ),
        "difference": page.difference_page(Difference(text, text, (text,), (difference,))),
    }


def write_all(directory: Path, text: str) -> dict[str, Path]:
    report(directory / "report.html", text)
    corpus = directory / "corpus"
    corpus.mkdir()
    audio.write(corpus / "a.flac", WAVE)
    for name, made in inspections(text, corpus).items():
        page.write(directory / f"{name}.html", text, text, made)
    return {path.stem: path for path in directory.glob("*.html")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same pages with text that means nothing to a browser."""
    paths = write_all(tmp_path_factory.mktemp("plain"), PLAIN)
    return {name: structure(path) for name, path in paths.items()}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_changes_the_structure_of_a_page(text, plain, tmp_path):
    pages = write_all(tmp_path, text)
    assert len(pages) == len(plain) == 8
    for name, path in pages.items():
        found = structure(path)
        assert found.elements == plain[name].elements, name
        said, expected = "\0".join(found.text), "\0".join(plain[name].text)
        # The parser gives text unescaped: what was given stands there letter by letter, as often as it was given.
        # Settings are JSON, which escapes quotes.
        said = said.replace('\\"', '"')
        assert said.count(text) == expected.count(PLAIN) > 3, name


def test_pages_are_valid_html(tmp_path):
    html5lib = pytest.importorskip("html5lib")
    for text in (PLAIN, *HOSTILE):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        for name, path in write_all(directory, text).items():
            parser = html5lib.HTMLParser()
            parser.parse(path.read_text(encoding="utf-8"))
            assert not parser.errors, (name, text, parser.errors[:3])
