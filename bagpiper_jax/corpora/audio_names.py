"""How audio is told from other things: endings of files, first bytes, and fields of records that point to some.

Whatever names audio that is not read must be refused by name: a transcript that has lost its audio would else become a
document, and nobody would notice.
"""

import re
from collections.abc import Collection, Iterator, Mapping

AUDIO_ENDINGS = frozenset(
    "flac wav wave mp3 ogg oga opus m4a m4b mp4 aac webm weba mka mkv mov 3gp 3g2 aif aiff aifc wma asf caf w64 rf64 "
    "wv ape ac3 eac3 amr au snd sph nist avi flv mpeg mpg mp2 ts ra g722 gsm".split()
)
"""Endings of files whose audio can be heard; `audio.read` goes by their contents. Some of them cannot be decoded, and
are rejections by name then, never something else."""

_POINTERS = "|".join(sorted(AUDIO_ENDINGS - {"au", "ts", "ra"} | {"ark"}))  # ABC.net.au is no sound file
_POINTER = re.compile(rf"[^\n]*[^\s.]\.({_POINTERS})([?#][^\s]*|:\d+)?\s*", re.IGNORECASE)
_LONGEST_POINTER = 4096
_DEEPEST = 8

_PLACES = "file|path|name|url|uri|link|bytes|array|location"
_SOUND_FIELD = re.compile(rf"(audio|wav|wave|waveform|recording)s?(({_PLACES}|data|src|source|signal|id)s?)*")
_SOUND_FILE_FIELD = re.compile(
    rf"(sound|speech|voice|clip|song|track|media|video|mp3|flac)s?(({_PLACES})s?)+"
)
_PLAIN_WORDS = ("recording", "recordings")  # may be prose

_MAGIC = (b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b"wvpk", b"MAC ", b"#!AMR", b".snd", b"NIST_1A", b"ADIF",
          b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"RF64", b"riff.\x91\xcf\x11", b"FLV\x01")  # fmt: skip
HEAD = 16
"""Bytes that `looks_like_audio` judges by."""


def ending(name: str) -> str:
    """The last ending of a file's name in small letters, without the dot."""
    return name.rpartition(".")[2].lower()


def looks_like_audio(head: bytes) -> bool:
    """Whether a file that begins so is one of the containers that carry audio."""
    if head.startswith(_MAGIC):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] in (b"WAVE", b"AVI ")
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # pictures
    return len(head) > 2 and head[0] == 0xFF and (_is_adts(head) or _is_mpeg(head))


def _is_adts(head: bytes) -> bool:
    """AAC without a container: twelve set bits, no layer, a sample rate that exists."""
    return head[1] & 0xF6 == 0xF0 and (head[2] >> 2 & 0xF) < 13


def _is_mpeg(head: bytes) -> bool:
    """MP3 and its kin: eleven set bits, then version, layer, bit rate and sample rate that exist.

    UTF-16 text begins with FF FE, so that one layer is left out.
    """
    exists = (
        head[1] & 0x18 != 0x08
        and head[1] & 0x06 != 0
        and head[2] >> 4 not in (0, 15)
        and head[2] >> 2 & 3 != 3
    )
    return head[1] & 0xE0 == 0xE0 and head[1] != 0xFE and exists


def fields_with_audio(record: Mapping, read: Collection[str]) -> list[str]:
    """Fields of a record that point to audio or hold some, of those that are not `read`: `audio_filepath`.

    A field counts by its name (`wav`, `audio_path`, `recording_id`) or by what stands in it at any depth: a path or
    address that ends as audio files do, or the bytes of one.
    """
    return [name for name, value in record.items() if name not in read and _is_audio(str(name), value)]


def _is_audio(name: str, value: object) -> bool:
    if not value or isinstance(value, bool | int | float):
        return False
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if plain in _PLAIN_WORDS and isinstance(value, str):
        return _points_to_audio(value)
    named = _SOUND_FIELD.fullmatch(plain) or _SOUND_FILE_FIELD.fullmatch(plain)
    return bool(named) or any(map(_points_to_audio, _leaves(value)))


def _leaves(value: object, depth: int = 0) -> Iterator[object]:
    """Texts and bytes within a value."""
    if isinstance(value, str | bytes):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < _DEEPEST:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item, depth + 1)


def _points_to_audio(leaf: str | bytes) -> bool:
    if isinstance(leaf, bytes):
        return looks_like_audio(leaf[:HEAD])
    if leaf.startswith("data:audio/"):
        return True
    return len(leaf) <= _LONGEST_POINTER and _POINTER.fullmatch(leaf) is not None
