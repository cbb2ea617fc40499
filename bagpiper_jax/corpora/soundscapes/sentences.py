"""Short sentences of a small grammar. What is held out are pairings of a subject and an object."""

import dataclasses

import numpy as np

SUBJECTS = (
    "doctor", "teacher", "farmer", "sailor", "baker", "painter", "driver", "singer", "lawyer", "nurse",
)  # fmt: skip
VERBS = ("carries", "finds", "sells", "hides", "paints", "cleans", "holds", "wants", "buys", "likes")
ADJECTIVES = ("red", "green", "yellow", "old", "small", "heavy", "broken", "wooden")
OBJECTS = (
    "apple", "window", "table", "candle", "ladder", "basket", "carpet", "kettle", "bottle", "mirror",
)  # fmt: skip
PLACES = (
    "", "in the garden", "near the river", "at the market", "on the island", "behind the house", "under the bridge",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sentence:
    """`The <subject> <verb> the <adjective> <object> <place>.`; the place may be empty."""

    subject: str
    verb: str
    adjective: str
    object: str
    place: str

    @property
    def text(self) -> str:
        place = f" {self.place}" if self.place else ""
        return f"The {self.subject} {self.verb} the {self.adjective} {self.object}{place}."

    @property
    def held_out(self) -> bool:
        """One object of each subject, and so one subject of each object, is kept for validation and test."""
        return SUBJECTS.index(self.subject) == OBJECTS.index(self.object)


def draw(rng: np.random.Generator, held_out: bool) -> Sentence:
    """A sentence of those that are held out, or of the others."""
    while True:
        words = (SUBJECTS, VERBS, ADJECTIVES, OBJECTS, PLACES)
        sentence = Sentence(*(part[rng.integers(len(part))] for part in words))
        if sentence.held_out == held_out:
            return sentence
