"""What a language model would answer to the prompts of curation, told apart by their wording."""

import json

from bagpiper_jax.curation.dialogues.judging import GENERATION, UNDERSTANDING

TAGS = {
    "audio_type": "sound_effects", "is_pure_english": True, "is_audio_focused": True, "intelligibility": 4,
    "complexity": 3, "diversity": 2,
}  # fmt: skip
REALISTIC = (
    "For the waiting room of our ward I need a short recording in which a calm woman says \"good morning\" while soft "
    "rain falls outside the window, please, and nothing else."
)  # fmt: skip
IMAGINARY = (
    "Imagine a house by the sea at dawn where somebody who has waited all night turns to the door and says "
    "\"Good morning!\" while the weather does what it always does there."
)  # fmt: skip
REASONING = (
    "1. User Intent: a calm greeting.\n2. Inferred Details: a woman, soft rain.\n3. Audio Quality: close and clear.\n"
    "4. Generation Plan: rain first, then the voice."
)  # fmt: skip
EVIDENCE = (
    "- User Intent: the weather.\n- Evidence & Salient Audio Cues: soft rain.\n"
    "- Inferred Details (Assumptions): none.\n- Answering Plan: name it.\n- Self-Check: it is steady, so no tap."
)  # fmt: skip


def marks(everywhere: int = 4, dimensions=GENERATION, **single: int) -> str:
    table = {group: dict.fromkeys(names, everywhere) for group, names in dimensions.items()}
    for name, mark in single.items():
        group, _, item = name.partition("__")
        table[group][item] = mark
    return json.dumps(table)


def stage_of(messages: list) -> str:
    content = messages[-1]["content"]
    if not isinstance(content, str):
        return "caption"
    starts = {"Below is the description": "tags", "Someone asks": "requests", "You judge": "judge"}
    starts |= {"You write listening": "question", "An assistant listens": "evidence"}
    starts |= {"You judge a training example for an assistant that listens": "judge_answer"}
    fitting = [start for start in starts if content.startswith(start)]
    return starts[max(fitting, key=len)] if fitting else "reasoning"


def answer(messages: list) -> str:
    """A good answer to whatever stage asks."""
    requests = {"persona": 2, "realistic": REALISTIC, "imaginary": IMAGINARY}
    return {
        "caption": "Rain falls softly and a calm woman says good morning, then it is quiet again.",
        "tags": f"Here you are:\n```json\n{json.dumps(TAGS)}\n```",
        "requests": json.dumps(requests),
        "reasoning": f"<think>{REASONING}</think>",
        "judge": marks(),
        "question": json.dumps({"question": "What is the weather like?", "answer": "It rains."}),
        "evidence": EVIDENCE,
        "judge_answer": marks(4, UNDERSTANDING),
    }[stage_of(messages)]
