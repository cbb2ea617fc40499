"""What to export, where to, and in which form."""

import dataclasses
from pathlib import Path
from typing import Literal

from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig

Format = Literal["espnet", "vllm", "qwen3", "tower", "xcodec", "peft"]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What to export.

    Attributes:
        checkpoint: a training run, one of its checkpoints, or an import.
        output: what to make: for "espnet" a file, .pt (needs torch) or .safetensors, for others a directory.
        format: "espnet", the whole native checkpoint; "vllm", a directory for ESPnet's vLLM fork; directories for
            transformers: "qwen3", decoder and head over the whole vocabulary; "tower"; "xcodec". Of an adapter's run
            they hold its base with the changes added in float32; "peft" holds the adapter alone.
        dtype: of all tensors but `vocab_weight`, which is float32. "usual" is what each format has in its releases:
            float32 for "xcodec" and "peft", bfloat16 for the others; "same" keeps what the checkpoint has.
        prefix: of the names in "peft": those of the native tree and of transformers, or of ESPnet's vLLM fork.
        base: the checkpoint that an adapter changes, where its own directory names one that is elsewhere by now.
        codec: codec file; by default the one that the checkpoint names.
        tokenizer: tokenizer spec for "vllm" and "qwen3"; by default the one that the checkpoint names.
        license: of the weights, as model hubs name licences; it follows from data and base models, which nothing here
            knows.
        base_model: what the card names as its origin, such as "Qwen/Qwen3-8B-Base"; by default what was imported.
        list: print name, shape and dtype of every tensor of `format` for `model` and `codec_model`, write nothing.
        model, codec_model: sizes, for `list` only; a checkpoint knows its own.
    """

    checkpoint: str = ""
    output: str = ""
    format: Format = "espnet"
    dtype: Literal["usual", "same", "float32", "bfloat16"] = "usual"
    prefix: Literal["native", "vllm"] = "native"
    base: str = ""
    codec: str = ""
    tokenizer: str = ""
    license: str = "unknown"
    base_model: str = ""
    list: bool = False
    model: BagpiperConfig = BagpiperConfig()
    codec_model: CodecConfig = CodecConfig()

    def __post_init__(self):
        if not self.list and not (self.checkpoint and self.output):
            raise ValueError("give ExportConfig.checkpoint and ExportConfig.output, or --list")
        if self.list and self.format == "peft":
            raise ValueError(
                "the tensors of an adapter follow from its targets; export it, and look at the file"
            )
        named = self.format != "espnet" or Path(self.output).suffix in (".pt", ".safetensors")
        if not self.list and not named:
            raise ValueError(f"{self.output}: the name must end in .safetensors or .pt")

    @property
    def stored_dtype(self) -> str:
        """What `dtype` means for this format: "same", or the name of a type."""
        if self.dtype != "usual":
            return self.dtype
        return "float32" if self.format in ("xcodec", "peft") else "bfloat16"
