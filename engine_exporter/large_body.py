"""A JSON body too large to be parsed: the few members that are wanted, found as it passes. Pure, bounded, never fails.

What is not wanted (prompts, images) is skipped by a search in C, and nothing of it is kept. What is no JSON gives no
members, or some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

KEY_LIMIT_BYTES = 64
"""Longest key that can be a wanted one, as it is written."""
MEMBER_LIMIT_BYTES = 1 << 16
"""Longest value that is kept, as it is written."""

_INSIDE = rb'(?:[^"\\]++|\\.)*+'
_FLAT = rb'[^"{}\[\]]++|"' + _INSIDE + rb'"'
_REST_OF_STRING = re.compile(_INSIDE, re.DOTALL)
_DEEP = re.compile(rb"(?:" + _FLAT + rb"|[{\[](?:" + _FLAT + rb")*+[}\]])*+", re.DOTALL)
"""Strings, numbers, and objects and arrays that hold no others; the next byte opens or closes something."""
_TOP = re.compile(rb'["{}\[\],:]')
_QUOTE, _BACKSLASH, _COLON, _COMMA, _OBJECT, _ARRAY = b'"\\:,{['


class MemberScanner:
    """Finds the wanted members of the outermost object; of one that comes twice the last, as a parser does."""

    def __init__(self, wanted: AbstractSet[str]) -> None:
        """Start before the first byte.

        Args:
            wanted: keys.
        """
        self._wanted = wanted
        self._found: dict[str, bytes] = {}
        self._depth = 0
        self._in_string = self._escaped = False
        self._at_key = False
        """Between the outermost object's members, or in a key of it."""
        self._name: str | None = None
        """The wanted key whose value is under way."""
        self._kept: bytearray | None = None
        """What there is of the key or of the wanted value under way."""

    def add(self, part: bytes) -> None:
        """Take the next part."""
        at = 0
        while at < len(part):
            at = self._string(part, at) if self._in_string else self._structure(part, at)

    def members(self) -> dict[str, Any]:
        """The wanted members that were there whole, parsed."""
        found: dict[str, Any] = {}
        for name, text in self._found.items():
            with suppress(ValueError, RecursionError):
                found[name] = json.loads(text)
        return found

    def _string(self, part: bytes, at: int) -> int:
        """Go on to the end of a string."""
        end = part.find(b'"', at)
        if end < 0 and not self._escaped and part[-1] != _BACKSLASH:
            end = len(part)
        elif end < 0 or self._escaped or part[end - 1] == _BACKSLASH:  # there are escapes that matter
            end = min(at + self._escaped, len(part))
            match = _REST_OF_STRING.match(part, end)
            end = match.end() if match else end
            self._escaped = end < len(part) and part[end] == _BACKSLASH  # the last byte: what it escapes is to come
        closed = end < len(part) and not self._escaped
        end = min(end + 1, len(part))
        self._keep(part, at, end)
        if closed:
            self._in_string = False
        return end

    def _structure(self, part: bytes, at: int) -> int:
        """Go on to the next character that means something."""
        if self._depth > 1:
            end = _DEEP.match(part, at).end()  # type: ignore[union-attr]  # it matches nothing at all, too
            if end > at:
                self._keep(part, at, end)
                return end
        match = _TOP.search(part, at)
        end = len(part) if match is None else match.end()
        sign = 0 if match is None else part[end - 1]
        if sign == _QUOTE:
            self._in_string = True
            if self._at_key:
                self._kept = bytearray()
            self._keep(part, at if not self._at_key else end - 1, end)
        elif self._depth == 1 and sign in b":,}]" and sign:
            self._keep(part, at, end - 1)
            self._between(sign)
        else:
            self._keep(part, at, end)
            if sign in (_OBJECT, _ARRAY):
                self._depth += 1
                self._at_key = self._depth == 1 and sign == _OBJECT
            elif sign:
                self._depth -= 1
        return end

    def _between(self, sign: int) -> None:
        """A key or a value of the outermost object is over."""
        kept, self._kept = self._kept, None
        if sign == _COLON:
            if self._at_key and kept is not None:
                self._name = self._wanted_key(bytes(kept))
                self._kept = None if self._name is None else bytearray()
            self._at_key = False
            return
        if self._name is not None and kept is not None:
            self._found[self._name] = bytes(kept)
        self._name = None
        self._at_key = sign == _COMMA
        if sign != _COMMA:
            self._depth -= 1

    def _wanted_key(self, text: bytes) -> str | None:
        with suppress(ValueError):
            key = json.loads(text)
            return key if isinstance(key, str) and key in self._wanted else None
        return None

    def _keep(self, part: bytes, start: int, end: int) -> None:
        kept = self._kept
        if kept is not None:
            if len(kept) + end - start > (KEY_LIMIT_BYTES if self._at_key else MEMBER_LIMIT_BYTES):
                self._kept = None
            else:
                kept += part[start:end]
