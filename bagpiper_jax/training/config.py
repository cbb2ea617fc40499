"""The settings of one training run."""

import dataclasses

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.dialogue import RenderConfig
from bagpiper_jax.models.adapters.lora import AdapterError, LoraConfig
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.runs import compiler_flags
from bagpiper_jax.runs.guard import GuardConfig
from bagpiper_jax.runs.heartbeat import WatchConfig
from bagpiper_jax.runs.trackers.mlflow import MlflowTracker
from bagpiper_jax.runs.trackers.vertex import VertexTracker
from bagpiper_jax.runs.trackers.weights_and_biases import WandbTracker
from bagpiper_jax.training.losses import LossConfig
from bagpiper_jax.training.optimizer import OptimizerConfig
from bagpiper_jax.training.partition import ADAPTER, STAGES, Partition

DEFAULT_STEPS = 600_000


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        output: directory of checkpoints, metrics and provenance; a run continues from what it finds there.
        train_lock, validation_lock: lock files of the mixtures; the latter's validation split is evaluated,
            and nothing without it.
        tokenizer, codec: the files that generation loads beside this model; recorded in the run's config.json.
        model, optimizer, loss, mesh, batch, render, guard, watch: settings of the parts.
        limits: the limits that the mixture must keep to before launch; `inspect_data --validate` and `plan` check them.
        slice: the chips that the run is sized for, see `chips.SLICES`; `plan` compiles for them. Training does not
            look at it.
        compiler_flags: flags of the TPU compiler for those chips, as '--xla_name=value', see `runs.compiler_flags`;
            other platforms' compilers do not get them.
        stage: the name of a set of parameters that train, see `partition.STAGES`.
        init_from: directory of a run, or of one of its checkpoints, whose parameters this run starts from;
            its optimizer and data position are not taken over.
        adapter: trains an adapter of `init_from` instead of the parameters themselves, which stay where they are: its
            checkpoints hold the adapter alone, and the run reads `init_from` whenever it starts.
        tokens: slots of the whole run, padding included. Where given, `steps` follows, and the learning rate's
            `warmup_steps` and `decay_end` are stretched so that its decay ends with these tokens: a run sees as many
            whatever its batch.
        steps: optimizer steps of the whole run; by default as many as `tokens` need, or 600,000. Given beside
            `tokens`, it only ends the run earlier or later.
        accumulation: micro-batches per step; the batch's rows are divided among them.
        seed: the seed of initialisation, order of examples and CFG dropout.
        cfg_dropout: share of examples that lose their condition (docs/reference.md, Guidance dropout); 0 in validation.
        history_noise: mean share of generated codec frames that the model sees replaced by others of the row while
            it predicts what follows, see `history.disturb`; the release has 0.
        trackers: services that get the metrics besides `metrics.jsonl` and TensorBoard's files (docs/running.md).
        log_every, validate_every, save_every: steps; 0 means only at the end.
        validation_batches: batches per validation, spread evenly over the split.
        keep: newest checkpoints kept.
        migrate_from: locks that this run was trained with before `train_lock`, oldest first. Lets it go on with
            other caches or rates, from where a window of the pack plan ends (docs/mixtures.md).
        feature_cache_mb: MiB of mel features that a process keeps between epochs; pays where cores are scarce
            and data small.
    """

    output: str
    train_lock: str
    validation_lock: str | None = None
    tokenizer: str | None = None
    codec: str | None = None
    model: BagpiperConfig = BagpiperConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    mesh: MeshConfig = MeshConfig()
    batch: BatchShape = BatchShape(rows=8, slots=8192, chunks=64)
    render: RenderConfig = RenderConfig()
    guard: GuardConfig = GuardConfig()
    watch: WatchConfig = WatchConfig()
    limits: MixtureLimits = MixtureLimits()
    slice: str = ""
    compiler_flags: tuple[str, ...] = ()
    stage: str = "pretrain"
    init_from: str | None = None
    adapter: LoraConfig | None = None
    tokens: int = 0
    steps: int | None = None
    accumulation: int = 1
    seed: int = 0
    cfg_dropout: float = 0.05
    history_noise: float = 0.0
    trackers: tuple[MlflowTracker | WandbTracker | VertexTracker, ...] = ()
    log_every: int = 10
    validate_every: int = 1000
    validation_batches: int = 8
    save_every: int = 1000
    keep: int = 3
    migrate_from: tuple[str, ...] = ()
    feature_cache_mb: int = 0

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ValueError(f"stage {self.stage!r} is none of {', '.join(STAGES)}")
        if self.adapter and not self.init_from:
            raise AdapterError(
                "TrainConfig.adapter changes a trained model: name it with TrainConfig.init_from"
            )
        compiler_flags.options(self.compiler_flags)
        self._follow_tokens()
        if self.steps < 1 or self.keep < 1 or self.accumulation < 1:
            raise ValueError("steps, keep and accumulation must be at least 1")
        if self.batch.rows % self.accumulation:
            raise ValueError(
                f"batch.rows {self.batch.rows} do not divide by accumulation {self.accumulation}"
            )
        if not 0 <= self.cfg_dropout <= 1:
            raise ValueError(f"cfg_dropout {self.cfg_dropout} is no probability")
        if not 0 <= self.history_noise <= 0.5:
            raise ValueError(f"history_noise {self.history_noise} must lie between 0 and 0.5")
        if self.batch.mel_bins != self.model.tower.mel_bins:
            raise ValueError(
                f"batch.mel_bins {self.batch.mel_bins} differs from the tower's {self.model.tower.mel_bins}"
            )

    @property
    def partition(self) -> Partition:
        """What trains."""
        return ADAPTER if self.adapter else STAGES[self.stage]

    def _follow_tokens(self) -> None:
        slots, optimizer = self.batch.rows * self.batch.slots, self.optimizer
        if self.tokens < 0:
            raise ValueError(f"tokens must not be negative, got {self.tokens}")
        needed = -(-self.tokens // slots) if self.tokens else DEFAULT_STEPS
        if self.tokens and needed != optimizer.decay_end:
            warmup = round(optimizer.warmup_steps * needed / optimizer.decay_end)
            object.__setattr__(
                self, "optimizer", dataclasses.replace(optimizer, warmup_steps=warmup, decay_end=needed)
            )
        if self.steps is None:
            object.__setattr__(self, "steps", needed)
