"""JSON Schemas compared: whether a reader of one takes all that a writer of the other may write.

The judgement errs on one side: what it passes is read, and what it cannot judge it tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]

# Keywords that say nothing about what is taken, and those that are looked at below one by one.
_SILENT = frozenset(
    {"title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly", "$defs", "discriminator"}
)
_JUDGED = frozenset(
    {"$ref", "additionalProperties", "anyOf", "const", "enum", "items", "oneOf", "prefixItems", "properties"}
    | {"required", "type"}
)
_LOWER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_UPPER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_ANY: Schema = {}


class Misfit(NamedTuple):
    """One way in which a reader does not take what a writer may write: the place, such as `lines[].sku`, and why."""

    where: str
    what: str


def misfits(reader: Schema, writer: Schema, *, fills_defaults: bool = False) -> list[Misfit]:
    """Why the reader of one schema cannot take all that a writer of the other may write; nothing when it can.

    A writer that fills defaults in writes each field that has one.
    """
    return list(_Comparison(reader, writer, fills_defaults=fills_defaults).judge(reader, writer, ""))


def removed(old: Schema, new: Schema) -> list[str]:
    """The fields of one schema, at any depth, that another does not have any more."""
    return sorted(_fields(old, old, "", ()) - _fields(new, new, "", ()))


class _Comparison:
    def __init__(self, reader: Schema, writer: Schema, *, fills_defaults: bool) -> None:
        self._reader = reader.get("$defs", {})
        self._writer = writer.get("$defs", {})
        self._fills_defaults = fills_defaults
        self._open: set[tuple[int, int]] = set()  # pairs of schemas that are being judged: recursive ones hold

    def judge(self, reader: Schema, writer: Schema, where: str) -> Iterator[Misfit]:
        pair = id(reader), id(writer)
        if pair in self._open:
            return
        self._open.add(pair)
        takes = list(_alternatives(reader, self._reader))
        writes = list(_alternatives(writer, self._writer))
        for written in writes:
            best: list[Misfit] | None = None
            for taken in takes:
                found = list(self._judge_one(taken, written, where))
                if best is None or (_told(taken) == _told(written) and len(found) < len(best)) or not found:
                    best = found
                if not best:
                    break
            if best and len(takes) > 1 and not any(_told(taken) == _told(written) for taken in takes):
                best = [Misfit(where, f"{_told(written)} is not taken: expected {_listed(takes)}")]
            yield from best or ()
        self._open.discard(pair)

    def _judge_one(self, reader: Schema, writer: Schema, where: str) -> Iterator[Misfit]:
        """Judges schemas without references and alternatives."""
        values = _values(writer)
        allowed = _values(reader)
        if allowed is not None:
            strange = None if values is None else [value for value in values if not _is_in(value, allowed)]
            if strange is None or strange:
                told = "any" if strange is None else ", ".join(map(repr, strange))
                yield Misfit(where, f"{told} {_told(writer)} is not taken: expected {', '.join(map(repr, allowed))}")
            return
        if not _is_type_taken(reader, writer, values):
            yield Misfit(where, f"{_told(writer)} is not taken: expected {_told(reader)}")
            return
        yield from self._judge_rules(reader, writer, where)
        if "properties" in reader or "properties" in writer or "additionalProperties" in reader:
            yield from self._judge_object(reader, writer, where)
        yield from self._judge_array(reader, writer, where)

    def _judge_rules(self, reader: Schema, writer: Schema, where: str) -> Iterator[Misfit]:
        for rule, limit in reader.items():
            if rule in _SILENT or rule in _JUDGED:
                continue
            said = writer.get(rule)
            is_kept = (
                said == limit
                or (rule in _LOWER and said is not None and said >= limit)
                or (rule in _UPPER and said is not None and said <= limit)
            )
            if not is_kept:
                was = "nothing" if said is None else repr(said)
                yield Misfit(where, f"{rule} is narrowed from {was} to {limit!r}")

    def _judge_object(self, reader: Schema, writer: Schema, where: str) -> Iterator[Misfit]:
        takes, writes = reader.get("properties", {}), writer.get("properties", {})
        others = reader.get("additionalProperties", True)
        written = set(writer.get("required", ()))
        if self._fills_defaults:
            written |= {name for name, schema in writes.items() if "default" in schema}
        for name in reader.get("required", ()):
            if name not in written:
                yield Misfit(_inside(where, name), f"it is required, and {'may be' if name in writes else 'is'} absent")
        for name, schema in writes.items():
            if name in takes:
                yield from self.judge(takes[name], schema, _inside(where, name))
            elif others is False:
                yield Misfit(_inside(where, name), "it is written, and unknown fields are refused")
            elif isinstance(others, dict):
                yield from self.judge(others, schema, _inside(where, name))
        yield from self._judge_others(others, writer.get("additionalProperties", not writes), where)

    def _judge_others(self, taken: Any, written: Any, where: str) -> Iterator[Misfit]:
        """Judges the fields that have no name in the schema."""
        if taken is True or written is False:
            return
        if taken is False:
            yield Misfit(where, "other fields are written, and unknown fields are refused")
        else:
            yield from self.judge(taken, _schema(written), _inside(where, "*"))

    def _judge_array(self, reader: Schema, writer: Schema, where: str) -> Iterator[Misfit]:
        takes, writes = reader.get("prefixItems", ()), writer.get("prefixItems", ())
        rest, written_rest = reader.get("items", _ANY), writer.get("items", _ANY)
        place = f"{where}[]"
        for index in range(max(len(takes), len(writes))):
            taken = takes[index] if index < len(takes) else rest
            written = writes[index] if index < len(writes) else written_rest
            yield from self.judge(_schema(taken), _schema(written), f"{where}[{index}]")
        is_whole = bool(writes) and writer.get("maxItems") == len(writes)
        if rest != _ANY and rest is not True and written_rest is not False and not is_whole:
            yield from self.judge(_schema(rest), _schema(written_rest), place)


def _alternatives(schema: Schema, known: Schema, seen: tuple[str, ...] = ()) -> Iterator[Schema]:
    """The schemas of which one must hold, each without a reference and without alternatives."""
    reference = schema.get("$ref")
    if reference is not None:
        if reference not in seen:
            named = known.get(reference.rpartition("/")[2], _ANY)
            yield from _alternatives(named, known, (*seen, reference))
        return
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts is not None:
        for part in parts:
            yield from _alternatives(part, known, seen)
        return
    types = schema.get("type")
    if isinstance(types, list):
        for one in types:
            yield {**schema, "type": one}
        return
    yield schema


def _fields(schema: Schema, root: Schema, where: str, seen: tuple[str, ...]) -> set[str]:
    """The places of all fields below a schema."""
    reference = schema.get("$ref")
    if reference is not None:
        if reference in seen:
            return set()
        seen = (*seen, reference)
        schema = root.get("$defs", {}).get(reference.rpartition("/")[2], _ANY)
    found: set[str] = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {_inside(where, name)} | _fields(inner, root, _inside(where, name), seen)
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    for part in parts:
        found |= _fields(part, root, where, seen)
    for items in (schema.get("items"), *schema.get("prefixItems", ())):
        if isinstance(items, dict):
            found |= _fields(items, root, f"{where}[]", seen)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        found |= _fields(others, root, _inside(where, "*"), seen)
    return found


def _values(schema: Schema) -> list[Any] | None:
    """The values that a schema lists, or None."""
    if "const" in schema:
        return [schema["const"]]
    listed: list[Any] | None = schema.get("enum")
    return listed


def _is_in(value: Any, values: list[Any]) -> bool:
    return any(type(value) is type(other) and value == other for other in values)


def _is_type_taken(reader: Schema, writer: Schema, values: list[Any] | None) -> bool:
    taken, written = reader.get("type"), writer.get("type")
    if taken is None:
        return True
    if values is not None and written is None:
        return all(_type_of(value) == taken for value in values)
    return taken == written or (taken == "number" and written == "integer")


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names.get(type(value), "any")


def _schema(schema: Any) -> Schema:
    return schema if isinstance(schema, dict) else _ANY


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _told(schema: Schema) -> str:
    kind = schema.get("type")
    if kind is None:
        values = _values(schema)
        return "any value" if values is None else " or ".join(sorted({_type_of(value) for value in values}))
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _listed(schemas: list[Schema]) -> str:
    return " or ".join(dict.fromkeys(_told(schema) for schema in schemas))
