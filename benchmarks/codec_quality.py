"""What a codec leaves of held-out recordings, by domain and by bitrate: original against copy.

    python benchmarks/codec_quality.py [--codec=FILE] [--corpora=corpora/embedded,corpora/debian] [--split=test]
        [--streams=1,2,4,8] [--clips=200] [--output=runs/codec_quality]

Copies are made of the leading streams alone, one number of them after the other. Measured are the mean absolute
difference of 80-band natural-log mels, and STOI of all that is spoken, joined, since words are short; of clips of
speech DNSMOS P.835, and of what is spoken in English the word error rate of Whisper tiny.en, which this project did
not train. Writes results.json and prints a Markdown table. Needs the `evaluation` extra; a measure whose package is
missing is left out, and the table says so.
"""

import argparse
import collections
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.encoders import codec_report
from bagpiper_jax.encoders.codec_report import HeldOutClip
from bagpiper_jax.encoders.waveforms import Waveforms
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import open_evaluator
from bagpiper_jax.evaluation.metrics.words.transcripts import qwen2_audio
from bagpiper_jax.evaluation.metrics.words.word_errors import total_rate, word_errors
from bagpiper_jax.manifest import Clip
from bagpiper_jax.models.codecs.xcodec import storage
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True)
class Recording:
    """A held-out clip with what is said in it in English, if anything."""

    corpus: str
    heard: HeldOutClip
    said: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, default=storage.NANO)
    parser.add_argument("--corpora", default="corpora/embedded")
    parser.add_argument("--split", default="test")
    parser.add_argument("--streams", default="1,2,4,8", help="numbers of leading streams")
    parser.add_argument(
        "--clips", type=int, default=200, help="at most so many of each corpus, evenly spread"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/codec_quality"))
    given = parser.parse_args()
    recordings = [
        each
        for corpus in given.corpora.split(",")
        for each in held_out(Path(corpus), given.split, given.clips)
    ]
    streams = [int(count) for count in given.streams.split(",")]
    results = measure(given.codec, recordings, streams, Judges(open_evaluator))
    given.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**results, "split": given.split}, indent=1)
    (given.output / "results.json").write_text(text + "\n", encoding="utf-8")
    print(table(results))


def held_out(corpus: Path, split: str, most: int) -> list[Recording]:
    """Readable clips of a split. Raises CorpusAudioError: it has none."""
    waveforms = Waveforms([corpus], split)
    chosen = np.linspace(0, len(waveforms) - 1, min(most, len(waveforms))).astype(int)
    read = [(waveforms.clips[index][1], waveforms.read(index)) for index in chosen]
    return [
        Recording(corpus.name, HeldOutClip.of(clip, waveform), english(clip))
        for clip, waveform in read
        if waveform is not None
    ]


def english(clip: Clip) -> str:
    """What is said in a clip, if it is all in English and all told; else nothing."""
    turns = (clip.annotation or {}).get("turns", ())
    known = all(turn.get("language", "en") == "en" and turn["text"] for turn in turns)
    return " ".join(turn["text"] for turn in turns) if known else ""


def measure(path: Path, recordings: Sequence[Recording], streams: Sequence[int], judges: "Judges") -> dict:
    """Scores by corpus, domain and number of streams; those of the originals stand beside them."""
    parameters, config = storage.load_codec(path)
    groups = collections.defaultdict(list)
    for each in recordings:
        if len(each.heard.waveform) >= config.hop:
            groups[each.corpus, each.heard.domain].append(each)
    rows = []
    for (corpus, domain), members in sorted(groups.items()):
        place = {"corpus": corpus, "domain": domain, "clips": len(members)}
        originals = [each.heard.waveform for each in members]
        rows.append({**place, "streams": ORIGINAL, "kbps": None, **judges.of(members, originals)})
        for count in streams:
            leading = only_leading(parameters, count)
            report, copies = codec_report.measure(leading, config, [each.heard for each in members])
            kbps = count * math.log2(config.codebook_size) * config.sample_rate / config.hop / 1000
            told = {"mel": report.mel[domain], "stoi": report.stoi, "speech_seconds": report.speech_seconds}
            rows.append({**place, "streams": count, "kbps": kbps, **told, **judges.of(members, copies)})
    return {
        "codec": LoadedXCodec(parameters, config).fingerprint,
        "judges": judges.versions,
        "missing": judges.missing,
        "rows": rows,
    }


def only_leading(parameters: dict, count: int) -> dict:
    """The codec whose later code vectors are zeros: the leading codes stay what they are, the others add nothing."""
    books = np.array(parameters["quantizer/embed"])
    books[count:] = 0
    return {**parameters, "quantizer/embed": books}


class Judges:
    """Whisper and DNSMOS, where they are installed.

    Attributes:
        versions: of those that are there, by name.
        missing: what the others need, by name.
    """

    def __init__(self, open_judge: Callable):
        self.versions, self.missing, self._open = {}, {}, {}
        for name in ("whisper", "dnsmos"):
            try:
                self._open[name] = judge = open_judge(name)
                self.versions[judge.name] = judge.version
            except MissingEvaluatorError as error:
                self.missing[name] = str(error)

    def of(self, members: Sequence[Recording], waveforms: Sequence[np.ndarray]) -> dict:
        """Word error rate with its number of words, and the mean of DNSMOS's overall opinion."""
        found = {}
        if "whisper" in self._open:
            errors = list(self._errors(members, waveforms))
            found |= {"wer": total_rate(errors), "words": sum(each.words for each in errors)}
        if "dnsmos" in self._open:
            pairs = zip(members, waveforms, strict=True)
            opinions = [
                self._open["dnsmos"].opinions_of(wave)["ovrl"]
                for each, wave in pairs
                if each.heard.domain == "speech"
            ]
            found |= {"dnsmos": float(np.mean(opinions)) if opinions else None}
        return found

    def _errors(self, members, waveforms) -> Iterator:
        with tempfile.TemporaryDirectory() as folder:
            for each, waveform in zip(members, waveforms, strict=True):
                if each.said:
                    path = Path(folder, "clip.wav")
                    audio.write(path, np.clip(waveform, -1, 1))
                    heard = self._open["whisper"].transcribe(path, "en")
                    yield word_errors(qwen2_audio(each.said), qwen2_audio(heard))


def table(results: dict) -> str:
    """Markdown of the results."""
    head = "| corpus, domain | clips | streams | kbit/s | mel | STOI | DNSMOS | WER (words) |"
    rows = [_row(each) for each in results["rows"]]
    notes = [f"\n{name}: {why}" for name, why in results["missing"].items()]
    return "\n".join([f"Codec {results['codec']}", "", head, "|" + "---|" * 8, *rows, *notes])


def _row(row: dict) -> str:
    def number(name: str, digits: int, scale: float = 1, unit: str = "") -> str:
        value = row.get(name)
        return "–" if value is None else f"{value * scale:.{digits}f}{unit}"

    wer = number("wer", 1, 100, " %") + (f" ({row['words']})" if row.get("words") else "")
    cells = (
        f"{row['corpus']}, {row['domain']}", row["clips"], row["streams"], number("kbps", 2), number("mel", 3),
        number("stoi", 3), number("dnsmos", 2), wer,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
