"""Generates from a trained run.

bagpiper generate --checkpoint=RUN --audio=x.wav                     prints a caption
bagpiper generate --checkpoint=RUN --audio=x.wav --question="…"      prints the answer
bagpiper generate --checkpoint=RUN --text="…" --output=y.wav         writes audio (.wav or .flac)
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio, configuration, parallel
from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.generation.replies import Generator, GeneratorError, load_generator
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.runs.progress import Underway

_PROG = "bagpiper generate"


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
    """

    checkpoint: str
    codec: str = ""
    tokenizer: str = ""
    weights: WeightsConfig = WeightsConfig()
    system_prompt: str | None = None
    loop: LoopConfig = LoopConfig()


def main(argv: list[str] | None = None) -> None:
    flags, rest = _parse(argv)
    if flags.checkpoint:
        rest.append(f"--gin.GenerateConfig.checkpoint={flags.checkpoint}")
    config = configuration.load(GenerateConfig, rest, __doc__, prog=_PROG)
    # What is wrong with these files is said before a model is loaded.
    heard = audio.read(flags.audio) if flags.audio else None
    if flags.text:
        _prepare(flags.output)
    parallel.require_devices()
    with Underway("loading the run"):
        generator = load_generator(config.checkpoint, config.codec, config.tokenizer, config.weights)
    answer(generator, flags, config, heard)


def _prepare(output: str) -> None:
    """Makes the folder of the output. Raises GeneratorError: no audio can be written there."""
    try:
        audio.file_format(output)
        if Path(output).is_dir():
            raise GeneratorError(f"{output} is a folder; name a file with --output")
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise GeneratorError(f"--output: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise GeneratorError(f"--output: {error.filename} is no folder; name another place") from error


def answer(
    generator: Generator,
    flags: argparse.Namespace,
    config: GenerateConfig,
    heard: Float32[np.ndarray, "samples"] | None = None,
) -> None:
    """Prints the reply's text and writes its audio.

    Args:
        heard: the audio that is asked about, or None where audio is asked for.
    """
    sounds = heard is None
    loop = config.loop
    if not loop.modalities:
        thinks = generator.extras.get("stage") == "sft"
        modalities = ("text",) if not sounds else ("text", "audio") if thinks else ("audio",)
        loop = dataclasses.replace(loop, modalities=modalities, max_segments=len(modalities))
    dialogue = _dialogue(flags, _system_prompt(config, generator), heard)
    with Underway("answering"):
        reply = generator.reply([dialogue], loop)[0]
    if reply.text:
        print(reply.text)
    if reply.audio is not None and len(reply.audio):
        audio.write(flags.output, reply.audio)
        print(f"{flags.output}: {len(reply.audio) / audio.SAMPLE_RATE:.2f} s")
    elif "audio" in loop.modalities:
        raise GeneratorError(
            "the model ended before a whole audio frame; try another seed or a longer min_steps"
        )


def _system_prompt(config: GenerateConfig, generator: Generator) -> str:
    return generator.system_prompt if config.system_prompt is None else config.system_prompt


def _dialogue(flags, system_prompt: str, heard: np.ndarray | None) -> list[Message]:
    if heard is None:
        system = [Message("system", "text", system_prompt)] if system_prompt else []
        return [*system, Message("user", "text", flags.text)]
    messages = [Message("user", "audio", heard)]
    return [*messages, Message("user", "text", flags.question)] if flags.question else messages


def _parse(argv) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog=_PROG,
        epilog="--gin_file=FILE and --gin.GenerateConfig.FIELD=VALUE, --gin.TextSampling.FIELD=VALUE, "
        "--gin.AudioSampling.FIELD=VALUE set the rest",
    )  # fmt: skip
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--audio", help="an audio file to describe, or to ask about")
    asked.add_argument("--text", help="a caption, or a request, to turn into audio")
    parser.add_argument("--question", help="a question about --audio")
    parser.add_argument(
        "--output",
        default="generated.wav",
        help="where audio is written, .wav or .flac; a missing folder is made (default: %(default)s)",
    )
    parser.add_argument("--checkpoint", help="directory of a training run, or one of its steps")
    flags, rest = parser.parse_known_args(argv)
    if flags.question and not flags.audio:
        parser.error("--question needs --audio")
    return flags, rest
