"""A corpus through the codec into its code store: sharded over devices, restartable, every reject counted.

A clip's codes depend on the clip alone: the codec masks padding, and the padded length follows from the clip's
own length, so neither batch mates nor the order of the corpus can change a code.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from bagpiper_jax import audio, files
from bagpiper_jax.data import codes as store
from bagpiper_jax.data.audio_digest import audio_digest
from bagpiper_jax.manifest import MANIFEST, Clip, read_manifest
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.codecs.protocol import Codec
from bagpiper_jax.models.codecs.xcodec.storage import NANO
from bagpiper_jax.outcomes import Rejected
from bagpiper_jax.pipelines.each import for_each
from bagpiper_jax.runs.progress import Underway

_log = logging.getLogger(__name__)

_PLAN = "plan.json"


@dataclasses.dataclass(frozen=True)
class TokenizeConfig:
    """What to tokenize.

    Attributes:
        corpus: manifest directory; its `codes/<fingerprint>/` receives the codes.
        codec: safetensors file of the codec; the shipped one by default.
        batch_seconds: audio per batch and device, padding included.
        clips_per_shard: clips between two points from which a killed job continues.
        readers: threads that read audio.
        beam: options of an Apache Beam pipeline that encodes the shards on CPUs, such as ('--runner=DirectRunner',);
            without any, this process's devices do.
        shard: "i/n" has this machine encode only its part of the store's shards, the i-th of n counted from 0. The
            job without it joins what they wrote. The processes of a pod divide the work among themselves.
    """

    corpus: str
    codec: str = str(NANO)
    batch_seconds: float = 80.0
    clips_per_shard: int = 512
    readers: int = 2
    beam: tuple[str, ...] = ()
    shard: str = "0/1"


def tokenize(config: TokenizeConfig) -> Path:
    """Fills the code store of a corpus and returns its directory; finished shards are kept.

    Each process encodes its shards on its own devices, so that none waits for another; the first one joins them.

    Raises:
        ManifestError, CodecFileError: the corpus or the codec cannot be read.
        CodeStoreError: the store cannot be written.
    """
    codec = open_codec(config.codec)
    name = codec.fingerprint
    every = list(read_manifest(config.corpus))
    clips = [clip for clip in every if clip.audio]
    count = -(-len(clips) // config.clips_per_shard)
    shards = {
        store.shard_name(i, count): clips[i * config.clips_per_shard :][: config.clips_per_shard]
        for i in range(count)
    }
    directory = store.store_directory(config.corpus, name)
    sound, corpus = audio_digest(config.corpus, every), files.sha256(Path(config.corpus) / MANIFEST)
    plan = _StorePlan(name, sound, corpus, config.clips_per_shard)
    machine, machines = jobs_share(config.shard)
    with _writing(directory):
        if jax.process_index() == 0:
            _prepare(directory, plan)
        _meet("prepared")
        mine = {name: clips for i, (name, clips) in enumerate(shards.items()) if i % machines == machine}
        if config.beam:
            _encode_on_beam(config, mine, directory)
        else:
            _encode_missing(config, mine, codec, directory)
        _meet("encoded")
        if jax.process_index() or (machines > jax.process_count()):
            _log.info("%s: part %d of %d is encoded", directory, machine, machines)
            return directory
        return _finish(directory, list(shards), codec, plan)


def jobs_share(shard: str) -> tuple[int, int]:
    """(i, n): which part of the shards this process encodes, by `TokenizeConfig.shard` and its place in a pod.

    Raises:
        CodeStoreError: `shard` is not "i/n".
    """
    numbers = shard.split("/")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers) or not int(numbers[0]) < int(numbers[1]):
        raise store.CodeStoreError(
            f"TokenizeConfig.shard must be 'i/n' with i from 0 to n - 1, got {shard!r}"
        )
    machine, machines = map(int, numbers)
    processes = jax.process_count()
    return machine * processes + jax.process_index(), machines * processes


def _meet(where: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"tokenize_{where}")


def _encode_missing(
    config: TokenizeConfig, shards: dict[str, list[Clip]], codec: Codec, directory: Path
) -> None:
    waiting = {name: shard for name, shard in shards.items() if not (directory / name).exists()}
    total, left = (sum(map(len, some.values())) for some in (shards, waiting))
    with (
        ThreadPoolExecutor(config.readers) as readers,
        Underway("encoding clips", total, total - left) as underway,
    ):
        read = functools.partial(_read, Path(config.corpus), codec.hop)
        for name, shard, waveforms in _read_ahead(waiting.items(), read, readers):
            _write_shard(directory / name, shard, waveforms, codec, config.batch_seconds)
            underway.add(len(shard))


def _encode_on_beam(config: TokenizeConfig, shards: dict[str, list[Clip]], directory: Path) -> None:
    """The same in a pipeline, whose workers open the codec once each. Raises PipelineError."""
    waiting = [(name, shard) for name, shard in shards.items() if not (directory / name).exists()]
    if waiting:
        with Underway(f"encoding {len(waiting)} shards on Apache Beam"):
            work = functools.partial(_encode_piece, config, directory)
            counts = for_each("tokenize audio", waiting, work, config.beam)
        _log.info("Apache Beam counted %s", dict(sorted(counts.items())))


def _encode_piece(config: TokenizeConfig, directory: Path, piece: tuple[str, list[Clip]]) -> dict[str, int]:
    """What a shard's clips came to. One that another attempt finished is not encoded again."""
    name, shard = piece
    path, codec = directory / name, _opened(config.codec)
    if not path.exists():
        waveforms = [_read(Path(config.corpus), codec.hop, clip) for clip in shard]
        _write_shard(path, shard, waveforms, codec, config.batch_seconds)
    rejects = _rejects(path)
    counts = collections.Counter(f"rejected {reject['reason']}" for reject in rejects)
    return {"ok": len(shard) - len(rejects), **counts}


@functools.lru_cache(maxsize=1)
def _opened(path: str) -> Codec:
    return open_codec(path)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Explains what the disk refuses; what was finished stays."""
    try:
        yield
    except OSError as error:
        what = files.refusal(directory, error).what
        raise store.CodeStoreError(
            f"cannot write the codes {directory}: {what}. Free space or permissions there, and run "
            "tokenize_audio again; finished shards are kept"
        ) from error


def _read(corpus: Path, hop: int, clip: Clip) -> np.ndarray | Rejected:
    """The clip's waveform, or why it gets no codes."""
    try:
        waveform = audio.read(corpus / clip.audio)
    except audio.AudioError as error:
        return Rejected(error.reason, error.detail)
    except Exception as error:  # a file may be anything; the others go on
        _log.debug("clip %s gets no codes", clip.id, exc_info=error)
        return Rejected(f"error_{type(error).__name__}", f"{clip.audio}: {error}")
    if len(waveform) < hop:
        return Rejected("too_short", f"{len(waveform)} samples are no whole frame of {hop}")
    return waveform


def _read_ahead(waiting, read, readers: ThreadPoolExecutor) -> Iterator[tuple[str, list[Clip], list]]:
    """Each shard with its audio, the next shard being read meanwhile."""
    ahead = collections.deque()
    for name, shard in waiting:
        ahead.append((name, shard, [readers.submit(read, clip) for clip in shard]))
        if len(ahead) == 2:
            name, shard, results = ahead.popleft()
            yield name, shard, [result.result() for result in results]
    for name, shard, results in ahead:
        yield name, shard, [result.result() for result in results]


def _write_shard(path: Path, shard: list[Clip], waveforms: list, codec: Codec, batch_seconds: float) -> None:
    good = [i for i, waveform in enumerate(waveforms) if not isinstance(waveform, Rejected)]
    codes = codec.encode([waveforms[i] for i in good], batch_seconds)
    rejects = [
        {"id": clip.id, "reason": fault.reason, "detail": fault.detail}
        for clip, fault in zip(shard, waveforms, strict=True)
        if isinstance(fault, Rejected)
    ]
    files.replace(path.with_suffix(".rejects"), "".join(json.dumps(line) + "\n" for line in rejects))
    store.write_shard(path, [shard[i].id for i in good], codes, len(codec.codebooks))


@dataclasses.dataclass(frozen=True)
class _StorePlan:
    """What shards must agree on to belong to one store.

    Attributes:
        codec: the codec's fingerprint.
        audio: the digest of the corpus's audio.
        corpus: SHA-256 of its manifest.
        clips_per_shard: as in `TokenizeConfig`.
    """

    codec: str
    audio: str
    corpus: str
    clips_per_shard: int


def _prepare(directory: Path, plan: _StorePlan) -> None:
    """Makes the directory, and clears what an earlier plan left in it."""
    directory.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(directory)
    path, text = directory / _PLAN, json.dumps(dataclasses.asdict(plan), indent=1, sort_keys=True)
    if path.exists() and path.read_bytes() == text.encode():
        return
    stale = [old for pattern in ("shard-*", store.MANIFEST, store.REJECTS) for old in directory.glob(pattern)]
    if stale:
        _log.warning(
            "the corpus, its audio or the sharding changed: %d old files of %s are removed",
            len(stale),
            directory,
        )
    for old in sorted(stale, key=lambda old: old.name != store.MANIFEST):
        old.unlink()
    files.replace(path, text)


def _finish(directory: Path, names: list[str], codec: Codec, plan: _StorePlan) -> Path:
    lines = [line for shard in names for line in _rejects(directory / shard)]
    files.replace(directory / store.REJECTS, "".join(json.dumps(line) + "\n" for line in lines))
    reasons = collections.Counter(line["reason"] for line in lines)
    clips = frames = 0
    for shard in names:
        ids, offsets, _ = store.read_shard(directory / shard)
        clips, frames = clips + len(ids), frames + int(offsets[-1])
    manifest = {
        "fingerprint": plan.codec,
        "audio": plan.audio,
        "config": {
            "codebook_size": codec.codebooks[0],
            "num_codebooks": len(codec.codebooks),
            "sample_rate": codec.sample_rate,
            "hop": codec.hop,
        },
        "clips": clips,
        "frames": frames,
        "rejects": dict(sorted(reasons.items())),
        "shards": {shard: files.sha256(directory / shard) for shard in names},
    }
    files.replace(directory / store.MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    _log.info("%s: %d clips, %d frames, rejects %s", directory, clips, frames, dict(reasons) or "none")
    return directory


def _rejects(shard: Path) -> list[dict]:
    """The clips of a shard that got no codes. Raises CodeStoreError: their list is damaged."""
    path = shard.with_suffix(".rejects")
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [{name: line[name] for name in ("id", "reason", "detail")} for line in lines]
    except (ValueError, LookupError, TypeError) as error:
        raise store.CodeStoreError(
            f"{path} is damaged ({error}); delete it and {shard}, and run tokenize_audio again"
        ) from error
