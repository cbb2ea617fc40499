"""Rich captions for clips, from a model that hears: audio → caption → basic filters.

See docs/reference.md, Rich captions.
"""

import base64
import dataclasses
from pathlib import Path

from bagpiper_jax import audio
from bagpiper_jax.captions import CaptionFilter
from bagpiper_jax.curation import clip_audio
from bagpiper_jax.curation.derived import SourceClip
from bagpiper_jax.curation.endpoint.asking import AskingConfig, clip_by_clip, run
from bagpiper_jax.curation.endpoint.client import Client, Question
from bagpiper_jax.curation.endpoint.replies import read_text
from bagpiper_jax.curation.selection.measuring import check_caption, token_counter
from bagpiper_jax.manifest import Clip
from bagpiper_jax.outcomes import RecordError

_TOKENS_PER_SECOND = 50  # of audio, for the budget; Qwen3-Omni makes 13


@dataclasses.dataclass(frozen=True)
class CaptionConfig(AskingConfig):
    """Which corpora to caption. Clips without audio pass. The new caption replaces an old one and its metrics.

    Attributes:
        instruct: False sends audio alone, as captioners that take no prompt want it (Qwen3-Omni-Captioner).
        temperature, max_tokens: the sampling temperature, and the most tokens of a caption.
        caption_filter: the basic filters, or None.
        tokenizer: what counts the tokens for the filters: "byte" or a tokenizer.json; "" counts words.
        max_seconds: the length of the longest clip that is sent.
    """

    instruct: bool = True
    temperature: float = 0.0
    max_tokens: int = 1024
    caption_filter: CaptionFilter | None = CaptionFilter()
    tokenizer: str = ""
    max_seconds: float = 30.0


def caption(config: CaptionConfig) -> Path:
    """Writes the captioned corpus. Raises as `asking.run`; TokenizerError."""
    count = token_counter(config.tokenizer)
    prompt = config.prompt("caption").template if config.instruct else ""

    async def work(client: Client, source: SourceClip) -> Clip:
        clip = source.clip
        if clip.audio is None:
            return clip
        answer = await client.ask(_question(config, clip, prompt))
        text = read_text(answer, "caption")
        check_caption(text, clip.duration, config.caption_filter, count)
        return dataclasses.replace(clip, caption=text, metrics=None)

    return run(config, "captioning", clip_by_clip(work), {"model": config.endpoint.model})


def _question(config: CaptionConfig, clip: Clip, prompt: str) -> Question:
    path = Path(config.output) / clip.audio
    file = clip_audio.identity(path)
    if clip.duration > config.max_seconds:
        raise RecordError("audio_too_long", f"{clip.duration:g} s", audio.REMEDIES["too_long"])
    return Question(
        "caption", clip.id, (prompt, *file),
        lambda: _messages(path, prompt, config.max_seconds),
        size=len(prompt.encode()) + int(_TOKENS_PER_SECOND * clip.duration), temperature=config.temperature,
        max_tokens=config.max_tokens,
    )  # fmt: skip


def _messages(path: Path, prompt: str, max_seconds: float) -> list[dict]:
    """The clip as the chat API takes audio, then the prompt. Raises RecordError `audio_<reason>`."""
    wav = audio.encode_wav(clip_audio.read(path, max_seconds), audio.SAMPLE_RATE)
    content = [
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}}
    ]
    if prompt:
        content.append({"type": "text", "text": prompt})
    return [{"role": "user", "content": content}]
