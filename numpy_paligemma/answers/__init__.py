"""Answers: what the text says, as boxes and masks, and how they look drawn."""
