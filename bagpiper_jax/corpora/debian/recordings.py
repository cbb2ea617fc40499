"""What a builder knows of a recording before it hears it: speech prompts, labelled sounds, music tracks."""

import dataclasses
import fnmatch
import gzip
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bagpiper_jax.corpora.assembly import Reject
from bagpiper_jax.corpora.debian.packages import Package
from bagpiper_jax.outcomes import RecordError

_TABLE = Path(__file__).with_name("sounds.toml")
_KINDS = ("sound", "percussion", "music", "skip")


@dataclasses.dataclass(frozen=True)
class Recording:
    """A file, or a stretch of one, with what its package says of it.

    Attributes:
        id: unique in the corpus.
        kind: speech, sound, percussion, music or score; each but sound and speech is of the music domain.
        path: the file; for scores that of the score.
        label: a sound's label, a music's instrument, a spoken text.
        group: what must stay within one split.
        stratum: groups are split within a stratum.
        start, seconds: the stretch, as fractions of what the file leaves free and in seconds; 0 takes all.
    """

    id: str
    kind: str
    path: str
    label: str
    group: str
    stratum: str
    source: str
    licence: str
    language: str = "en"
    voice: str = ""
    start: float = 0.0
    seconds: float = 0.0

    @property
    def domain(self) -> str:
        return self.kind if self.kind in ("speech", "sound") else "music"


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker of the prompts, as the packages' CREDITS name them; `split` where voices are held out."""

    name: str
    gender: str
    accent: str | None
    licence: str
    split: str


VOICES = {
    "en_US_f_Allison": Voice("allison", "female", "American", "CC-BY-SA-3.0", "train"),
    "es_MX_f_Allison": Voice("allison", "female", "Mexican", "CC-BY-SA-3.0", "train"),
    "fr_CA_f_June": Voice("june", "female", "Canadian", "CC-BY-SA-3.0", "test"),
    "it_IT_m_Carlo": Voice("carlo", "male", None, "CC-BY-3.0", "train"),
    "ru_RU_f_IvrvoiceRU": Voice("ivrvoice-ru", "female", None, "CC-BY-3.0", "validation"),
}
"""By folder. English and Spanish are one person, so they cannot part. Training sees a woman and a man."""

LANGUAGES = ("en", "es", "fr", "it", "ru")


def read_transcripts(package: Package) -> dict[str, str]:
    """Prompt name → what is spoken, from a `core-sounds-XX.txt.gz`; see `parse_transcripts`."""
    found = list(package.root.glob("usr/share/doc/*/core-sounds-*.txt.gz"))
    if len(found) != 1:
        return {}
    return parse_transcripts(gzip.decompress(found[0].read_bytes()).decode("utf-8-sig"))


def parse_transcripts(text: str) -> dict[str, str]:
    """Reads lines `name: words`; comments start with `;`. Remarks in brackets are cut; "" is left of mere remarks."""
    transcripts = {}
    for line in text.splitlines():
        name, colon, words = line.partition(":")
        if colon and not line.startswith(";"):
            spoken = re.sub(r"\[[^]]*\]|\([^)]*\)", " ", words)
            transcripts[name.strip()] = " ".join(spoken.split())
    return transcripts


def speech(sounds: Package, texts: Package) -> Iterator[Recording | Reject]:
    """The prompts of one language; a prompt without spoken text is a reject."""
    transcripts = read_transcripts(texts)
    for path in sorted(sounds.root.rglob("*.g722")):
        folder = next(name for name in path.parts if name in VOICES)
        name = "/".join(path.with_suffix("").parts[path.parts.index(folder) + 1 :])
        voice = VOICES[folder]
        record_id = f"{folder[:2]}-{voice.name}-{name.replace('/', '-')}"
        words = transcripts.get(name)
        if not words:
            reason = "no_transcript" if words is None else "no_speech"
            yield _reject(
                record_id, sounds, reason, f"{name} is not in the package's text, or only as a remark"
            )
            continue
        yield Recording(
            record_id, "speech", str(path), words, f"speaker/{voice.name}", "speech", sounds.name, voice.licence,
            language=folder[:2], voice=folder,
        )  # fmt: skip


def sounds(package: Package, table: Mapping | None = None) -> Iterator[Recording | Reject]:
    """The labelled recordings of one package of `sounds.toml`.

    A file that the table does not know, as after an update of the package, is a reject `no_label`.
    """
    entry = (table or load_table())[package.name]
    for path in sorted(package.root.rglob(f"*{entry['suffix']}")):
        name = path.name.removesuffix(entry["suffix"])
        try:
            kind, label = classify(entry, name)
        except RecordError as error:
            yield Reject.by(error, package.name, 0, name)
            continue
        group = first_match(entry.get("group", {}), name) or re.sub(r"[\d.]+$", "", name)
        yield Recording(
            f"{package.name.split('-')[0]}-{name}", kind, str(path), label, f"{package.name}/{group}",
            f"{package.name}/{kind}", package.name, first_match(entry.get("licences", {}), name) or entry["licence"],
        )  # fmt: skip


def load_table() -> dict:
    """`sounds.toml`."""
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def classify(entry: Mapping, name: str) -> tuple[str, str]:
    """(kind, label) of a file. Raises RecordError where the table skips it or does not know it."""
    found = [(kind, label) for kind in _KINDS for label in matches(entry.get(kind, {}), name)]
    if not found:
        raise RecordError("no_label", f"{name} is not in sounds.toml", "add a label")
    kind, label = found[0]
    if kind == "skip":
        raise RecordError(
            label, f"{name} is skipped in sounds.toml", "give it a label there if you know better"
        )
    return kind, label


def matches(patterns: Mapping[str, str], name: str) -> list[str]:
    """The values of all patterns that match."""
    return [value for pattern, value in patterns.items() if fnmatch.fnmatchcase(name, pattern)]


def first_match(patterns: Mapping[str, str], name: str) -> str:
    return next(iter(matches(patterns, name)), "")


def tracks(
    package: Package, genre: str, licence: str, excerpts: int, seconds: float, rng
) -> Iterator[Recording]:
    """`excerpts` stretches of each music track, each at a random place of its own part of the track."""
    for path in sorted(package.root.rglob("*.ogg")):
        name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
        for index in range(excerpts):
            yield Recording(
                f"{name}-{index:02d}", "music", str(path), genre, f"{package.name}/{name}", f"{package.name}/track",
                package.name, licence, start=(index + float(rng.random())) / excerpts, seconds=seconds, voice="track",
            )  # fmt: skip


def _reject(record_id: str, package: Package, reason: str, detail: str) -> Reject:
    return Reject(package.name, 0, record_id, reason, detail, "none; the package says no more")
