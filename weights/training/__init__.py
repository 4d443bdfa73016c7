"""Train the miniature: a small PaliGemma, from nothing to `weights/miniature`."""
