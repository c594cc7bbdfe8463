"""Words of messages."""


def number_of(number: int, what: str) -> str:
    """Returns a number with its noun, which is given in the singular: "1 image", "1,200 images", "2 classes"."""
    plural = f"{what}es" if what.endswith(("s", "x", "ch")) else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"
