"""Picture and prompt to arrays: what stands before the model."""
