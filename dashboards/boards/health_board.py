"""Page."""


def show() -> None:
    """Draw the page."""
