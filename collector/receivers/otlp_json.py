"""OTLP/JSON to OTLP's protobuf. Pure.

protobuf's `json_format` is the reference, and slow: 3,000 spans a second. So the usual form is written straight into
protobuf's wire format, by a plan made once from the messages' descriptors. Whatever is not in the usual form (names in
snake case, enums by name, base64, numbers that are odd texts, nulls) goes to the reference, which also says what is
wrong with a body that is none: both give the same message or the same error for any bytes.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from collector.errors import PermanentError
from collector.receivers.otlp_messages import Signal

ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
DEPTH_LIMIT = 32
"""Messages inside messages; json_format has a limit as well, further out."""
KNOWN_COUNT, KNOWN_LENGTH = 20_000, 100
"""So many attributes of at most so many characters are remembered as written: most come again and again."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
Write = Callable[[Any, list[bytes], int], None]
"""Append the field's bytes: its value, where to, how deep the message lies."""


class OddError(ValueError):
    """JSON in another form than the usual one: the reference is to judge."""


def protobuf_of_json(signal: Signal, body: bytes) -> bytes:
    """Turn an OTLP/JSON body into the protobuf one.

    Raises:
        PermanentError: it is no such JSON.
    """
    try:
        return protobuf_of_usual_json(signal, body)
    except OddError:
        return protobuf_by_reference(signal, body)


def protobuf_of_usual_json(signal: Signal, body: bytes) -> bytes:
    """Turn a body in the usual form.

    Raises:
        OddError: it is in another.
    """
    out: list[bytes] = []
    try:
        write_message(plan_of(signal.request.DESCRIPTOR), msgspec.json.decode(body), out, 0)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise OddError(str(error)) from error
    return b"".join(out)


class Plan:
    """How the fields of one kind of message are written."""

    __slots__ = ("known", "oneofs", "writes")

    def __init__(self, descriptor: Descriptor) -> None:
        self.writes: dict[str, Write] = {}
        self.known = {field.name for field in descriptor.fields}
        """Names in snake case, which json_format takes as well."""
        self.oneofs = [
            frozenset(field.json_name for field in oneof.fields) for oneof in descriptor.oneofs if len(oneof.fields) > 1
        ]


@cache
def plan_of(descriptor: Descriptor) -> Plan:
    """Return the plan of a kind of message."""
    plan = Plan(descriptor)
    for field in descriptor.fields:
        plan.writes[field.json_name] = write_of(field)
    return plan


def odd(value: Any, out: list[bytes], depth: int) -> None:
    """Leave it to the reference."""
    raise OddError("not in the usual form")


def write_message(plan: Plan, value: Any, out: list[bytes], depth: int) -> None:
    """Append a message's fields."""
    if type(value) is not dict or depth > DEPTH_LIMIT:
        raise OddError("no object, or too deep")
    writes = plan.writes
    for name, one in value.items():
        if (write := writes.get(name)) is not None:
            write(one, out, depth)
        elif name in plan.known or name.startswith("["):
            raise OddError(name)
    if len(value) > 1:
        for oneof in plan.oneofs:
            if len(oneof & value.keys()) > 1:
                raise OddError("several of one")


def write_of(field: FieldDescriptor) -> Write:
    """Return how a field is written."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        one = write_submessage(field)
        return repeated(one) if field.is_repeated else one
    scalar = SCALARS.get(field.type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        scalar = (LENGTH, hex_id) if field.json_name in ID_KEYS else None
    elif field.type == FieldDescriptor.TYPE_ENUM:
        scalar = (VARINT, enum_number(frozenset(field.enum_type.values_by_number)))
    if scalar is None:
        return odd
    wire, encode = scalar
    if field.is_repeated:
        return repeated(tagged(field, wire, encode)) if wire == LENGTH else packed(field, encode)
    return tagged(field, wire, encode)


def tagged(field: FieldDescriptor, wire: int, encode: Callable[[Any], bytes]) -> Write:
    """Return how a scalar is written: its tag, then its bytes."""
    tag = varint(field.number << 3 | wire)

    def write(value: Any, out: list[bytes], depth: int) -> None:
        out.append(tag + encode(value))

    return write


def packed(field: FieldDescriptor, encode: Callable[[Any], bytes]) -> Write:
    """Return how a list of numbers is written."""
    tag = varint(field.number << 3 | LENGTH)

    def write(value: Any, out: list[bytes], depth: int) -> None:
        if type(value) is not list:
            raise OddError("no list")
        out.append(tag + prefixed(b"".join([encode(item) for item in value])))

    return write


def repeated(one: Write) -> Write:
    """Return how a list of fields is written."""

    def write(value: Any, out: list[bytes], depth: int) -> None:
        if type(value) is not list:
            raise OddError("no list")
        for item in value:
            one(item, out, depth)

    return write


def write_submessage(field: FieldDescriptor) -> Write:
    """Return how a message inside a message is written."""
    tag = varint(field.number << 3 | LENGTH)
    descriptor = field.message_type
    if descriptor.full_name.endswith(".KeyValue"):
        return write_attribute(tag, descriptor)

    def write(value: Any, out: list[bytes], depth: int) -> None:
        inner: list[bytes] = []
        write_message(plan_of(descriptor), value, inner, depth + 1)
        out.append(tag + prefixed(b"".join(inner)))

    return write


def write_attribute(tag: bytes, descriptor: Descriptor) -> Write:
    """Return how an attribute is written: nine in ten fields of a body are one."""
    key_tag, value_tag = (varint(descriptor.fields_by_name[name].number << 3 | LENGTH) for name in ("key", "value"))
    any_value = descriptor.fields_by_name["value"].message_type
    known: dict[tuple[str, str], bytes] = {}
    keys: dict[str, bytes] = {}

    def whole(key: Any, value: Any, depth: int) -> bytes:
        inner: list[bytes] = []
        write_message(plan_of(any_value), value, inner, depth + 2)
        if type(key) is not str or (name := keys.get(key)) is None:
            name = key_tag + text(key)
            if len(keys) < KNOWN_COUNT and len(key) <= KNOWN_LENGTH:
                keys[key] = name
        return tag + prefixed(name + value_tag + prefixed(b"".join(inner)))

    def write(value: Any, out: list[bytes], depth: int) -> None:
        if type(value) is not dict or len(value) != 2:
            raise OddError("no key and value")
        try:
            key, content = value["key"], value["value"]
        except KeyError as error:
            raise OddError("no key and value") from error
        said = content.get("stringValue") if type(content) is dict and len(content) == 1 else None
        if type(said) is not str or type(key) is not str or len(said) > KNOWN_LENGTH or len(key) > KNOWN_LENGTH:
            out.append(whole(key, content, depth))
            return
        if (written := known.get((key, said))) is None:
            written = whole(key, content, depth)
            if len(known) >= KNOWN_COUNT:
                known.clear()
            known[key, said] = written
        out.append(written)

    return write


def varint(number: int) -> bytes:
    """Write a number of 0 or more."""
    if number < 0x80:
        return ONE_BYTE[number]
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


ONE_BYTE = [bytes([number]) for number in range(0x80)]


def prefixed(content: bytes) -> bytes:
    """Write bytes with their length before them."""
    return varint(len(content)) + content


def text(value: Any) -> bytes:
    """Write a string."""
    if type(value) is not str:
        raise OddError("no string")
    return prefixed(value.encode())


def flag(value: Any) -> bytes:
    """Write a boolean."""
    if type(value) is not bool:
        raise OddError("no boolean")
    return ONE_BYTE[value]


def hex_id(value: Any) -> bytes:
    """Write an id; one that is no hex becomes empty, and its span is rejected."""
    if type(value) is not str:
        raise OddError("no string")
    return prefixed(bytes_of_hex(value))


def double(value: Any) -> bytes:
    """Write a number."""
    if type(value) is int:
        value = float(value)
    if type(value) is not float or not math.isfinite(value):
        raise OddError("no number")
    return struct.pack("<d", value)


def whole_number(value: Any, least: int, most: int) -> int:
    """Return a whole number of a type; JSON has those of 64 bits as strings."""
    if type(value) is str and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise OddError("no whole number of its type")
    return value


def unsigned_varint(bits: int) -> Callable[[Any], bytes]:
    """Return how a number of so many bits is written."""
    most = 2**bits - 1
    return lambda value: varint(whole_number(value, 0, most))


def signed_varint(bits: int) -> Callable[[Any], bytes]:
    """Return how a signed number is written."""
    least, most, mask = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 2**64 - 1
    return lambda value: varint(whole_number(value, least, most) & mask)


def zigzag(value: Any) -> bytes:
    """Write a signed number of 32 bits so that small ones are short."""
    number = whole_number(value, -(2**31), 2**31 - 1)
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def fixed(form: str, least: int, most: int) -> Callable[[Any], bytes]:
    """Return how a number of fixed length is written."""
    pack = struct.Struct(form).pack
    return lambda value: pack(whole_number(value, least, most))


def enum_number(known: frozenset[int]) -> Callable[[Any], bytes]:
    """Return how an enum's value is written, by number."""

    def encode(value: Any) -> bytes:
        if type(value) is not int or value not in known or value < 0:
            raise OddError("no number of the enum")
        return varint(value)

    return encode


SCALARS: dict[int, tuple[int, Callable[[Any], bytes]]] = {
    FieldDescriptor.TYPE_STRING: (LENGTH, text),
    FieldDescriptor.TYPE_BOOL: (VARINT, flag),
    FieldDescriptor.TYPE_DOUBLE: (FIXED64, double),
    FieldDescriptor.TYPE_UINT64: (VARINT, unsigned_varint(64)),
    FieldDescriptor.TYPE_UINT32: (VARINT, unsigned_varint(32)),
    FieldDescriptor.TYPE_INT64: (VARINT, signed_varint(64)),
    FieldDescriptor.TYPE_INT32: (VARINT, signed_varint(32)),
    FieldDescriptor.TYPE_SINT32: (VARINT, zigzag),
    FieldDescriptor.TYPE_FIXED64: (FIXED64, fixed("<Q", 0, 2**64 - 1)),
    FieldDescriptor.TYPE_SFIXED64: (FIXED64, fixed("<q", -(2**63), 2**63 - 1)),
    FieldDescriptor.TYPE_FIXED32: (FIXED32, fixed("<I", 0, 2**32 - 1)),
}
"""By type: how it lies on the wire, and its bytes. What is not there goes to the reference."""


def protobuf_by_reference(signal: Signal, body: bytes) -> bytes:
    """Turn an OTLP/JSON body into the protobuf one by protobuf's own JSON, whose ids are base64 where OTLP's are hex.

    Raises:
        PermanentError: it is no such JSON.
    """
    try:
        tree = json.loads(body)
        if not isinstance(tree, dict):
            raise ValueError("the top is no object")
        hex_ids_to_base64(tree)
        message = json_format.ParseDict(tree, signal.request(), ignore_unknown_fields=True)
    except (ValueError, TypeError, json_format.ParseError, ArithmeticError, RecursionError, SystemError) as error:
        # SystemError: protobuf's C code for a name or number that it can't represent.
        raise PermanentError(f"the body is not OTLP/JSON of {signal.kind}: {error}") from error
    return bytes(message.SerializeToString())


def hex_ids_to_base64(tree: Any) -> None:
    """Rewrite the ids of a parsed OTLP/JSON body in place; one that is no hex becomes empty and is rejected."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ID_KEYS and isinstance(value, str):
                    node[key] = base64.b64encode(bytes_of_hex(value)).decode()
                else:
                    pending.append(value)


def bytes_of_hex(text: str) -> bytes:
    """Return the bytes, or none where the text is no hex."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
