"""The judges of simulated dialogues, and what their marks must reach (docs/reference.md, Tuning dialogues).

That requests for audio get 22 marks in five groups is published, and their thresholds; the wording is ours, and so is
all of the judge of answers about audio.
"""

import dataclasses
from collections.abc import Mapping

from bagpiper_jax.curation.endpoint.replies import unreadable
from bagpiper_jax.outcomes import RecordError

Dimensions = Mapping[str, Mapping[str, str]]

GENERATION = {
    "request": {
        "naturalness": "it reads as something that a person would really write",
        "persona": "vocabulary and purpose fit one person with one need",
        "clarity": "one can tell what to make",
        "concreteness": "it asks for things that can be heard",
        "independence": "it stands alone, without pointing to a caption or a recording",
    },
    "faithfulness": {
        "speech": "who speaks, how, and what is said agree with the caption",
        "sounds": "sounds agree with the caption",
        "music": "music agrees with the caption",
        "order": "the order of events agrees with the caption",
        "scope": "nothing is asked that the caption lacks",
    },
    "reasoning": {
        "intent": "it understands what the user wants and why",
        "inference": "what it infers follows from the request",
        "audio_quality": "what it says of quality and acoustics suits the request",
        "plan": "its plan can be followed step by step",
        "coherence": "it does not contradict itself",
    },
    "caption": {
        "answers_request": "the caption is an answer to the request",
        "follows_plan": "the reasoning leads to the caption",
        "foresight": "the reasoning plans the caption, and does not quote it as given",
        "completeness": "everything that was asked for is in the caption",
    },
    "value": {
        "difficulty": "there is something to infer or to arrange",
        "language": "grammar and spelling are right",
        "harmlessness": "a careful person would publish it",
    },
}
UNDERSTANDING = {
    "question": {
        "naturalness": "a listener could really ask it",
        "needs_audio": "only who has heard the recording can answer it",
        "single_answer": "it has one right answer",
    },
    "answer": {
        "correctness": "it follows from the caption",
        "directness": "it answers what was asked, no more",
        "language": "grammar and spelling are right",
    },
    "reasoning": {
        "evidence": "it names what is heard that decides the question",
        "grounding": "it claims nothing that the caption lacks",
        "inference": "assumptions are named as such",
        "coherence": "it leads to the answer without contradiction",
    },
}


def rubric(dimensions: Dimensions) -> str:
    """What each mark means, for the judge."""
    groups = (
        f"{group}:\n" + "\n".join(f"- {name}: {meaning}" for name, meaning in names.items())
        for group, names in dimensions.items()
    )
    return "\n".join(groups)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What a dialogue is kept with: least single mark by its style, and least mean.

    The values of realistic and imaginary requests are published; an answer is judged like a realistic request.

    Attributes:
        realistic, imaginary, understanding: least mark of any dimension, of requests of that style and of answers.
        mean: least mean of all marks.
    """

    realistic: float = 3.0
    imaginary: float = 2.0
    understanding: float = 3.0
    mean: float = 3.5

    def require(self, style: str, marks: Mapping[str, int]) -> None:
        """Raises RecordError `judged_below_minimum` or `judged_below_mean`."""
        least, mean = min(marks.values()), sum(marks.values()) / len(marks)
        worst = min(marks, key=marks.get)
        remedy = "lower Thresholds, or change prompts or model"
        if least < getattr(self, style):
            raise RecordError("judged_below_minimum", f"{worst} is {least}, mean {mean:.2f}", remedy)
        if mean < self.mean:
            raise RecordError("judged_below_mean", f"mean {mean:.2f}, least {least}", remedy)


def read_marks(judgement: Mapping, dimensions: Dimensions) -> dict[str, int]:
    """The marks as `group.name`. Raises RecordError `unreadable_judgement`: one is missing or no integer of 1 to 5."""
    marks = {}
    for group, name in ((group, name) for group, names in dimensions.items() for name in names):
        of_group = judgement.get(group)
        mark = of_group.get(name) if isinstance(of_group, dict) else None
        if type(mark) is not int or not 1 <= mark <= 5:
            raise unreadable("judgement", f"{group}.{name} is {mark!r}, not an integer from 1 to 5")
        marks[f"{group}.{name}"] = mark
    return marks


def summary(marks: Mapping[str, int]) -> dict[str, float]:
    """What the manifest keeps of the marks; all of them are in the journal."""
    return {"judge_min": min(marks.values()), "judge_mean": round(sum(marks.values()) / len(marks), 3)}
