"""What a difference is made of: the two sides, replayed, fitted and told apart."""
