"""`POST /v1/audio/speech`."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from bagpiper_jax.audio import wav_header
from bagpiper_jax.serving import sounds
from bagpiper_jax.serving.answers import Answer, Piece, Sound
from bagpiper_jax.serving.endpoint import Endpoint
from bagpiper_jax.serving.faults import APIError, invalid
from bagpiper_jax.serving.fields import SpeechRequest, parse
from bagpiper_jax.serving.sending import Outgoing
from bagpiper_jax.serving.sounds import MEDIA_TYPES, RATE, STREAMED, PCMStream, as_base64


class Speech(Endpoint):
    """A line and how it is to sound in; sound out, as raw bytes or as events."""

    name = "speech"

    async def respond(self, body: bytes, outgoing: Outgoing, began: float) -> None:
        request = parse(SpeechRequest, body)
        served = self.model(request.model)
        format = request.response_format
        if request.stream_format == "sse" and format not in STREAMED:
            raise invalid(f"events carry {' or '.join(STREAMED)}", "response_format", "unsupported_value")
        question = served.asking.speech(request)
        async with self.answer(served, question, began) as (answer, pieces, prompt):
            heard, rate = _Heard(answer, pieces), served.generator.sample_rate
            await heard.first()
            if request.stream_format == "sse":
                await self._events(heard, outgoing, format, len(prompt), rate)
            elif format in STREAMED:
                await outgoing.begin(MEDIA_TYPES[format])
                async for data in self._bytes(heard, format, rate):
                    await outgoing.add(data)
                await outgoing.end()
            else:
                whole = np.concatenate([samples async for samples in heard])
                data = await asyncio.to_thread(sounds.encoded, whole, rate, format)
                await outgoing.whole(data, MEDIA_TYPES[format])

    async def _events(self, heard: "_Heard", outgoing: Outgoing, format: str, prompt: int, rate: int) -> None:
        await outgoing.begin_events()
        async for data in self._bytes(heard, format, rate):
            await outgoing.event({"type": "speech.audio.delta", "audio": as_base64(data)})
        made = heard.answer.text_tokens + heard.answer.frames
        usage = {"input_tokens": prompt, "output_tokens": made, "total_tokens": prompt + made}
        await outgoing.event({"type": "speech.audio.done", "usage": usage})
        await outgoing.end()

    async def _bytes(self, heard: "_Heard", format: str, rate: int) -> AsyncIterator[bytes]:
        pcm = PCMStream(rate)
        if format == "wav":
            yield wav_header(RATE)
        async for samples in heard:
            if data := pcm.add(samples):
                yield data
        if data := pcm.add(np.zeros(0, np.float32), last=True):
            yield data


class _Heard:
    """The sound of an answer, an async iterator of samples."""

    def __init__(self, answer: Answer, pieces: AsyncIterator[Piece]):
        self.answer, self._pieces = answer, pieces
        self._first: np.ndarray | None = None

    async def first(self) -> None:
        """Waits for sound, so that an error can still be told as one. Raises APIError: none comes."""
        async for piece in self._pieces:
            if isinstance(piece, Sound) and len(piece.samples):
                self._first = piece.samples
                return
        raise APIError(500, "the model ended before a whole frame of audio; try another seed", "no_audio")

    async def __aiter__(self) -> AsyncIterator[np.ndarray]:
        if self._first is not None:
            yield self._first
        async for piece in self._pieces:
            if isinstance(piece, Sound):
                yield piece.samples
