"""README's table is what an evaluation wrote, row by row."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from bagpiper_jax.evaluation.scores import Score

ROOT = Path(__file__).resolve().parents[2]
SCORES = {
    "Audio → caption": {"kinds_in_order": Score(0.922, 128, 0.109, 0.9, 0.12), "kind_set": Score(0.9, 128)},
    "Question → caption, reasoning, answer": {"answers": Score(0.266, 128, 0.305, 0.8, 0.29, 0.91)},
    "Answers by topic": {"order": Score(0.5, 4, 0.0, 0.2), "count": Score(0.25, 8, 0.25, 0.45, 0.25, 1.0)},
    "Validation loss": {
        "tuning": Score(6.0, 0, 5.71, higher_is_better=False, is_share=False),
        "pretraining": Score(1.114, 0, 5.71, higher_is_better=False, is_share=False),
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
