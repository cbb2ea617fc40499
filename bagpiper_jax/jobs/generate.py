"""Generates from a trained run.

bagpiper generate --checkpoint=RUN --audio=x.wav                     prints a caption
bagpiper generate --checkpoint=RUN --audio=x.wav --question="…"      prints the answer
bagpiper generate --checkpoint=RUN --text="…" --output=y.wav         writes audio (.wav or .flac)
bagpiper generate … --stream                                         prints text, and writes a .wav, as they come
bagpiper generate --checkpoint=RUN --audio=FOLDER --output=FOLDER    answers about every clip
bagpiper generate --checkpoint=RUN --requests=x.jsonl --output=FOLDER
                                                                     answers every request of a file
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio, configuration, files, parallel
from bagpiper_jax.generation.config import EngineConfig, WeightsConfig
from bagpiper_jax.generation.offline import live
from bagpiper_jax.generation.offline.answering import answer_all
from bagpiper_jax.generation.offline.collecting import NO_SOUND
from bagpiper_jax.generation.offline.folder import ReplyFolder
from bagpiper_jax.generation.offline.prompting import Prompting
from bagpiper_jax.generation.offline.records import ClipFolder, RequestFile, Source
from bagpiper_jax.generation.replies import Generator, GeneratorError, load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.runs.progress import Underway
from bagpiper_jax.training.checkpoints import find_checkpoint

_PROG = "bagpiper generate"
_ONE, _MANY = "generated.wav", "generated"
"""Where answers go if nobody says."""


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """How to generate.

    Attributes:
        checkpoint: directory of a training run, or one of its steps.
        codec, tokenizer: instead of those the run was trained with.
        weights: where the model lies, and in which precision.
        system_prompt: opens requests for audio if not empty (docs/reference.md, System prompt); None takes the one that
            the run was tuned with.
        loop: sampling; its modalities are set by what is asked, unless given.
        engine: sizes of the engine that answers many requests, or streams one.
    """

    checkpoint: str
    codec: str = ""
    tokenizer: str = ""
    weights: WeightsConfig = WeightsConfig()
    system_prompt: str | None = None
    loop: LoopConfig = LoopConfig()
    engine: EngineConfig = EngineConfig()


def main(argv: list[str] | None = None) -> None:
    flags, rest = _parse(argv)
    if flags.checkpoint:
        rest.append(f"--gin.GenerateConfig.checkpoint={flags.checkpoint}")
    config = configuration.load(GenerateConfig, rest, __doc__, prog=_PROG)
    # What is wrong with files is said before a model is loaded.
    if (source := _source(flags)) is not None:
        _answer_many(source, flags, config)
        return
    heard = audio.read(flags.audio) if flags.audio else None
    if flags.text:
        _prepare(flags.output, flags.stream)
    (stream if flags.stream else answer)(_loaded(config), flags, config, heard)


def _loaded(config: GenerateConfig) -> Generator:
    parallel.require_devices()
    with Underway("loading the run"):
        return load_generator(config.checkpoint, config.codec, config.tokenizer, config.weights)


def _prepare(output: str, grows: bool) -> None:
    """Makes the folder of the output. Raises GeneratorError: no audio can be written there."""
    try:
        if audio.file_format(output) != "WAV" and grows:
            raise ValueError(f"{output}: a stream is written as .wav")
        if Path(output).is_dir():
            raise ValueError(f"{output} is a folder; name a file")
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise GeneratorError(f"--output: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise GeneratorError(f"--output: {error.filename} is no folder; name another place") from error


Heard = Float32[np.ndarray, "samples"]


def answer(
    generator: Generator, flags: argparse.Namespace, config: GenerateConfig, heard: Heard | None = None
) -> None:
    """Prints the reply's text and writes its audio.

    Args:
        heard: the audio that is asked about, or None where audio is asked for.
    """
    dialogue, loop = _asked(generator, flags, config, heard)
    with Underway("answering"):
        reply = generator.reply([dialogue], loop)[0]
    if reply.text:
        print(reply.text)
    if reply.audio is not None and len(reply.audio):
        audio.write(flags.output, reply.audio)
        print(f"{flags.output}: {len(reply.audio) / audio.SAMPLE_RATE:.2f} s")
    elif "audio" in loop.modalities:
        raise GeneratorError(NO_SOUND)


def stream(
    generator: Generator, flags: argparse.Namespace, config: GenerateConfig, heard: Heard | None = None
) -> None:
    """The same while the answer is being made."""
    dialogue, loop = _asked(generator, flags, config, heard)
    engine = dataclasses.replace(config.engine, rows=1)
    seconds = live.stream(generator, engine, dialogue, loop, flags.output)
    if seconds is not None:
        print(f"{flags.output}: {seconds:.2f} s")
    elif "audio" in loop.modalities:
        raise GeneratorError(NO_SOUND)


def _asked(generator: Generator, flags: argparse.Namespace, config: GenerateConfig, heard: Heard | None):
    prompting = _prompting(generator, config)
    dialogue = (
        prompting.for_audio(flags.text) if heard is None else prompting.about(heard, flags.question or "")
    )
    return dialogue, prompting.loop_for(hears=heard is not None)


def _prompting(generator: Generator, config: GenerateConfig) -> Prompting:
    return Prompting(generator, config.loop, config.system_prompt)


def _source(flags: argparse.Namespace) -> Source | None:
    """Where many requests are read, None for one. Raises GeneratorError."""
    if flags.requests:
        return RequestFile(flags.requests)
    if not flags.audio or not Path(flags.audio).is_dir():
        return None
    if files.is_within(flags.audio, Path(flags.output).absolute()):
        raise GeneratorError(
            f"{flags.output} lies in the folder of clips; name a folder elsewhere with --output"
        )
    return ClipFolder(flags.audio, flags.question or "")


def _answer_many(source: Source, flags: argparse.Namespace, config: GenerateConfig) -> None:
    """Answers all requests of a source that have no reply yet. Raises GeneratorError: none has one."""
    with ReplyFolder(flags.output, _settings(flags, config)) as folder:
        answer_all(_prompting(_loaded(config), config), config.engine, source, folder)
        print(folder.finish())
    if folder.is_empty:
        raise GeneratorError(f"{flags.output}: no request was answered; rejects.jsonl there says why")


def _settings(flags: argparse.Namespace, config: GenerateConfig) -> dict[str, Any]:
    """What all replies depend on: where the model lies and how the engine is sized is not of it."""
    return {
        "checkpoint": str(find_checkpoint(config.checkpoint)),
        "codec": config.codec,
        "tokenizer": config.tokenizer,
        "dtype": config.weights.dtype,
        "base": config.weights.base,
        "system_prompt": config.system_prompt,
        "loop": dataclasses.asdict(config.loop),
        "question": flags.question,
    }


def _parse(argv) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog=_PROG, add_help=False, allow_abbrev=False)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--audio", help="an audio file to describe, or to ask about, or a folder of them")
    asked.add_argument("--text", help="a caption, or a request, to turn into audio")
    asked.add_argument(
        "--requests", help="a JSONL: id, text or audio, question, seed and begun of each request"
    )
    parser.add_argument("--question", help="a question about --audio")
    parser.add_argument(
        "--output",
        help=f"where audio is written, .wav or .flac, or of many requests the folder of all replies; a missing folder "
        f"is made (default: {_ONE}, or {_MANY})",
    )
    parser.add_argument("--stream", action="store_true", help="shows and writes one answer as it comes")
    parser.add_argument("--checkpoint", help="directory of a training run, or one of its steps")
    flags, rest = parser.parse_known_args(argv)
    many = flags.requests or (flags.audio and Path(flags.audio).is_dir())
    if flags.question and not flags.audio:
        parser.error("--question needs --audio")
    if flags.stream and many:
        parser.error("--stream shows one answer; leave it out where there are many")
    flags.output = flags.output or (_MANY if many else _ONE)
    return flags, rest
