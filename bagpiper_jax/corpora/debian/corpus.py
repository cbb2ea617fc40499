"""Builds the Debian corpus: what to take, how it is split, what is written about where it came from."""

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bagpiper_jax import files
from bagpiper_jax.captions import AudioAnnotation, describe
from bagpiper_jax.corpora import assembly
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.debian import packages, recordings, scores
from bagpiper_jax.corpora.debian.packages import Package
from bagpiper_jax.corpora.debian.process import Assignment, process
from bagpiper_jax.corpora.debian.recordings import LANGUAGES, VOICES, Recording
from bagpiper_jax.journal import Results
from bagpiper_jax.manifest import Clip

SOUNDS = ("lincity-ng-data", "minetest-data", "sonic-pi-samples")
MUSIC = "singularity-music"
SOUNDFONT = "timgm6mb-soundfont"
_MUSIC_LICENCE = "CC-BY-SA-3.0"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DebianCorpusConfig:
    """The Debian corpus.

    Attributes:
        directory: where the corpus is written; downloads and unpacked packages stay in its folder `work`.
        languages: of the speech prompts, among en, es, fr, it, ru.
        sound_packages: among `SOUNDS`.
        tracks: take excerpts of the music package's tracks.
        excerpts_per_track, excerpt_seconds: how much of each track, and of each score.
        num_scores: works rendered; 0 for none. Left out, and counted, where `music21` or `symusic` is missing.
        hold_out: "voice" keeps each speaker within one split; "prompt" keeps each sentence, in all languages,
            within one, and lets every voice occur in all.
        held_out: share of a stratum's clips that goes to validation, and as much again to test.
        seed: of excerpts, scores, instruments, tempi, splits and wording.
        min_seconds, max_seconds: accepted length.
        workers: processes.
    """

    directory: str
    languages: tuple[str, ...] = LANGUAGES
    sound_packages: tuple[str, ...] = SOUNDS
    tracks: bool = True
    excerpts_per_track: int = 8
    excerpt_seconds: float = 10.0
    num_scores: int = 300
    hold_out: str = "voice"
    held_out: float = 0.05
    seed: int = 0
    min_seconds: float = 0.2
    max_seconds: float = 30.0
    workers: int = 2

    def __post_init__(self):
        for name, given, known in (
            ("languages", self.languages, LANGUAGES),
            ("sound_packages", self.sound_packages, SOUNDS),
            ("hold_out", (self.hold_out,), ("voice", "prompt")),
        ):
            if not set(given) <= set(known):
                raise ValueError(
                    f"{name}: {', '.join(sorted(set(given) - set(known)))}; known: {', '.join(known)}"
                )
        if not 0 <= self.held_out < 0.5:
            raise ValueError("held_out must lie in [0, 0.5)")

    def package_names(self) -> tuple[str, ...]:
        """What has to be downloaded."""
        speech = [f"asterisk-core-sounds-{code}{kind}" for code in self.languages for kind in ("-g722", "")]
        music = [MUSIC] * self.tracks + [SOUNDFONT] * bool(self.num_scores and not scores.available())
        return (*speech, *self.sound_packages, *music)


def build(config: DebianCorpusConfig) -> Path:
    """Builds the corpus and returns its directory; a killed build continues where it was.

    Raises:
        CorpusError: apt is missing, a package cannot be had, or nothing usable was found.
    """
    directory = Path(config.directory)
    assembly.begin(directory, "debian")
    with files.explained(directory / "work"):
        obtained = {p.name: p for p in packages.obtain(config.package_names(), directory / "work")}
    found = list(_recordings(config, obtained))
    rejects = [item for item in found if isinstance(item, Reject)]
    wanted = [item for item in found if isinstance(item, Recording)]
    _require_unique(wanted)
    if config.hold_out == "prompt":
        wanted = [_by_prompt(recording) for recording in wanted]
    results = _process_all(config, wanted, obtained, directory)
    clips = _clips(config, wanted, results, rejects)
    _attribute(directory, obtained.values(), clips)
    versions = {p.name: {"version": p.version, "sha256": p.sha256} for p in obtained.values()}
    facts = {
        "corpus": "debian", "config": dataclasses.asdict(dataclasses.replace(config, directory="")),
        "packages": versions, "renderer": scores.versions() if config.num_scores else {},
    }  # fmt: skip
    return assembly.finish(directory, clips, rejects, facts)


def _recordings(config: DebianCorpusConfig, obtained: Mapping[str, Package]) -> Iterable[Recording | Reject]:
    for code in config.languages:
        name = f"asterisk-core-sounds-{code}"
        yield from recordings.speech(obtained[f"{name}-g722"], obtained[name])
    for name in config.sound_packages:
        yield from recordings.sounds(obtained[name])
    if config.tracks:
        generator = np.random.default_rng(config.seed)
        yield from recordings.tracks(
            obtained[MUSIC],
            "electronic",
            _MUSIC_LICENCE,
            config.excerpts_per_track,
            config.excerpt_seconds,
            generator,
        )
    if config.num_scores and (hindrance := scores.available()):
        _log.warning("%d rendered scores are left out: %s", config.num_scores, hindrance)
        for index in range(config.num_scores):
            yield Reject("music21", 0, f"score-{index}", "no_renderer", hindrance, "install the debian extra")
    elif config.num_scores:
        yield from scores.scores(config.num_scores, config.excerpt_seconds, config.seed)


def _require_unique(found: Sequence[Recording]) -> None:
    seen = collections.Counter(recording.id for recording in found)
    repeated = [record_id for record_id, number in seen.items() if number > 1]
    if repeated:
        raise CorpusError(f"ids repeat: {', '.join(repeated[:5])}; the packages differ from those known")


def _by_prompt(recording: Recording) -> Recording:
    """With the prompt's name as group: en-allison-digits-1 and fr-june-digits-1 stay together."""
    if recording.kind != "speech":
        return recording
    prefix = f"{recording.language}-{VOICES[recording.voice].name}-"
    return dataclasses.replace(recording, group=f"prompt/{recording.id.removeprefix(prefix)}")


def _process_all(
    config: DebianCorpusConfig, wanted: Sequence[Recording], obtained: Mapping[str, Package], directory: Path
) -> dict[str, dict]:
    """Each recording's result by id; finished ones come from the journal."""
    soundfont = next(obtained[SOUNDFONT].root.rglob("*.sf2"), None) if SOUNDFONT in obtained else None
    assignments = [
        Assignment(r, str(directory / "audio" / f"{r.id}.flac"), str(soundfont or ""), config.min_seconds,
            config.max_seconds, config.seed)
        for r in wanted
    ]  # fmt: skip
    journal = Results(directory / assembly.JOURNAL)
    keys = {assignment: _key(assignment, directory, obtained) for assignment in assignments}
    results = {}
    for assignment in assignments:
        known = journal.get(keys[assignment])
        if known and ("reason" in known or Path(assignment.target).is_file()):
            results[assignment.recording.id] = known
    pending = [assignment for assignment in assignments if assignment.recording.id not in results]
    _log.info("%d recordings to process, %d done before", len(pending), len(results))
    try:
        for assignment, result in assembly.parallel_map(
            process, pending, config.workers, lambda a: a.recording.path
        ):
            results[assignment.recording.id] = result
            journal.add(keys[assignment], result)
    finally:
        journal.close()
    return results


def _key(assignment: Assignment, directory: Path, obtained: Mapping[str, Package]) -> str:
    """Changes with the package, the table's entry or what is asked; not with where the corpus lies."""
    recording = dataclasses.replace(assignment.recording, path=Path(assignment.recording.path).name)
    source = obtained.get(recording.source)
    asked = dataclasses.replace(
        assignment, recording=recording, target="", soundfont=Path(assignment.soundfont).name
    )
    return assembly.digest(dataclasses.asdict(asked), source and source.sha256)


def _clips(
    config: DebianCorpusConfig,
    wanted: Sequence[Recording],
    results: Mapping[str, dict],
    rejects: list[Reject],
) -> list[Clip]:
    usable = [recording for recording in wanted if "seconds" in results[recording.id]]
    for recording in wanted:
        result = results[recording.id]
        if "reason" in result:
            rejects.append(Reject(recording.source, 0, recording.id, **result))
    splits = assign_splits(usable, config)
    return [_clip(config, recording, results[recording.id], splits[recording.group]) for recording in usable]


def _clip(config: DebianCorpusConfig, recording: Recording, result: Mapping, split: str) -> Clip:
    annotation = AudioAnnotation.from_json(result["annotation"])
    generator = np.random.default_rng(int(assembly.digest(config.seed, recording.id), 16))
    return Clip(
        id=recording.id,
        split=split,
        domain=recording.domain,
        audio=f"audio/{recording.id}.flac",
        duration=result["seconds"],
        caption=describe(annotation, "flowing", generator),
        annotation=result["annotation"],
        source=recording.source,
        licence=recording.licence,
        language=recording.language,
        group=recording.group,
    )


def assign_splits(usable: Sequence[Recording], config: DebianCorpusConfig) -> dict[str, str]:
    """Group → split. Within each stratum groups are drawn for test, then validation, until each has its share.

    A stratum of fewer than three groups stays in training. Voices have their splits in `VOICES`.
    """
    strata = collections.defaultdict(collections.Counter)
    splits = {}
    for recording in usable:
        if recording.group.startswith("speaker/"):
            splits[recording.group] = VOICES[recording.voice].split
        else:
            strata[recording.stratum][recording.group] += 1
    for _, groups in sorted(strata.items()):
        splits.update({group: split for group, split in _draw(groups, config).items() if group not in splits})
    return splits


def _draw(groups: Mapping[str, int], config: DebianCorpusConfig) -> dict[str, str]:
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{config.seed}:{group}".encode()).digest())
    splits = dict.fromkeys(order, "train")
    if len(order) < 3 or not config.held_out:
        return splits
    share = config.held_out * sum(groups.values())
    # A group much larger than the share, such as one drum kit among single drums, would swallow it.
    largest = max(2 * share, sorted(groups.values())[1])
    candidates = iter([group for group in order if groups[group] <= largest])
    for split in ("test", "validation"):
        filled = 0
        while filled < share and (group := next(candidates, None)) is not None:
            splits[group] = split
            filled += groups[group]
    return splits


def _attribute(directory: Path, obtained: Iterable[Package], clips: Sequence[Clip]) -> None:
    """ATTRIBUTION.md and the packages' own copyright files, so that the corpus can be passed on lawfully."""
    folder = directory / "attribution"
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Attribution", "",
        "Clips are excerpts, resampled to 16 kHz mono, of these sources; each clip's licence stands in the manifest.",
        "", "| source | licence | clips |", "|---|---|---|",
    ]  # fmt: skip
    table = collections.Counter((clip.source, clip.licence) for clip in clips)
    lines += [f"| {source} | {licence} | {number} |" for (source, licence), number in sorted(table.items())]
    lines += ["", "| Debian package | version | sha256 | authors and terms |", "|---|---|---|---|"]
    for package in sorted(obtained, key=lambda p: p.name):
        copy = folder / f"{package.name}.copyright"
        files.replace(copy, package.copyright().read_bytes())
        lines.append(f"| {package.name} | {package.version} | `{package.sha256}` | attribution/{copy.name} |")
    lines += [
        "",
        "Scores are from the corpus of music21 (public-domain music; the encodings keep their contributors' terms, "
        "stated in each file and in music21's corpus/license.txt). Rendered with TimGM6mb, GPL-2, by Tim Brechbill.",
        "Prompts: Allison Smith (en, es), June Wallack (fr), Carlo Flora (it), IvrvoiceRU (ru). Music: Max McCracken.",
    ]
    files.replace(directory / "ATTRIBUTION.md", "\n".join(lines) + "\n")
