"""The body of a request: the few fields of it that are read, as it passes. Pure: no clock, no I/O.

The prompt is never kept: small JSON is parsed whole and let go, large JSON and forms are searched as they pass.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Protocol

from engine_exporter.identity import TEXT_LIMIT, clean
from engine_exporter.large_body import MemberScanner

BODY_LIMIT_BYTES = 1 << 18
"""Larger bodies (images, whole books) are searched for a few members as they pass, not kept and parsed."""
FORM_HEAD_LIMIT_BYTES = 1 << 13
"""Longest headers of one field of a form; a form with longer ones is not read on."""
FORM_FIELD_LIMIT_BYTES = 1 << 10
INTEGER_END = 2**63
_METADATA_LIMIT = 16
"""Entries of `metadata` that OpenAI allows; more are not read."""
_MEMBERS = frozenset({"model", "stream", "n", "background", "user", "safety_identifier", "metadata"})
_FORM_FIELDS = frozenset({b"model", b"stream", b"user"})
_TRUE = frozenset({"true", "1", "on", "yes", "y", "t"})
"""What vLLM's form fields take for true."""


class Asked(NamedTuple):
    """The fields of a request body that are read."""

    model: str | None = None
    stream: bool | None = None
    """None where the body was never read, e.g. because the key was refused."""
    choices: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    """The body's `metadata`, as far as it is short text; not stored."""
    background: bool = False
    """The answer is made after it was promised (`/v1/responses`)."""


class Reader(Protocol):
    """Collects what is wanted of a request body as it passes."""

    def add(self, part: bytes) -> None:
        """Take one part."""

    def read(self) -> Asked:
        """Say what was found."""


def reader_for(content_type: bytes | None) -> Reader:
    """Make the reader of a body.

    Args:
        content_type: the request's header; vLLM itself takes all that is no form for JSON.
    """
    boundary = _BOUNDARY.match(content_type) if content_type else None
    return BodyReader() if boundary is None else FormReader(boundary.group(1) or boundary.group(2))


class BodyReader:
    """Collects a JSON body, and keeps no more of a large one than the members that are wanted."""

    __slots__ = ("_parts", "_scanner", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._scanner: MemberScanner | None = None

    def add(self, part: bytes) -> None:
        """Take one part."""
        self._size += len(part)
        if self._scanner is not None:
            self._scanner.add(part)
        elif self._size <= BODY_LIMIT_BYTES:
            self._parts.append(part)
        else:  # it has just become large
            self._scanner = MemberScanner(_MEMBERS)
            for early in self._parts:
                self._scanner.add(early)
            self._scanner.add(part)
            self._parts.clear()

    def read(self) -> Asked:
        """Read the few fields."""
        return read_body(b"".join(self._parts)) if self._scanner is None else asked_of(self._scanner.members())


def read_body(body: bytes) -> Asked:
    """Read the few fields of a request body; nothing where it is not a JSON object."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Asked()
    return asked_of(data) if isinstance(data, dict) else Asked()


def asked_of(data: dict[str, Any]) -> Asked:
    """Read the few fields of a parsed request."""
    model, choices, metadata = data.get("model"), data.get("n"), data.get("metadata")
    user = data.get("safety_identifier") or data.get("user")
    words = None
    if isinstance(metadata, dict):
        words = {
            str(key): text
            for key, value in list(metadata.items())[:_METADATA_LIMIT]
            if isinstance(value, str) and (text := clean(sendable(value)))
        }
        if user is None:
            user = metadata.get("user_id")  # as /v1/messages has it
    return Asked(
        model=sendable(model[:TEXT_LIMIT]) if isinstance(model, str) and model else None,
        stream=data.get("stream") is True,
        choices=choices if isinstance(choices, int) and abs(choices) < INTEGER_END else None,
        user=clean(sendable(user)) if isinstance(user, str) else None,
        metadata=words,
        background=data.get("background") is True,
    )


def sendable(text: str) -> str:
    r"""Replace what UTF-8 does not have: JSON can say half a surrogate pair (`"\ud800"`), and a span can't carry it."""
    return text.encode(errors="replace").decode()


_BOUNDARY = re.compile(
    rb'\s*multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))(?=[\s;]|$)', re.IGNORECASE
)
_FIELD = re.compile(rb'(?:^|\r\n)content-disposition:[^\r\n]*[;\s]name="?([^";\r\n]*)', re.IGNORECASE)
_FILE = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


class FormReader:
    """Finds the wanted fields of a `multipart/form-data` body (audio to transcribe), and keeps nothing of the file."""

    __slots__ = ("_fields", "_in_head", "_mark", "_name", "_rest", "_value")

    def __init__(self, boundary: bytes) -> None:
        """Start before the first byte.

        Args:
            boundary: as the content type says it.
        """
        self._mark = b"\r\n--" + boundary
        self._rest: bytes | None = b"\r\n"
        """What may belong to a mark that is not whole yet; None after the end."""
        self._in_head = False
        self._name: bytes | None = None
        self._value = b""
        self._fields: dict[bytes, bytes] = {}

    def add(self, part: bytes) -> None:
        """Take one part."""
        if self._rest is None:
            return
        data = self._rest + part
        at = 0
        while self._rest is not None:
            found = self._head(data, at) if self._in_head else self._body(data, at)
            if found is None:
                return
            at = found

    def read(self) -> Asked:
        """Read the few fields."""
        model, stream, user = (
            clean(self._fields.get(name, b"").decode(errors="replace")) for name in (b"model", b"stream", b"user")
        )
        return Asked(model=model, stream=(stream or "").lower() in _TRUE, user=user)

    def _head(self, data: bytes, at: int) -> int | None:
        """The headers of a field; None where more must come."""
        end = data.find(b"\r\n\r\n", at)
        if data.startswith(b"--", at) or (len(data) if end < 0 else end) - at > FORM_HEAD_LIMIT_BYTES:
            self._rest = None
            return None
        if end < 0:
            self._rest = data[at:]
            return None
        head = data[at:end]
        field = _FIELD.search(head)
        name = field.group(1) if field is not None and _FILE.search(head) is None else None
        self._name, self._value, self._in_head = name if name in _FORM_FIELDS else None, b"", False
        return end + 4

    def _body(self, data: bytes, at: int) -> int | None:
        """What a field holds, until the next mark; None where more must come."""
        end = data.find(self._mark, at)
        stop = end if end >= 0 else max(len(data) - len(self._mark) + 1, at)
        if self._name is not None:
            self._value += data[at:stop]
            if len(self._value) > FORM_FIELD_LIMIT_BYTES:
                self._name = None
        if end < 0:
            self._rest = data[stop:]
            return None
        if self._name is not None:
            self._fields[self._name] = self._value
        self._name, self._in_head = None, True
        return end + len(self._mark)
