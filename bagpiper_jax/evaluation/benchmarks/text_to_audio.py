"""Captions to sound, as AudioCaps and MusicCaps are used: distance to the recordings, fit to the caption, quality.

Its files are a CSV file of captions with the recordings in `audio/` beside it (`generated/captioned.py`). Every score
is named after the model that it is made with, and one whose model is not here says so. What "AudioCaps test" is differs
from paper to paper, so scores tell how many captions there were, and a digest of their ids.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.generated import captioned, sets, sounds
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.evaluators import sound
from bagpiper_jax.evaluation.metrics import duration, tags

_OPINIONS = ("dnsmos", "audiobox")
"""DNSMOS is about speech, and says little of other sound."""

_TAGGERS = (("panns", "yamnet"), ("musicnn",))
"""The first of each says whether a clip and its recording have the same tags; musicnn knows music alone."""


class TextToAudio:
    """The benchmark `text_to_audio`. The captions of one recording are a cluster."""

    name, version, failed, unit = "text_to_audio", "1", None, ""
    overlaps = ("audiocaps", "musiccaps", "audioset", "clotho", "wavcaps")

    def __init__(self, files: Path, tools: Tools):
        self._captions, self._tools = captioned.read(files), tools

    def items(self) -> Iterable[Item]:
        for each in self._captions:
            reference = str(each.reference) if each.reference else ""
            record = {"caption": each.text, "seconds": each.seconds, "reference": reference}
            yield Item(each.id, Asked(each.text, wants="audio"), record, cluster=each.clip)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """Error of the length in seconds, agreement of tags, CLAP's cosine and opinions, as far as models are here."""
        with sounds.audible(reply) as path:
            found = self._length(item, path) | self._tags(item, path)
            if clap := self._at_hand("clap"):
                found[f"clap_{clap.name}"] = Verdict(clap.match(item.record["caption"], path))
            for name in _OPINIONS:
                if judge := self._at_hand(name):
                    found |= {
                        f"{judge.name}_{on}": Verdict(value) for on, value in judge.opinions(path).items()
                    }
        return found

    def recorded(self, path: Path) -> Mapping[str, Reply]:
        """The sounds in a folder, `<id>.wav` each. Raises BenchmarkError."""
        return sounds.recorded(path)

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """What is said of the whole set first; then the means over clips, and the evaluators that are missing."""
        pairs = {each.item.id: (_path(each.item.record["reference"]), each.reply.audio) for each in judged}
        digest = hashlib.sha256("\n".join(sorted(pairs)).encode()).hexdigest()[:12]
        recordings = {reference for reference, _ in pairs.values() if reference}
        note = f"{len(pairs)} captions, ids {digest}, {len(recordings)} recordings"
        found = sets.scores(self._tools, pairs, note)
        for reading in dict.fromkeys(name for each in judged for name in each.verdicts):
            found.append(sounds.mean(judged, reading, "s" if reading == "duration_error" else ""))
        missing = {name: sounds.at_hand(self._tools, name)[1] for name in ("musicnn", "clap", *_OPINIONS)}
        return found + [
            Score(name, None, "", 0, len(judged), note=why) for name, why in missing.items() if why
        ]

    def _at_hand(self, *names: str):
        """The first of these evaluators that is here, or None."""
        return sounds.at_hand(self._tools, *names)[0]

    def _length(self, item: Item, path: Path) -> dict[str, Verdict]:
        reference, seconds = _path(item.record["reference"]), sound.seconds(path)
        wanted = sound.seconds(reference) if reference else item.record["seconds"]
        if not wanted:
            return {}
        remarks = sound.remarks(path)
        reason = f"{wanted:.2f} s wanted" + (f"; {remarks}" if remarks else "")
        return {"duration_error": Verdict(duration.error(wanted, seconds), f"{seconds:.2f} s", reason)}

    def _tags(self, item: Item, path: Path) -> dict[str, Verdict]:
        reference, found = item.record["reference"], {}
        for tagger in (self._at_hand(*names) for names in _TAGGERS if reference):
            if tagger is not None:
                truth, heard = (tagger.hear(each).clip_logits for each in (Path(reference), path))
                said = ", ".join(tagger.labels[place] for place in tags.strongest(heard))
                found[f"tag_agreement_{tagger.name}"] = Verdict(tags.agreement(truth, heard), said)
        return found


def _path(name: str) -> Path | None:
    return Path(name) if name else None
