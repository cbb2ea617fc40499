"""Networks of voices by path: what transformers says of its own, what torch's layers say, and Kaldi's features."""

import struct

import numpy as np
import pytest
from known_evaluators import write_sound

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import mel, open_evaluator, sound
from bagpiper_jax.evaluation.evaluators.voices import eres2net

torch = pytest.importorskip("torch", reason="pip install 'bagpiper_jax[interop]' brings torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)


def test_wavlm_is_transformers_own(tmp_path):
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    sizes |= dict(conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(5, 40))
    sizes |= dict(
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, num_buckets=8, xvector_output_dim=12
    )
    sizes |= dict(tdnn_dim=(8, 8), tdnn_kernel=(5, 3), tdnn_dilation=(1, 2), classifier_proj_size=4)
    theirs = transformers.WavLMForXVector(transformers.WavLMConfig(**sizes)).eval()
    hearing = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    folder = tmp_path / "wavlm-tiny-sv"
    theirs.save_pretrained(folder)
    hearing.save_pretrained(folder)
    clip = write_sound(tmp_path / "a.wav", 0.6)
    network = open_evaluator("wavlm_sv", str(folder))
    with torch.inference_mode():
        heard = hearing(sound.read(clip, 16_000), sampling_rate=16_000, return_tensors="pt")
        expected = theirs(**heard).embeddings[0].numpy()
    np.testing.assert_allclose(network.voice(clip), expected / np.linalg.norm(expected), atol=1e-6)
    assert (network.name, len(network.version)) == ("wavlm_tiny_sv", 64)
    with pytest.raises(audio.AudioError, match="too_short"):
        network.voice(write_sound(tmp_path / "b.wav", 0.1))
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingEvaluatorError, match="no .*safetensors"):
        open_evaluator("wavlm_sv", str(folder))


def test_features_are_kaldis(noise):
    """By transformers' own, which stand in for torchaudio's where that is missing."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, 80, 20, 8000, 16_000, None, "kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        noise, window_function(400, "povey", periodic=False), 400, 160, 512,
        power=2.0, center=False, preemphasis=0.97, mel_filters=filters, log_mel="log",
        mel_floor=1.192092955078125e-07, remove_dc_offset=True,
    ).T  # fmt: skip
    np.testing.assert_allclose(mel.kaldi(noise, 16_000, 80), expected, atol=2e-4)


class Join(torch.nn.Module):
    """Two maps, weighed by what both show."""

    def __init__(self, width):
        super().__init__()
        between, layers = width // 4, torch.nn
        self.local_att = layers.Sequential(
            layers.Conv2d(2 * width, between, 1), layers.BatchNorm2d(between), layers.SiLU(),
            layers.Conv2d(between, width, 1), layers.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x, y):
        share = 1 + torch.tanh(self.local_att(torch.cat((x, y), 1)))
        return x * share + y * (2 - share)


class Block(torch.nn.Module):
    def __init__(self, into, width, stride, joins):
        super().__init__()
        layers, half = torch.nn, width // 2
        self.conv1, self.bn1 = layers.Conv2d(into, width, 1, stride, bias=False), layers.BatchNorm2d(width)
        self.convs = layers.ModuleList(layers.Conv2d(half, half, 3, padding=1, bias=False) for _ in range(2))
        self.bns = layers.ModuleList(layers.BatchNorm2d(half) for _ in range(2))
        self.conv3, self.bn3 = layers.Conv2d(width, 2 * width, 1, bias=False), layers.BatchNorm2d(2 * width)
        if joins:
            self.fuse_models = layers.ModuleList([Join(half)])
        self.shortcut = layers.Sequential()
        if stride != 1 or into != 2 * width:
            self.shortcut = layers.Sequential(
                layers.Conv2d(into, 2 * width, 1, stride, bias=False), layers.BatchNorm2d(2 * width)
            )
        self.cut = layers.Hardtanh(0, 20)

    def forward(self, x):
        one, two = self.cut(self.bn1(self.conv1(x))).chunk(2, 1)
        one = self.cut(self.bns[0](self.convs[0](one)))
        two = self.fuse_models[0](one, two) if hasattr(self, "fuse_models") else one + two
        two = self.cut(self.bns[1](self.convs[1](two)))
        return self.cut(self.bn3(self.conv3(torch.cat((one, two), 1))) + self.shortcut(x))


class TorchEres2Net(torch.nn.Module):
    """The layers of 3D-Speaker's by its names, narrower."""

    def __init__(self, width=8):
        super().__init__()
        self.conv1, self.bn1 = (
            torch.nn.Conv2d(1, width, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(width),
        )
        into = width
        for number, count in enumerate((3, 4, 6, 3)):
            own, blocks = width * 2**number, []
            for place in range(count):
                blocks.append(Block(into, own, 2 if number and not place else 1, number > 1))
                into = 2 * own
            setattr(self, f"layer{number + 1}", torch.nn.Sequential(*blocks))
            if number < 3:
                down = torch.nn.Conv2d(into, 2 * into, 3, 2, 1, bias=False)
                setattr(self, f"layer{number + 1}_downsample", down)
            if number:
                setattr(self, "fuse_mode" + "1234"[: number + 1], Join(into))
        self.seg_1 = torch.nn.Linear(2 * into * 10, 12)

    def forward(self, features):
        x = torch.relu(self.bn1(self.conv1(features.mT[:, None])))
        first, joined = self.layer1(x), None
        x = joined = first
        for number in (2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
            below = getattr(self, f"layer{number - 1}_downsample")(joined)
            joined = getattr(self, "fuse_mode" + "1234"[:number])(x, below)
        spread = torch.sqrt(torch.var(joined, dim=-1) + 1e-8)
        return self.seg_1(torch.cat((joined.mean(-1).flatten(1), spread.flatten(1)), 1))


def test_eres2net_is_torchs_layers(tmp_path, noise):
    theirs = TorchEres2Net().eval()
    with torch.no_grad():
        for name, each in theirs.state_dict().items():
            if "running_var" in name or (each.ndim == 1 and name.endswith("weight")):
                each.copy_(torch.rand(each.shape) + 0.5)
            elif each.ndim == 1:
                each.copy_(torch.randn(each.shape) / 4)
    file = tmp_path / "pretrained_eres2net.ckpt"
    torch.save(theirs.state_dict(), file)
    assert eres2net.LAYOUT.keys() == {name for name in theirs.state_dict() if "num_batches" not in name}
    features = mel.kaldi(noise, 16_000, 80)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(features)[None])[0].numpy()
    found = eres2net.Network(str(file)).embed(features)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    network, clip = open_evaluator("eres2net", str(file)), write_sound(tmp_path / "a.wav", 0.6)
    assert np.linalg.norm(network.voice(clip)) == pytest.approx(1) and network.name == "eres2net"
    with pytest.raises(audio.AudioError, match="too_short"):
        network.voice(write_sound(tmp_path / "b.wav", 0.2))
    torch.save({"other": torch.zeros(1)}, file)
    with pytest.raises(MissingEvaluatorError, match="lacks conv1.weight"):
        open_evaluator("eres2net", str(file))


def _message(*fields) -> bytes:
    """A protobuf message of (number, integer | bytes | text)."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the least first; these numbers have two bytes at most."""
    return bytes([number] if number < 128 else [number & 127 | 128, number >> 7])


def _tensor_info(name: str, *shape: str | int) -> bytes:
    sizes = [(1, _message((2 if isinstance(each, str) else 1, each))) for each in shape]
    return _message((1, name), (2, _message((1, _message((1, 1), (2, _message(*sizes)))))))


def test_eres2net_may_be_an_onnx_file(tmp_path):
    """One whose embedding is the mean of exp(features) over time."""
    axes = _message((1, "axes"), (8, 1), (20, 7))
    keeps = _message((1, "keepdims"), (3, 0), (20, 2))
    nodes = [
        _message((1, "feature"), (2, "power"), (4, "Exp")),
        _message((1, "power"), (2, "embedding"), (4, "ReduceMean"), (5, axes), (5, keeps)),
    ]
    given, made = _tensor_info("feature", "batch", "frames", 80), _tensor_info("embedding", "batch", 80)
    graph = _message(*((1, node) for node in nodes), (2, "g"), (11, given), (12, made))
    file = tmp_path / "eres2net.onnx"
    file.write_bytes(_message((1, 6), (7, graph), (8, _message((1, ""), (2, 11)))))
    clip = write_sound(tmp_path / "a.wav", 0.6)
    features = mel.kaldi(sound.read(clip, 16_000), 16_000, 80)
    expected = np.exp(features - features.mean(0)).mean(0)
    found = open_evaluator("eres2net", str(file)).voice(clip)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-4)
    file.write_bytes(struct.pack("<Q", 1))
    with pytest.raises(MissingEvaluatorError, match="no ONNX file"):
        open_evaluator("eres2net", str(file))
