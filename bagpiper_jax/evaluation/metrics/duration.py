"""How far the length of a generated clip is from the length that was wanted, in seconds."""


def error(wanted: float, generated: float) -> float:
    """Seconds between them, without sign. Raises ValueError: no length was wanted."""
    if not wanted > 0:
        raise ValueError(f"a clip of {wanted:g} s cannot be wanted")
    return abs(generated - wanted)
