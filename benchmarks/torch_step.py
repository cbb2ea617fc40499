"""The train step in PyTorch, as one would write it on transformers' modules: packed rows, the loss of the release.

Decoder and audio tower are transformers' own. The loss never makes logits of streams that have no targets, nor of ids
that a stream cannot choose; gradients, clipping, AdamW and schedule are those of `training.step`.
"""

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
import transformers
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeAudioEncoderConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeAudioEncoder

from bagpiper_jax.batch import Batch
from bagpiper_jax.interop.tables import qwen3
from bagpiper_jax.interop.tables import tower as tower_names
from bagpiper_jax.interop.tables.grammar import to_theirs
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.training.config import TrainConfig
from bagpiper_jax.training.optimizer import OptimizerConfig, learning_rate

LOSS_CHUNK = 2048
"""Slots whose logits exist at a time on a GPU; a CPU does best with as many as its cache holds."""


class TorchBagpiper(torch.nn.Module):
    """The model of `models.bagpiper` out of transformers' modules.

    Args:
        config: sizes.
        attention: "sdpa", which masks documents, or "sdpa_causal", which lets them see each other and so may use the
            fastest kernel.
    """

    def __init__(self, config: BagpiperConfig, attention: str = "sdpa", remat: bool = False):
        super().__init__()
        self.config, self.attention, self.remat = config, attention, remat
        decoder = decoder_config(config.decoder, config.vocabulary.size)
        self.decoder = transformers.Qwen3ForCausalLM(decoder)
        self.adaptor = torch.nn.Linear(config.tower.output_width, config.decoder.width)
        self.stream_emb = torch.nn.Parameter(torch.zeros(config.vocabulary.num_streams, config.decoder.width))
        self.tower = Qwen3OmniMoeAudioEncoder(tower_config(config.tower)).eval().requires_grad_(False)
        if remat:
            self.decoder.gradient_checkpointing_enable({"use_reentrant": False})

    def load(self, ours: Mapping[str, np.ndarray]) -> None:
        """Takes our parameters."""
        shapes = {name: x.shape for name, x in ours.items()}
        for module, table in ((self.decoder, qwen3), (self.tower, tower_names)):
            named = to_theirs(table.entries(shapes), ours)
            module.load_state_dict({n: torch.from_numpy(x.copy()) for n, x in named}, strict=True)
        self.adaptor.weight.data = torch.from_numpy(ours["adaptor/kernel"].T.copy())
        self.adaptor.bias.data = torch.from_numpy(ours["adaptor/bias"].copy())
        self.stream_emb.data = torch.from_numpy(ours["stream_emb"].copy())

    def forward(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of losses, frames)."""
        x = self._embed(batch["tokens"])
        if batch["mel"].shape[1]:
            x = torch.where(batch["heard"][..., None], self._listen(batch).to(x.dtype), x)
        hidden = self.decoder.model(
            inputs_embeds=x,
            position_ids=batch["positions"],
            attention_mask=batch.get("mask"),
            use_cache=False,
        ).last_hidden_state
        return self._loss(hidden, batch["tokens"], batch["loss_weights"])

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        table = self.decoder.model.embed_tokens.weight
        x = F.embedding(tokens[..., 0], table, padding_idx=0)
        frames = tokens[..., 1:].any(-1).nonzero(as_tuple=True)
        others = tokens[frames][:, 1:]
        return x.index_put(
            frames,
            (F.embedding(others, table, padding_idx=0) * (others != 0)[..., None]).sum(1),
            accumulate=True,
        )

    def _listen(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Tower features of every row, gathered to the slots that hear them: [B, T, D]."""
        mel = batch["mel"]
        with torch.no_grad():
            features = self.tower(
                mel.reshape(-1, mel.shape[-1]).T,
                feature_lens=torch.full((mel.shape[0],), mel.shape[1] * mel.shape[2], device=mel.device),
            ).last_hidden_state
        features = self.adaptor(features).reshape(mel.shape[0], -1, self.config.decoder.width)
        slots = batch["audio_slot"].clamp(min=0)[..., None].expand(-1, -1, features.shape[-1])
        return features.gather(1, slots)

    def _loss(self, hidden, tokens, weights) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, targets, weights = (x.flatten(0, 1) for x in (hidden[:, :-1], tokens[:, 1:], weights[:, 1:]))
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), LOSS_CHUNK):
            part = slice(start, start + LOSS_CHUNK)
            arguments = (hidden[part], targets[part], weights[part])
            # Like ours, logits are made again for the backward pass where memory is short.
            run = checkpoint if self.remat else lambda f, *a, use_reentrant: f(*a)
            total = total + run(self._chunk_loss, *arguments, use_reentrant=False)
        return total, (weights[:, 0] != 0).sum()

    def _chunk_loss(self, hidden, targets, weights) -> torch.Tensor:
        head, start = self.decoder.lm_head.weight, self.config.vocabulary.codec_start
        losses = F.cross_entropy(
            F.linear(hidden, head).float(), targets[:, 0], reduction="none", ignore_index=0
        )
        total = (losses * weights[:, 0]).sum()
        for stream in range(1, targets.shape[1]):
            kept = ((weights[:, stream] != 0) & (targets[:, stream] >= start)).nonzero()[:, 0]
            logits = F.linear(hidden[kept] + self.stream_emb[stream], head[start:]).float()
            losses = F.cross_entropy(logits, targets[kept, stream] - start, reduction="none")
            total = total + (losses * weights[kept, stream]).sum()
        return total


def decoder_config(decoder: DecoderConfig, vocabulary: int) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(
        vocab_size=vocabulary, hidden_size=decoder.width, intermediate_size=decoder.ffn_width,
        num_hidden_layers=decoder.layers, num_attention_heads=decoder.heads, num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_width, rope_theta=decoder.rope_theta, rms_norm_eps=decoder.norm_eps,
        tie_word_embeddings=False, max_position_embeddings=32768, attention_bias=False,
        attn_implementation="sdpa",
    )  # fmt: skip


def tower_config(config: AudioTowerConfig) -> Qwen3OmniMoeAudioEncoderConfig:
    return Qwen3OmniMoeAudioEncoderConfig(
        num_mel_bins=config.mel_bins, encoder_layers=config.layers, encoder_attention_heads=config.heads,
        encoder_ffn_dim=config.ffn_width, d_model=config.width, output_dim=config.output_width,
        downsample_hidden_size=config.conv_channels, n_window=50, n_window_infer=100 * config.window_chunks,
    )  # fmt: skip


class TorchStep:
    """Model, AdamW and schedule; `run()` is one optimizer step on one batch and returns its loss."""

    def __init__(self, config: TrainConfig, device: str, attention: str, compiled: bool, ours=None):
        if config.accumulation != 1:
            raise ValueError("the PyTorch side takes the batch as one; set TrainConfig.accumulation = 1")
        self.config, self.device, self.attention = config, device, attention
        with torch.device(device):
            self.model = TorchBagpiper(config.model, attention, config.model.decoder.remat != "none")
        if ours is not None:
            self.model.load(ours)
        if compiled:
            self.model.decoder.model = torch.compile(self.model.decoder.model)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.step = 0

    def place(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The batch on the device; what only depends on it is made once."""
        names = ("tokens", "loss_weights", "segment_ids", "positions", "mel", "audio_slot")
        placed = {n: torch.from_numpy(np.asarray(getattr(batch, n))).to(self.device) for n in names}
        placed |= {n: placed[n].long() for n in ("tokens", "positions", "audio_slot")}
        placed["heard"] = placed["audio_slot"] >= 0
        if self.attention == "sdpa":
            segments, slots = placed["segment_ids"], placed["segment_ids"].shape[1]
            causal = torch.ones(slots, slots, dtype=torch.bool, device=self.device).tril()
            placed["mask"] = (causal & (segments[:, :, None] == segments[:, None, :]))[:, None]
        return placed

    def run(self, batch: Mapping[str, torch.Tensor]) -> float:
        narrow = self.config.model.decoder.dtype == "bfloat16"
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=torch.bfloat16) if narrow else contextlib.nullcontext():
            total, frames = self.model(batch)
        loss = total / frames
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = float(learning_rate(self.config.optimizer, self.step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())


def make_optimizer(model: TorchBagpiper, config: OptimizerConfig) -> torch.optim.AdamW:
    """One fused AdamW; the embedding table does not decay."""
    table = model.decoder.model.embed_tokens.weight
    others = [p for p in model.parameters() if p.requires_grad and p is not table]
    groups = [
        {"params": others, "weight_decay": config.weight_decay},
        {"params": [table], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )
