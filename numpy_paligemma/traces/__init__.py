"""What a tap can tell: every intermediate in a file, compared, and timed."""
