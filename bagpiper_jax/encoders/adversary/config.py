"""What an adversary is, from which step it teaches, and how loud."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the discriminators; the defaults are DAC's at 16 kHz.

    Attributes:
        periods: samples after which a waveform is folded, for one discriminator each.
        period_width: channels of their first layer; the four others have 4, 16, 32 and 32 times as many.
        windows: samples of the windows of complex spectra, for one discriminator each.
        band_width: channels of every layer above spectra.

    Raises:
        ValueError: there is no discriminator, or a window does not divide into four hops.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_width: int = 32
    windows: tuple[int, ...] = (1024, 512, 256)
    band_width: int = 32

    def __post_init__(self):
        if not self.periods + self.windows:
            raise ValueError("an adversary needs periods or windows, there are none")
        for window in self.windows:
            if window < 64 or window % 4:
                raise ValueError(f"windows must be multiples of 4 from 64 samples, got {window}")


@dataclasses.dataclass(frozen=True)
class AdversaryConfig:
    """Discriminators with an AdamW of their own, and how much the codec listens to them.

    Attributes:
        begin: the step of the run at which the discriminators begin to learn.
        ramp_steps: steps from there until the codec listens in full.
        loss: "lsgan", least squares, as DAC and HiFi-GAN have it, or "hinge", as SoundStream has it.
        adversarial_share, feature_share: the norms, at the waveform, of the gradients of deceiving and of feature
            matching, as multiples of that of the spectral losses.
        norm_decay: of the running means of those norms.
        learning_rate, clip_norm: of the discriminators; the rate falls as the codec's does.
        discriminators: their sizes.
    """

    begin: int = 0
    ramp_steps: int = 1000
    loss: Literal["lsgan", "hinge"] = "lsgan"
    adversarial_share: float = 0.5
    feature_share: float = 1.0
    norm_decay: float = 0.99
    learning_rate: float = 2e-4
    clip_norm: float = 10.0
    discriminators: DiscriminatorConfig = DiscriminatorConfig()

    def __post_init__(self):
        if self.begin < 0 or self.ramp_steps < 0:
            raise ValueError(f"steps begin at 0, got begin {self.begin} and ramp_steps {self.ramp_steps}")
        if not 0 <= self.norm_decay < 1:
            raise ValueError(f"norm_decay must lie in [0, 1), got {self.norm_decay}")
