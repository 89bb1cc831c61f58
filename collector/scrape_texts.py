"""What the scrape loop itself needs to know of a text, without parsing it. Pure."""

from __future__ import annotations


def samples_count(text: bytes) -> int:
    """Count the lines that are samples."""
    return sum(1 for line in text.split(b"\n") if line and not line.startswith(b"#"))


def ended_lines(before: bytes, now: bytes) -> bytes:
    """Return the samples of a text whose series the next one lacks, with the comments that say what they are.

    Series with times of their own are left alone, as Prometheus leaves them: nobody knows when they end.
    """
    there = {head_of(line) for line in now.split(b"\n")}
    comments: list[bytes] = []
    ended: list[bytes] = []
    for line in before.split(b"\n"):
        if line.startswith((b"# TYPE", b"# UNIT", b"# EOF")):
            comments.append(line)
        elif line and not line.startswith(b"#") and (head := head_of(line)) not in there:
            rest = line[len(head) :].split(b" # ", 1)[0].split()
            if len(rest) == 1:
                ended.append(head + b" " + rest[0])
    return b"\n".join([*comments, *ended, b""]) if ended else b""


def head_of(line: bytes) -> bytes:
    """Return name and labels of a line."""
    plain = line.split(b" # {", 1)[0]
    return plain[: plain.rfind(b"}") + 1] if b"{" in plain else plain.split(b" ", 1)[0]
