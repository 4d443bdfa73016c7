"""What taps are good for beyond a look: the work and time behind every array."""
