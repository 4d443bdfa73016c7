"""Traces being read: anyone's names, files and layouts, brought side by side."""
