"""Files into weights: names, shapes and bytes, every one accounted for."""
