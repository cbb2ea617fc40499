"""Where a run's numbers go besides `metrics.jsonl`, which has them all: TensorBoard always, services by choice.

A service is a frozen dataclass with the settings of `TrainConfig.trackers`, whose `open(run)` gives a `Tracker`. What a
service does, or does not, never stops or slows training: `relay.Relay` talks to it in a thread.
"""
