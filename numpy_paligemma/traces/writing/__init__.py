"""Traces being written: tensors put down as they are born, and what is said beside them."""
