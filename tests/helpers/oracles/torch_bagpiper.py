"""The release's model in torch, of transformers' own modules and our parameters (docs/reference.md, Model)."""

import numpy as np
import tiny_models
import torch
import transformers
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

from bagpiper_jax.dialogue import Rendered
from bagpiper_jax.interop.tables import qwen3, tower
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig


def decoder_config(decoder: DecoderConfig, vocabulary: int) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(
        vocab_size=vocabulary, hidden_size=decoder.width, intermediate_size=decoder.ffn_width,
        num_hidden_layers=decoder.layers, num_attention_heads=decoder.heads, num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_width, rope_theta=decoder.rope_theta, rms_norm_eps=decoder.norm_eps,
        tie_word_embeddings=False, max_position_embeddings=32768, attention_bias=False,
    )  # fmt: skip


def tower_config(config: AudioTowerConfig) -> Qwen3OmniMoeAudioEncoderConfig:
    return Qwen3OmniMoeAudioEncoderConfig(
        num_mel_bins=config.mel_bins, encoder_layers=config.layers, encoder_attention_heads=config.heads,
        encoder_ffn_dim=config.ffn_width, d_model=config.width, output_dim=config.output_width,
        downsample_hidden_size=config.conv_channels, n_window=50, n_window_infer=100 * config.window_chunks,
    )  # fmt: skip


class TorchBagpiper:
    """One document at a time: no packing, no fixed shapes, logits of the whole vocabulary."""

    def __init__(self, config: BagpiperConfig, ours: dict[str, np.ndarray]):
        shapes = {name: x.shape for name, x in ours.items()}
        self.vocabulary = config.vocabulary
        decoder = transformers.Qwen3ForCausalLM(decoder_config(config.decoder, config.vocabulary.size))
        self.decoder = tiny_models.load(decoder, qwen3.entries(shapes), ours)
        encoder = Qwen3OmniMoeAudioEncoder(tower_config(config.tower))
        self.tower = tiny_models.load(encoder, tower.entries(shapes), ours)
        self.adaptor = torch.nn.Linear(config.tower.output_width, config.decoder.width)
        self.adaptor.weight.data = torch.tensor(ours["adaptor/kernel"].T.copy())
        self.adaptor.bias.data = torch.tensor(ours["adaptor/bias"])
        self.stream_emb = torch.tensor(ours["stream_emb"], requires_grad=True)

    @property
    def head(self) -> torch.Tensor:
        return self.decoder.lm_head.weight

    def embed(self, tokens: np.ndarray) -> torch.Tensor:
        """[T, S] → [1, T, D]: streams above 0 count unless their token is 0; row 0 takes no gradient."""
        tokens = torch.tensor(np.asarray(tokens, np.int64))
        table = self.decoder.model.embed_tokens.weight
        rows = torch.nn.functional.embedding(tokens, table, padding_idx=0)
        counts = (tokens != 0) | (torch.arange(tokens.shape[1]) == 0)
        return (rows * counts[..., None]).sum(1)[None]

    def inputs(self, sequence: Rendered) -> torch.Tensor:
        """Embeddings of a document, overwritten where it listens."""
        x = self.embed(sequence.tokens)
        for span in sequence.audio:
            heard = self.adaptor(self.listen(span.samples))
            assert len(heard) == span.num_tokens
            x = torch.cat([x[:, : span.start], heard[None], x[:, span.start + len(heard) :]], 1)
        return x

    def listen(self, samples: np.ndarray) -> torch.Tensor:
        """Tower features of a waveform that is normalised first, as in training."""
        extractor = transformers.WhisperFeatureExtractor(feature_size=128)
        mel = extractor(
            samples, sampling_rate=16_000, do_normalize=True, padding="longest", truncation=False, return_tensors="pt"
        ).input_features[0]  # fmt: skip
        return self.tower(mel, feature_lens=torch.tensor([mel.shape[1]])).last_hidden_state

    def hidden(self, x: torch.Tensor, cache=None) -> torch.Tensor:
        """Final hidden states [T, D] of embeddings [1, T, D], behind what the cache holds."""
        return self.decoder.model(
            inputs_embeds=x, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state[0]

    def logits(self, hidden: torch.Tensor, stream: int) -> torch.Tensor:
        """Of one stream, over all V ids."""
        return (hidden + (self.stream_emb[stream] if stream else 0)) @ self.head.T
