"""An adversary for the codec: discriminators of waveforms and spectra, and how much the codec listens to them.

config.py           what an adversary is, and from which step
discriminators.py   HiFi-GAN's periods and DAC's complex spectra in bands
losses.py           least squares or hinge, and feature matching
balance.py          gradients brought to set shares of another's norm
step.py             one optimizer step of codec and discriminators together
"""
