"""A reader's own layers under our tests: see README.md."""
