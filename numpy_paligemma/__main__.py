"""``python -m numpy_paligemma``."""

from numpy_paligemma.commands import entry

if __name__ == "__main__":
    entry()
