"""The only error of this package: a card that cannot be understood, with the line and the reason."""


class CardRefused(ValueError):
    """The card is refused: `sentence` says why and what to do, `line` is counted in the whole file."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        self.sentence = sentence
        self.line = line
        super().__init__(f"Line {line} of the card: {sentence}" if line else f"The card: {sentence}")


def shown(text: str, limit: int = 60) -> str:
    """Quote a piece of the card for a sentence, on one line and cut to `limit` characters."""
    flat = " ".join(text.split())
    return f"“{flat[: limit - 1]}…”" if len(flat) > limit else f"“{flat}”"


def said_twice(what: str, first_line: int) -> str:
    """Return the sentence for a label or key that occurs a second time."""
    return f"{what} occurs twice (first on line {first_line}), so one would be lost; rename or remove one."
