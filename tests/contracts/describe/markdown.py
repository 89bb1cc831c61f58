"""The little of Markdown that the generated pages need."""

from collections.abc import Iterable, Sequence

NOTICE = "<!-- Generated: python -m tests.contracts.generate_docs -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; a cell keeps to its line, and bars in it are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell_text(cell) for cell in row) + " |" for row in lines)


def cell_text(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTICE, *parts]) + "\n"
