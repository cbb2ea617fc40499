"""What judges are asked: in our words, or in those of a file that a user lays beside a benchmark's files."""

import hashlib
import string
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError

_FILE = "judge_prompt.txt"

COMPARISON = """\
You compare two answers to a question about a recording that you cannot hear; a detailed description stands for it.

[Detailed Audio Description]
$audio

[Question]
$question

[Answer of Assistant 1]
$first

[Answer of Assistant 2]
$second

[System]
Rate how helpful, relevant, accurate and comprehensive each answer is, with one whole number from 1 to 10 each; more \
is better, and the order of the answers must not matter. Reply with one line that holds the two numbers alone, that of \
Assistant 1 first, with one space between them."""

REASONING = """\
A student heard a recording, was asked a question about it, and answered rightly. Rate how the student reasoned.

Question: $question
Right answer: $answer
Reference reasoning: $thinking
Cues in the recording: $cue

The student's reasoning: $reasoning
The student's answer: $reply

Criteria, in order, each with the points that it may get:
$rubric

Reply with a JSON list that has one object for each criterion, in the same order, with the fields "name", "score" and \
"justification". Give no points for what the reasoning does not say."""

RATING = """\
Rate the answer to a question about a recording. You cannot hear it: the reference answer is right.

Question: $question
Reference answer: $reference
Answer to rate: $prediction

Rate how well the answer agrees with the reference with a whole number, $grades. Write one line "Explanation: …" with \
your reasons, then one line "Rating: …" that ends with the number alone."""


class JudgePrompt:
    """A text with places such as `$question`, which are filled at once: what fills one place is never searched.

    The prompts of official suites are not part of this repository, and a judge's scores depend on its prompt. Who needs
    the numbers of a suite writes its prompt into `judge_prompt.txt`, with our names of places.

    Attributes:
        remark: which prompt it is, for the notes of scores.
    """

    def __init__(self, folder: Path, own: str):
        """Takes the prompt of the folder, or our own. Raises BenchmarkError: a place is missing, or is none of ours."""
        path, places = folder / _FILE, set(string.Template(own).get_identifiers())
        self._template, self.remark = string.Template(own), "judged with the prompt of this repository"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            self._template = string.Template(text)
            if not self._template.is_valid() or set(self._template.get_identifiers()) != places:
                names = ", ".join(f"${name}" for name in sorted(places))
                raise BenchmarkError(
                    f"{path} must have the places {names} and no others; write $$ for a dollar sign"
                )
            self.remark = f"judged with {path.name}, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def filled(self, **texts: str) -> str:
        """The prompt with its places filled."""
        return self._template.substitute(texts)
