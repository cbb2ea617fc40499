"""What a language model would answer to the prompts of curation, told apart by their wording."""

import json

from bagpiper_jax.curation.judging import DIMENSIONS

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


def marks(everywhere: int = 4, **single: int) -> str:
    table = {group: dict.fromkeys(names, everywhere) for group, names in DIMENSIONS.items()}
    for name, mark in single.items():
        group, _, item = name.partition("__")
        table[group][item] = mark
    return json.dumps(table)


def stage_of(messages: list) -> str:
    content = messages[-1]["content"]
    if not isinstance(content, str):
        return "caption"
    starts = {"Below is the description": "tags", "Someone asks": "requests", "You judge": "judge"}
    return next((stage for start, stage in starts.items() if content.startswith(start)), "reasoning")


def answer(messages: list) -> str:
    """A good answer to whatever stage asks."""
    requests = {"persona": 2, "realistic": REALISTIC, "imaginary": IMAGINARY}
    return {
        "caption": "Rain falls softly and a calm woman says good morning, then it is quiet again.",
        "tags": f"Here you are:\n```json\n{json.dumps(TAGS)}\n```",
        "requests": json.dumps(requests),
        "reasoning": f"<think>{REASONING}</think>",
        "judge": marks(),
    }[stage_of(messages)]
