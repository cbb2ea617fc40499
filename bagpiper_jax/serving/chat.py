"""`POST /v1/chat/completions`."""

import asyncio
import time
import uuid
from typing import Any

import numpy as np

from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.generation.thinking import Content, Reasoning
from bagpiper_jax.serving import sounds
from bagpiper_jax.serving.answers import Answer, Piece, Sound
from bagpiper_jax.serving.asking import Question
from bagpiper_jax.serving.endpoint import Endpoint
from bagpiper_jax.serving.faults import invalid
from bagpiper_jax.serving.fields import ChatAudio, ChatRequest, parse
from bagpiper_jax.serving.model import Served
from bagpiper_jax.serving.sending import Outgoing
from bagpiper_jax.serving.sounds import PCMStream, as_base64


class Chat(Endpoint):
    """Text and a clip in; reasoning, text and sound out, at once or as they come."""

    name = "chat"

    async def respond(self, body: bytes, outgoing: Outgoing, began: float) -> None:
        request = parse(ChatRequest, body)
        served = self.model(request.model)
        wanted = request.audio or ChatAudio(format="pcm16" if request.stream else "wav")
        if request.stream and "audio" in request.modalities and wanted.format != "pcm16":
            raise invalid("a stream has audio as 'pcm16' alone", "audio.format", "unsupported_value")
        question = await served.asking.chat(request)
        reply = _Reply(self, served, question, request, wanted)
        if request.stream:
            await reply.stream(outgoing, began)
        else:
            await reply.whole(outgoing, began)


class _Reply:
    """One answer in the form of chat completions."""

    def __init__(
        self, endpoint: Endpoint, served: Served, question: Question, request: ChatRequest, wanted: ChatAudio
    ):
        self._endpoint, self._served = endpoint, served
        self._question, self._request, self._wanted = question, request, wanted
        self._rate = served.generator.sample_rate
        self._created = int(time.time())
        self._id, self._audio_id = f"chatcmpl-{uuid.uuid4().hex}", f"audio_{uuid.uuid4().hex}"

    async def whole(self, outgoing: Outgoing, began: float) -> None:
        samples: list[np.ndarray] = []
        async with self._endpoint.answer(self._served, self._question, began) as (answer, pieces, prompt):
            async for piece in pieces:
                if isinstance(piece, Sound):
                    samples.append(piece.samples)
        message: dict[str, Any] = {"role": "assistant", "content": answer.content or None, "refusal": None}
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if samples:
            wave = np.concatenate(samples)
            data = await asyncio.to_thread(sounds.encoded, wave, self._rate, self._wanted.format)
            message["audio"] = {
                "id": self._audio_id, "data": as_base64(data), "expires_at": int(time.time()),
                "transcript": answer.transcript,
            }  # fmt: skip
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer), "logprobs": None}
        await outgoing.json(self._frame("chat.completion", [choice]) | {"usage": self._usage(answer, prompt)})

    async def stream(self, outgoing: Outgoing, began: float) -> None:
        pcm = PCMStream(self._rate) if self._question.sounds else None
        async with self._endpoint.answer(self._served, self._question, began) as (answer, pieces, prompt):
            await outgoing.begin_events()
            await self._delta(outgoing, {"role": "assistant", "content": ""})
            has_sounded = False
            async for piece in pieces:
                if isinstance(piece, Sound) and not has_sounded:
                    has_sounded = True
                    await self._delta(outgoing, {"audio": self._audio(transcript=answer.transcript)})
                for delta in self._deltas(piece, pcm):
                    await self._delta(outgoing, delta)
            if has_sounded and pcm is not None:
                if rest := pcm.add(np.zeros(0, np.float32), last=True):
                    await self._delta(outgoing, {"audio": self._audio(data=as_base64(rest))})
                await self._delta(outgoing, {"audio": self._audio(expires_at=int(time.time()))})
            await self._delta(outgoing, {}, _reason(answer))
            if self._request.stream_options.include_usage:
                await outgoing.event(self._chunk([]) | {"usage": self._usage(answer, prompt)})
            await outgoing.event("[DONE]")
            await outgoing.end()

    def _deltas(self, piece: Piece, pcm: PCMStream | None) -> list[dict[str, Any]]:
        if isinstance(piece, Content):
            return [{"content": piece.text}]
        if isinstance(piece, Reasoning):
            return [{"reasoning_content": piece.text}]
        data = pcm.add(piece.samples) if pcm is not None else b""
        return [{"audio": self._audio(data=as_base64(data))}] if data else []

    def _audio(self, **fields: Any) -> dict[str, Any]:
        return {"id": self._audio_id, **fields}

    async def _delta(self, outgoing: Outgoing, delta: dict[str, Any], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        usage = {"usage": None} if self._request.stream_options.include_usage else {}
        await outgoing.event(self._chunk([choice]) | usage)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._frame("chat.completion.chunk", choices)

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        frame = {"id": self._id, "object": kind, "created": self._created, "model": self._served.name}
        return frame | {"choices": choices}

    def _usage(self, answer: Answer, prompt: Rendered) -> dict[str, Any]:
        heard = sum(span.num_tokens for span in prompt.audio)
        made = answer.text_tokens + answer.frames
        return {
            "prompt_tokens": len(prompt),
            "completion_tokens": made,
            "total_tokens": len(prompt) + made,
            "prompt_tokens_details": {"audio_tokens": heard, "cached_tokens": 0},
            "completion_tokens_details": {"audio_tokens": answer.frames, "reasoning_tokens": 0},
        }


def _reason(answer: Answer) -> str:
    return "stop" if answer.complete else "length"
