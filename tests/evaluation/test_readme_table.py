"""README's table is what an evaluation wrote, row by row."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.protocol import Score

ROOT = Path(__file__).resolve().parents[2]
SCORES = {
    "Audio → caption": {
        "kinds_in_order": Score("", 92.2, "%", 128, 128, baseline=10.9, goal=90.0, deaf=12.0),
        "kind_set": Score("", 90.0, "%", 128, 128),
    },
    "Question → caption, reasoning, answer": {
        "answers": Score("", 26.6, "%", 128, 128, baseline=30.5, goal=80.0, deaf=29.0, ceiling=91.0)
    },
    "Answers by topic": {
        "order": Score("", 50.0, "%", 4, 4, baseline=0.0, goal=20.0),
        "count": Score("", 25.0, "%", 8, 8, baseline=25.0, goal=45.0, deaf=25.0, ceiling=100.0),
    },
    "Validation loss": {
        "tuning": Score("", 6.0, "nats", 0, 0, baseline=5.71, higher_is_better=False),
        "pretraining": Score("", 1.114, "nats", 0, 0, baseline=5.71, higher_is_better=False),
    },
}
EXPECTED = """\
| held-out scenes | n | reached | baseline | deaf | ceiling | goal |
|---|---|---|---|---|---|---|
| audio → caption: event kinds in order | 128 | 92.2 % | 10.9 % | 12.0 % | – | 90.0 % |
| tuned model: answers to questions | 128 | 26.6 % ▼ | 30.5 % | 29.0 % | 91.0 % | 80.0 % |
| tuned model: answers about “count” | 8 | 25.0 % ▼ | 25.0 % | 25.0 % | 100.0 % | 45.0 % |
| tuned model: answers about “order” | 4 | 50.0 % | 0.0 % | – | – | 20.0 % |
| validation loss, pretraining, nats per frame (baseline: unigram) | – | 1.11 | 5.71 | – | – | – |
| validation loss, tuning, nats per frame (baseline: unigram) | – | 6.00 ▼ | 5.71 | – | – | – |
"""


def test_the_table_has_a_row_for_every_score_it_names_whatever_it_says(tmp_path):
    plain = {s: {n: dataclasses.asdict(score) for n, score in table.items()} for s, table in SCORES.items()}
    (tmp_path / "results.json").write_text(json.dumps({"scores": plain}))
    command = [sys.executable, "benchmarks/readme_table.py", tmp_path / "results.json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == EXPECTED


def test_every_row_of_readme_is_one_that_the_table_prints():
    """So that a change of README's rows and one of the script's go together."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.readme_table import HEAD, ROWS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert HEAD in readme
    for _, name, label in ROWS:
        assert f"| {label} |" in readme if name else f"| {label.partition('{}')[0]}" in readme
