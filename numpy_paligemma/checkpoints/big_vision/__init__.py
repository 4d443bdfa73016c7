"""The original checkpoints, as big_vision saves them: one `.npz` of stacked arrays."""
