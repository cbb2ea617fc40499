"""What a run needs around its step: guard, ledger, heartbeat, faults, outputs, provenance, profiling."""
