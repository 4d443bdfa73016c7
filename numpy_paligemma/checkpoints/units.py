"""A number of bytes, as people say it."""

UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def size_text(count: float) -> str:
    """Say a number of bytes to about three digits, such as "5.85 GB"."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:,.{2 if count < 10 * unit else 1}f} {name}"
    return f"{count:.0f} bytes"
