"""Traces: every intermediate of a run in one file, under the name of its tap."""
