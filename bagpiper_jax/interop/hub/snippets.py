"""What opens an export: the lines of a card that someone copies, each run by a test as it stands there."""

from bagpiper_jax.audio import SAMPLE_RATE
from bagpiper_jax.interop.tables import espnet
from bagpiper_jax.models.configs import CodecConfig

_NATIVE = {
    ".pt": """\
import torch

weights = torch.load({name!r}, weights_only=True, mmap=True)["module"]
""",
    ".safetensors": """\
from safetensors.torch import load_file

weights = load_file({name!r})
""",
}

_QWEN3 = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
dialogue = [{"role": "user", "content": "What does a fox sound like?"}]
prompt = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=False) + "<|text|>"
inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
reply = model.generate(**inputs, max_new_tokens=32)
print(tokenizer.decode(reply[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))
"""

_HEAR = """\
extractor = AutoFeatureExtractor.from_pretrained(".")
sound = np.zeros({rate}, np.float32)  # mono, {rate} samples a second
mel = extractor(
    sound, sampling_rate={rate}, do_normalize=True, padding="longest", truncation=False, return_tensors="pt"
).input_features[0]
features = tower(mel, feature_lens=torch.tensor([mel.shape[1]])).last_hidden_state
"""

_TOWER = (
    """\
import numpy as np
import torch
from transformers import AutoFeatureExtractor
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

tower = Qwen3OmniMoeAudioEncoder.from_pretrained(".", dtype=torch.float32)
"""
    + _HEAR
)

_XCODEC = """\
import torch
from transformers import AutoFeatureExtractor, AutoModel

codec = AutoModel.from_pretrained(".", dtype=torch.float32)
extractor = AutoFeatureExtractor.from_pretrained(".")
sound = torch.zeros({rate})  # mono, {rate} samples a second
inputs = extractor(sound.numpy(), sampling_rate={rate}, return_tensors="pt")
codes = codec.encode(inputs["input_values"]).audio_codes  # [1, codebooks, frames]
back = codec.decode(codes).audio_values
"""

_VLLM = (
    """\
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

config = json.loads(Path("config.json").read_text())
weights = {{n: x for shard in Path(".").glob("*.safetensors") for n, x in load_file(shard).items()}}


def part(module, *prefixes, strip=""):
    own = {{n.removeprefix(strip): x for n, x in weights.items() if n.startswith(prefixes)}}
    module.load_state_dict(own, assign=True)
    return module.eval()


tokenizer = AutoTokenizer.from_pretrained(".")
decoder = Qwen3ForCausalLM(Qwen3Config(**{{**config["text_config"], "model_type": "qwen3"}}))
decoder = part(decoder, "model.", "lm_head.")
audio = {{**config["audio_config"], "model_type": "qwen3_omni_moe_audio_encoder"}}
tower = Qwen3OmniMoeAudioEncoder(Qwen3OmniMoeAudioEncoderConfig(**audio))
prefix = {prefix!r}
tower = part(tower, prefix, strip=prefix).float()
"""
    + _HEAR
)


_PEFT = """\
from peft import PeftModel

model = PeftModel.from_pretrained(base, ".")  # base: the decoder, as the format "qwen3" of its export has it
"""


def of(format: str, name: str, codec: CodecConfig | None) -> str:
    """Markdown: a sentence and code that runs in the directory where the export lies.

    Args:
        format: of the export.
        name: of its file or directory.
        codec: sizes; None where the export has no codec.
    """
    if format == "peft" or codec is None:
        return _code("In this directory:", _PEFT)
    if format == "espnet":
        ending = "." + name.rpartition(".")[2]
        return _code(
            "ESPnet loads it strictly; torch alone reads it, in its folder:",
            _NATIVE[ending].format(name=name),
        )
    if format == "qwen3":
        return _code("In this directory:", _QWEN3)
    if format == "tower":
        return _code(
            "transformers has no AutoModel for a tower that stands alone. In this directory:",
            _TOWER.format(rate=SAMPLE_RATE),
        )
    if format == "xcodec":
        return _code("In this directory:", _XCODEC.format(rate=codec.sample_rate))
    return "\n".join(
        [
            "ESPnet's vLLM fork serves it: `vllm serve .` in this directory; it fetches the codec itself.",
            "",
            _code(
                "transformers has no class for the whole; decoder, tower and tokenizer open apart:",
                _VLLM.format(rate=SAMPLE_RATE, prefix=espnet.TOWER_PREFIX),
            ),
        ]
    )


def _code(sentence: str, lines: str) -> str:
    return f"{sentence}\n\n```python\n{lines}```"
