"""From a clip to the features that every task emits: authoring a dialogue, then encoding it.

An author is a pure function `(clip, rng) -> [[role, modality, content], …]`, or `-> Variants` of such dialogues. It
raises `NotApplicable` for a clip that the task is not about (an audio task given a text document) and `RecordError`
for a faulty one. Both are counted, by reason, in the manifest of the cache.
"""

import functools
import json
import logging
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from bagpiper_jax import audio, files, outcomes
from bagpiper_jax.data.codes import CodeStore, CodeStoreError
from bagpiper_jax.dialogue import MODALITIES, ROLES, DialogueError, Message
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import Fatal, Kept, Outcome, RecordError, Rejected, Skipped
from tasks import settings, sources
from tasks.clip_source import CARRIED_FEATURES

Author = Callable[[Clip, np.random.Generator], list]
_log = logging.getLogger(__name__)


class Variants(tuple):
    """Dialogues of one clip, of any lengths. Each epoch of a run draws one of them, all with equal chances.

    What they share is cached once; one that is given twice comes twice as often.
    """

    def __new__(cls, *dialogues: list):
        return super().__new__(cls, dialogues)


class NotApplicable(Exception):
    """The task is not about this clip; `args[0]` is the reason it is counted under."""


def _feature(rank: int, dtype: tf.DType) -> seqio.Feature:
    return seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False, rank=rank, dtype=dtype, required=True)


OUTPUT_FEATURES = {
    "msg_role": _feature(1, tf.int32),
    "msg_modality": _feature(1, tf.int32),
    "msg_start": _feature(1, tf.int32),
    "msg_len": _feature(1, tf.int32),
    "msg_weight": _feature(1, tf.float32),
    "msg_variant": _feature(1, tf.int32),
    "text": _feature(1, tf.int32),
    "codes": _feature(2, tf.int32),
    "audio": _feature(0, tf.string),
}
"""The contract of `data.records`: all tasks emit all keys, as SeqIO demands of a mixture."""


def dialogue_preprocessor(
    dataset: tf.data.Dataset, author: Author, corpus: str, task: str
) -> tf.data.Dataset:
    """Turns clips into the output features, plus `id`, `outcome` ("" or why there is no dialogue) and `record`.

    The last is the clip as the source gave it, for the list of rejects.
    """
    encode = functools.partial(encode_example, author=author, corpus=corpus, task=task)
    names = [*OUTPUT_FEATURES, "id", "outcome"]
    dtypes = [feature.dtype for feature in OUTPUT_FEATURES.values()] + [tf.string, tf.string]

    def to_features(example):
        given = [example[name] for name in CARRIED_FEATURES if name in example]
        values = tf.numpy_function(encode, given, dtypes, stateful=False)
        features = dict(zip(names, values, strict=True))
        for name, feature in OUTPUT_FEATURES.items():
            features[name].set_shape([None] * feature.rank)
        features["id"].set_shape([])
        features["outcome"].set_shape([])
        return features | {"record": example["clip"]}

    # Not parallel: the work is Python's, and one call at a time keeps memory flat.
    dataset = dataset.map(to_features)
    if settings.current().report_rejects:
        return dataset
    return dataset.filter(_is_usable)


def encoder_of(task: seqio.Task) -> Callable[[dict], dict] | None:
    """What `dialogue_preprocessor` makes of one example, if a task has no other preprocessor; else None.

    In place of its JSON the example may hold the clip.
    """
    (first, *others) = task.preprocessors or [None]
    if (
        others
        or not isinstance(first, functools.partial)
        or first.func is not dialogue_preprocessor
        or first.args
    ):
        return None
    encode = functools.partial(encode_example, **first.keywords)
    encode_read = functools.partial(encode_clip, **first.keywords)
    names = [*OUTPUT_FEATURES, "id", "outcome"]

    def features(example: dict) -> dict:
        clip = example["clip"]
        if isinstance(clip, Clip):
            values, record = encode_read(clip), vars(clip)
        else:
            values, record = encode(*(example[name] for name in CARRIED_FEATURES if name in example)), clip
        return {**dict(zip(names, values, strict=True)), "record": record}

    return features


def _is_usable(example: dict) -> tf.Tensor:
    return tf.ensure_shape(tf.numpy_function(_is_kept, [example["outcome"]], tf.bool, stateful=False), [])


def _is_kept(encoded: bytes) -> bool:
    """Raises RuntimeError: no example can succeed."""
    outcome = outcomes.decode(encoded)
    if isinstance(outcome, Fatal):
        raise RuntimeError(outcome.explanation)
    return isinstance(outcome, Kept)


def encode_example(
    line: bytes,
    origin: bytes = b"",
    fault: bytes = b"",
    names: Sequence[bytes] = (),
    sounds: Sequence[bytes] = (),
    *,
    author: Author,
    corpus: str,
    task: str,
) -> list:
    """The features of one clip, in the order of `OUTPUT_FEATURES`, then id and `outcomes.encode`d outcome.

    Args:
        line, origin, fault, names, sounds: `CARRIED_FEATURES` of a source; a manifest's only gives the line.
    """
    place = origin.decode("utf-8", "replace")
    if fault:
        return [*_no_features().values(), origin, fault]
    by_name = {name.decode(): sound for name, sound in zip(names, sounds, strict=True)}
    return encode_clip(Clip(**json.loads(line)), by_name, place, author=author, corpus=corpus, task=task)


def encode_clip(
    clip: Clip,
    sounds: Mapping[str, bytes] = types.MappingProxyType({}),
    place: str = "",
    *,
    author: Author,
    corpus: str,
    task: str,
) -> list:
    """`encode_example` of a clip as it was read, at a place that is named where it is faulty."""
    try:
        # A manifest is the owner's own and may speak of the corpora beside it; what carries its audio may be anyone's.
        current = settings.current()
        root = current.corpus_directory(corpus) if place else Path(current.data_root)
        features = encode_dialogue(author(clip, _generator(task, clip.id)), corpus, sounds, root)
        outcome: Outcome = Kept()
    except Exception as error:  # an author may be anyone's code; the clip is named, the others go on
        features, outcome = _no_features(), _outcome(error, place)
        if outcome.counted_as not in _told:
            _told.add(outcome.counted_as)
            _log.debug("%s: clip %s: %s", task, clip.id, outcome.counted_as, exc_info=error)
    return [*features.values(), clip.id.encode(), outcomes.encode(outcome)]


_told: set[str] = set()
"""Outcomes whose traceback was logged."""


def _outcome(error: Exception, place: str) -> Outcome:
    """What becomes of a clip for which the author, or the encoding of what it said, raised an error."""
    match error:
        case NotApplicable():
            return Skipped(str(error))
        case DialogueError():
            return Rejected("bad_dialogue", str(error), place=place)
        case CodeStoreError():
            return Fatal(str(error))
    return Rejected.by(error, place)


def encode_dialogue(
    dialogue: list | Variants,
    corpus: str,
    sounds: Mapping[str, bytes] = types.MappingProxyType({}),
    root: Path | None = None,
) -> dict[str, np.ndarray | bytes]:
    """Message table and payloads of an authored dialogue, or of all its variants; equal payloads stand once.

    Args:
        dialogue: [role, modality, content] triples.
        corpus: where codes, and audio that is not among `sounds`, are looked up.
        sounds: audio files that came with the clip, by the name that messages use.
        root: where files that messages name by their paths must lie; the corpus's directory by default.

    Raises:
        RecordError: empty text, unreadable audio or such that lies elsewhere, missing codes.
        DialogueError: unknown role or modality, or no message triples.
    """
    find = functools.partial(_file, corpus=corpus, sounds=sounds, root=root)
    texts, codes, waveforms, rows, heard = [], [], [], [], []
    ends, spans = {"text": 0, "codes": 0, "audio": 0}, {}
    for variant, message in _messages(dialogue):
        _require_content(message)
        key = message.modality, message.role == "assistant", message.content
        if key not in spans:
            kind, payload = _payload(message, corpus, find)
            {"text": texts, "codes": codes, "audio": waveforms}[kind].append(payload)
            spans[key] = ends[kind], len(payload)
            ends[kind] += len(payload)
            if kind == "audio":
                heard.append(message.content)
        rows.append((ROLES[message.role], MODALITIES[message.modality], *spans[key], variant))
    table = np.asarray(rows, np.int32).reshape(-1, 5)
    features = _no_features()
    for column, name in enumerate(("msg_role", "msg_modality", "msg_start", "msg_len", "msg_variant")):
        features[name] = np.ascontiguousarray(table[:, column])
    features["msg_weight"] = np.ones(len(rows), np.float32)
    if texts:
        features["text"] = np.concatenate(texts)
    if codes:
        features["codes"] = np.concatenate(codes)
    if waveforms:
        features["audio"] = _flac(waveforms, find(heard[0]))
    return features


def _messages(dialogue: list | Variants) -> list[tuple[int, Message]]:
    """(variant, message) of all messages."""
    variants = dialogue if isinstance(dialogue, Variants) else (dialogue,)
    if len(variants) > 1 and not all(variants):
        raise DialogueError("a variant has no messages")
    try:
        return [
            (variant, Message(role, modality, content))
            for variant, messages in enumerate(variants)
            for role, modality, content in messages
        ]
    except (TypeError, ValueError) as error:
        raise DialogueError(f"not a list of [role, modality, content]: {error}") from error


def _require_content(message: Message) -> None:
    if not isinstance(message.content, str) or not message.content.strip():
        raise RecordError(
            f"empty_{message.modality}",
            f"the {message.role}'s {message.modality} is blank; fill it or remove the record",
        )


def _payload(message: Message, corpus: str, find: Callable[[str], Path | bytes]) -> tuple[str, np.ndarray]:
    if message.modality == "text":
        return "text", np.asarray(settings.current().text_tokenizer.encode(message.content), np.int32)
    if message.role == "assistant":
        return "codes", _codes(corpus, message.content)
    return "audio", _waveform(find(message.content))


def _codes(corpus: str, clip_id: str) -> np.ndarray:
    try:
        return np.asarray(_code_store(corpus)[clip_id], np.int32)
    except KeyError:
        raise RecordError("no_codes", f"clip {clip_id} has no codes; run tokenize_audio") from None


def _code_store(corpus: str) -> CodeStore:
    current = settings.current()
    if not current.codec:
        raise CodeStoreError("the task needs codec codes; name the codec (CacheConfig.codec)")
    return _open_code_store(current.data_root, corpus, current.codec)


@functools.lru_cache(maxsize=4)
def _open_code_store(data_root: str, corpus: str, fingerprint: str) -> CodeStore:
    return CodeStore.open(Path(data_root) / corpus, fingerprint)


def _file(content: str, corpus: str, sounds: Mapping[str, bytes], root: Path | None) -> Path | bytes:
    """The audio file that a message means: one that came with the clip, a clip's by its id, or a path in the corpus.

    Raises:
        RecordError: the path leads out of `root`.
    """
    if content in sounds:
        return sounds[content]
    directory, paths = settings.current().corpus_directory(corpus), sources.audio_paths(corpus)
    if content in paths:
        return directory / paths[content]
    path = directory / content
    if not files.is_within(root or directory, path.absolute()):
        raise RecordError(
            "outside_audio",
            f"a message names {content[:200]!r}, which lies outside {root or directory}; data may only name files "
            "that came with it: copy the file there and name it by a relative path",
        )
    return path


def _waveform(file: Path | bytes) -> np.ndarray:
    try:
        return audio.read(file, max_seconds=settings.current().max_seconds)
    except audio.AudioError as error:
        raise RecordError(f"audio_{error.reason}", str(error)) from error


def _flac(waveforms: list[np.ndarray], first: Path | bytes) -> bytes:
    """One FLAC stream of all clips. A single file that is such a stream already is taken over: encoding costs most."""
    if len(waveforms) == 1 and (isinstance(first, bytes) or first.suffix == ".flac"):
        data = first if isinstance(first, bytes) else first.read_bytes()
        if audio.flac_samples(data) == len(waveforms[0]):
            return data
    return audio.encode_flac(np.concatenate(waveforms))


def _no_features() -> dict:
    empty = np.zeros(0, np.int32)
    return {
        "msg_role": empty,
        "msg_modality": empty,
        "msg_start": empty,
        "msg_len": empty,
        "msg_weight": np.zeros(0, np.float32),
        "msg_variant": empty,
        "text": empty,
        "codes": np.zeros((0, settings.current().num_streams), np.int32),
        "audio": b"",
    }


def _generator(task: str, clip_id: str) -> np.random.Generator:
    """The randomness of one clip in one task, whatever the order of clips."""
    key = [settings.current().seed, zlib.crc32(f"{task}/{clip_id}".encode())]
    return np.random.Generator(np.random.Philox(key=key))
