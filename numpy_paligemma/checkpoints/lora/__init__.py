"""LoRA adapters: read, held against their base, and merged into it."""
