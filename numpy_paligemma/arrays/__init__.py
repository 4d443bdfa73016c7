"""What a weight may be, and where it lives."""
