"""Clips that come with a request: base64, data: URLs, and addresses at hosts that the server's owner named."""

import asyncio
import base64
import binascii
import re
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio
from bagpiper_jax.serving.config import Limits
from bagpiper_jax.serving.faults import APIError, invalid
from bagpiper_jax.serving.fields import AudioPart, InputAudioPart

_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII)
_FETCH_SECONDS = 20.0
_MIB = 2**20


class Clips:
    """Reads clips, in threads: the server's own has to go on.

    Attributes:
        limits: what a client may send.
        hosts: of addresses that are fetched.
    """

    def __init__(self, limits: Limits, hosts: tuple[str, ...] = ()):
        self.limits, self.hosts = limits, frozenset(host.lower() for host in hosts)

    async def read(self, part: AudioPart, param: str) -> Float32[np.ndarray, " samples"]:
        """The waveform at 16 kHz of a part of a message.

        Args:
            part: what the client sent.
            param: its place in the request, for the error.

        Raises:
            APIError: it is no base64, no sound, too long, or at an address that is not fetched.
        """
        return await asyncio.to_thread(self._read, part, param)

    def _read(self, part: AudioPart, param: str) -> Float32[np.ndarray, " samples"]:
        if isinstance(part, InputAudioPart):
            return self._waveform(_decoded(part.input_audio.data, f"{param}.input_audio.data"), param)
        url, place = part.audio_url.url, f"{param}.audio_url.url"
        if match := _DATA_URL.match(url):
            return self._waveform(_decoded(url[match.end() :], place), param)
        if url.startswith("data:"):
            raise invalid("a data: URL of a clip has to be base64, data:audio/wav;base64,…", place)
        return self._waveform(self._fetched(url, place), param)

    def _waveform(self, data: bytes, param: str) -> Float32[np.ndarray, " samples"]:
        try:
            return audio.read(data, max_seconds=self.limits.audio)
        except audio.AudioError as error:
            code = "audio_too_long" if error.reason == "too_long" else "invalid_audio"
            raise invalid(
                f"{error.reason}: {error.detail}; {audio.REMEDIES[error.reason]}", param, code
            ) from None

    def _fetched(self, url: str, param: str) -> bytes:
        address = urllib.parse.urlsplit(url)
        if address.scheme != "https" or (address.hostname or "").lower() not in self.hosts:
            raise invalid(
                "this server fetches no clip from there; send it as input_audio or as a data: URL, or have the host "
                "named in ServeConfig.audio_hosts and use https",
                param,
                "url_not_allowed",
            )
        most = int(self.limits.body * _MIB)
        try:
            with _OPENER.open(url, timeout=_FETCH_SECONDS) as response:
                data = response.read(most + 1)
        except (OSError, ValueError, urllib.error.HTTPError) as error:
            raise invalid(
                f"the clip could not be fetched: {type(error).__name__}", param, "url_failed"
            ) from None
        if len(data) > most:
            raise APIError(
                413, f"the clip has more than {self.limits.body:g} MiB", "request_too_large", param
            )
        return data


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A host that was named must not lead to one that was not."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def _decoded(data: str, param: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"no base64: {error}", param, "invalid_base64") from None
