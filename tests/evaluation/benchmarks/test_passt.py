"""PaSST by path: torch's own transformer layers, and a spectrogram as torch and Kaldi have it."""

import re

import numpy as np
import pytest
from known_evaluators import write_sound

from bagpiper_jax.evaluation.evaluators import passt

torch = pytest.importorskip("torch", reason="pip install 'bagpiper_jax[interop]' brings torch")

WIDTH, HEADS, CLASSES = 16, 2, 7


class TorchPasst(torch.nn.Module):
    """Narrower, and of two layers: torch's own, whose parameters `state` calls as PaSST does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.patches = torch.nn.Conv2d(1, WIDTH, 16, 10)
        self.norm = torch.nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = torch.nn.Sequential(torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, CLASSES))
        shapes = {"cls_token": (1, 1, WIDTH), "dist_token": (1, 1, WIDTH), "new_pos_embed": (1, 2, WIDTH)}
        shapes |= {"freq_new_pos_embed": (1, WIDTH, 12, 1), "time_new_pos_embed": (1, WIDTH, 1, 99)}
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(shape)))
        with torch.no_grad():
            for each in self.parameters():
                each.add_(torch.randn(each.shape) / 8)

    def forward(self, spectrogram):
        x = self.patches(spectrogram.mT[:, None])
        x = x + self.freq_new_pos_embed + self.time_new_pos_embed[..., : x.shape[-1]]
        first = torch.cat((self.cls_token, self.dist_token), 1) + self.new_pos_embed
        x = self.norm(self.blocks(torch.cat((first.expand(len(x), -1, -1), x.flatten(2).mT), 1)))
        embedding = (x[:, 0] + x[:, 1]) / 2
        return embedding, self.head(embedding)

    def state(self):
        renamed = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj": "attn.proj", "linear": "mlp.fc"}
        renamed |= {"blocks.layers": "blocks", "patches": "patch_embed.proj"}
        found = {}
        for name, each in self.state_dict().items():
            for old, new in renamed.items():
                name = name.replace(old, new)
            found[name] = each
        return found


def _torch_log_mel(samples):
    """Preemphasis, a spectrogram with mirrored ends, and transformers' bands on Kaldi's mel scale."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(513, 128, 0.0, 15_000.0, 32_000, None, "kaldi", triangularize_in_mel_space=True)
    x = torch.from_numpy(samples)
    x = torch.nn.functional.conv1d(x[None, None], torch.tensor([[[-0.97, 1.0]]]))[0, 0]
    window = torch.hann_window(800, periodic=False)
    power = torch.stft(x, 1024, 320, 800, window, return_complex=True).abs() ** 2
    return ((power.T @ torch.from_numpy(filters).float() + 1e-5).log() + 4.5) / 5


def test_passt_is_torchs_layers(tmp_path, monkeypatch):
    theirs = TorchPasst().eval()
    layout = {name: tuple(each.shape) for name, each in theirs.state().items()}
    assert layout.keys() == {name for name in passt.LAYOUT if not re.match(r"blocks\.(?!0|1\.)", name)}
    monkeypatch.setattr(passt, "LAYOUT", layout)
    torch.save(theirs.state(), tmp_path / "passt.pt")
    listener = passt.Passt(str(tmp_path / "passt.pt"), HEADS)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 12 * passt.RATE).astype(np.float32)
    heard = listener.hear_samples(samples)
    loud = samples * np.float32(10 ** (-1 / 20) / np.abs(samples).max())
    windows = [loud[: 10 * passt.RATE], np.pad(loud[5 * passt.RATE :], (0, 3 * passt.RATE))]
    with torch.inference_mode():
        expected = theirs(torch.stack([_torch_log_mel(each) for each in windows]))
    for found, each in zip((heard.embeddings, heard.logits), expected, strict=True):
        assert np.ptp(each.numpy()) > 0.1
        np.testing.assert_allclose(found, each.numpy(), rtol=1e-3, atol=1e-3)
    short = listener.hear(write_sound(tmp_path / "a.wav", 0.05))
    assert short.logits.shape == (1, CLASSES)
    assert np.isfinite(listener.hear_samples(np.zeros(3, np.float32)).logits).all()


def test_published_weights_have_this_layout():
    """The names and numbers of the network that hear21passt 0.0.26 builds, without its second head."""
    sizes = {name: int(np.prod(shape)) for name, shape in passt.LAYOUT.items()}
    assert (len(sizes), sum(sizes.values())) == (157, 85_748_495)
    assert {"blocks.11.attn.qkv.weight", "head.1.bias"} <= sizes.keys()
