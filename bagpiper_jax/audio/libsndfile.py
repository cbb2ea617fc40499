"""Decoding by libsndfile."""

from typing import BinaryIO

from bagpiper_jax.audio.faults import Damage, TooLong, Unrecognised
from bagpiper_jax.audio.waveform import Gathered, Waveform

_BLOCK = 1 << 20  # values decoded at once: a header that lies about length or channels costs no memory

# Rare formats that state a length which libsndfile does not compare with the file's.
_UNCHECKED = ("AVR", "MAT4", "MAT5", "MPC2K", "WVE", "XI")


def decode(stream: BinaryIO, max_seconds: float, length_is_checked: bool = False) -> Waveform:
    """The first channel of a sound.

    Args:
        length_is_checked: the length in the header agrees with the file's size, so that a sound which is too long need
            not be decoded.

    Raises:
        Unrecognised: libsndfile does not open it.
        Damage, TooLong.
    """
    import soundfile

    stream.seek(0)
    try:
        file = soundfile.SoundFile(stream)
    except soundfile.LibsndfileError as error:
        raise Unrecognised(f"libsndfile: {_reason(error)}") from error
    with file:
        if file.format == "MP3":
            raise Damage("its frames of MPEG audio do not follow each other, or are of free format")
        if file.format in _UNCHECKED:
            raise Damage(f"whether a {file.format} file is whole cannot be told; convert it to WAV or FLAC")
        if length_is_checked and file.frames > max_seconds * file.samplerate:
            raise TooLong(file.frames / file.samplerate)
        gathered = Gathered(max_seconds, file.samplerate, file.channels)
        try:
            while gathered.count < file.frames:
                block = file.read(max(1, _BLOCK // file.channels), dtype="float32", always_2d=True)
                if not len(block):
                    raise Damage(f"{gathered.count} of {file.frames} samples could be decoded")
                gathered.add(block[:, 0])
        except soundfile.LibsndfileError as error:
            raise Damage(f"libsndfile: {_reason(error)} after {gathered.count} samples") from error
        return gathered.joined()


def _reason(error) -> str:
    return error.error_string.strip() or "the sound cannot be decoded"
