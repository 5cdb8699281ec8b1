"""Objects for a JSON schema: a schema is compiled once into functions that draw values for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millstream_generator.simulated.text import Draw, fit, writer_for

Maker = Callable[[Draw], Any]

TYPICAL_LENGTH = 240
LONGEST_LENGTH = 700
"""Characters: what a text takes without bounds, and the most it takes if its minimum allows."""

UNSUPPORTED = frozenset(
    [
        "pattern",
        "allOf",
        "not",
        "if",
        "then",
        "else",
        "patternProperties",
        "propertyNames",
        "contains",
        "prefixItems",
        "dependentRequired",
        "dependentSchemas",
        "minProperties",
        "maxProperties",
        "uniqueItems",
    ]
)


class UnsupportedSchemaError(ValueError):
    """The simulated model can't answer this schema; the message names the keyword and the place."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A compiled schema: `make` draws a value for it; `topics` are those it fixes by ``const``."""

    make: Maker
    topics: tuple[str, ...]


def compile_shape(schema: Mapping[str, Any]) -> Shape:
    """Compile a JSON schema.

    Raises:
        UnsupportedSchemaError: it uses a keyword that isn't simulated, or nothing can satisfy it.
    """
    compiler = _Compiler(schema)
    make = compiler.compile(schema, field="", place="schema", open_refs=())
    return Shape(make, tuple(dict.fromkeys(compiler.topics)))


def _constant(value: Any) -> Maker:
    return lambda _draw: value


def _choice(values: Sequence[Any]) -> Maker:
    return lambda draw: values[draw.between(0, len(values) - 1)]


def _string(schema: Mapping[str, Any], field: str, place: str) -> Maker:
    low = int(schema.get("minLength", 0))
    high = schema.get("maxLength")
    if high is not None and high < low:
        raise UnsupportedSchemaError(f"{place}: minLength {low} is above maxLength {high}")
    write = writer_for(field, high)
    roof = max(low, TYPICAL_LENGTH if high is None else min(int(high), LONGEST_LENGTH))
    floor = max(low, int(roof * 0.4))

    def make(draw: Draw) -> str:
        text = ""
        # A whole sentence reads better than a cut one, so a text that is too long is drawn again.
        for _ in range(4):
            text = write(draw, draw.between(floor, roof) - 60)
            if high is None or len(text) <= high:
                break
        return fit(text, low, high)

    return make


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float, bool, bool]:
    """Return the least and greatest number, and whether each of them is itself excluded."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low_open, high_open = above is not None and above >= low, below is not None and below <= high
    if above is not None and low_open:
        low = above
    if below is not None and high_open:
        high = below
    if low == -math.inf:
        low = min(0, high - 100)
    if high == math.inf:
        high = low + 100
    return low, high, low_open, high_open


def _integer(schema: Mapping[str, Any], place: str) -> Maker:
    low, high, low_open, high_open = _bounds(schema)
    step = schema.get("multipleOf", 1)
    if step != int(step) or step < 1:
        raise UnsupportedSchemaError(f"{place}: multipleOf {step} isn't a whole number above 0")
    step = int(step)
    first, last = math.ceil(low / step), math.floor(high / step)
    first += low_open and first * step == low
    last -= high_open and last * step == high
    if first > last:
        raise UnsupportedSchemaError(f"{place}: no integer lies within its bounds")
    return lambda draw: step * draw.between(first, last)


def _number(schema: Mapping[str, Any], place: str) -> Maker:
    low, high, low_open, high_open = _bounds(schema)
    if "multipleOf" in schema:
        return _integer(schema, place)
    if low > high or (low == high and (low_open or high_open)):
        raise UnsupportedSchemaError(f"{place}: no number lies within its bounds")
    # The middle part of the range leaves out both ends, so open bounds hold by themselves.
    return lambda draw: low + (high - low) * (0.05 + 0.9 * draw.unit())


class _Compiler:
    """Walks one schema; `topics` gathers the constants of its topic fields on the way."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self.topics: list[str] = []

    def compile(self, schema: Any, *, field: str, place: str, open_refs: tuple[str, ...]) -> Maker:
        """Return the maker of `schema`, the value of the property `field`."""
        if schema is True:
            schema = {"type": "string"}
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError(f"{place}: {schema!r} isn't a schema that has values")
        refused = UNSUPPORTED.intersection(schema)
        if refused:
            raise UnsupportedSchemaError(f"{place}: {min(refused)!r} isn't simulated; leave it out")
        if "$ref" in schema:
            return self._reference(schema["$ref"], field, place, open_refs)
        if "const" in schema:
            return self._const(schema["const"], field)
        if "enum" in schema:
            if not schema["enum"]:
                raise UnsupportedSchemaError(f"{place}: its enum is empty")
            return _choice(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return self._alternatives(schema[keyword], field, f"{place}.{keyword}", open_refs)
        return self._typed(schema, field, place, open_refs)

    def _const(self, value: Any, field: str) -> Maker:
        if isinstance(value, str) and field.lower() in {"topic", "concept", "subject"}:
            self.topics.append(value)
        return _constant(value)

    def _reference(
        self, reference: Any, field: str, place: str, open_refs: tuple[str, ...]
    ) -> Maker:
        if reference in open_refs:
            raise UnsupportedSchemaError(f"{place}: {reference!r} contains itself")
        target: Any = self._root
        for step in filter(None, str(reference).removeprefix("#").split("/")):
            if not isinstance(target, Mapping) or step not in target:
                raise UnsupportedSchemaError(f"{place}: $ref {reference!r} leads nowhere")
            target = target[step]
        return self.compile(
            target, field=field, place=place, open_refs=(*open_refs, str(reference))
        )

    def _alternatives(
        self, schemas: Sequence[Any], field: str, place: str, open_refs: tuple[str, ...]
    ) -> Maker:
        makers = [
            self.compile(schema, field=field, place=f"{place}[{index}]", open_refs=open_refs)
            for index, schema in enumerate(schemas)
        ]
        return lambda draw: makers[draw.between(0, len(makers) - 1)](draw)

    def _typed(
        self, schema: Mapping[str, Any], field: str, place: str, open_refs: tuple[str, ...]
    ) -> Maker:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = (
                "object" if "properties" in schema else "array" if "items" in schema else "string"
            )
        match kind:
            case "object":
                return self._object(schema, place, open_refs)
            case "array":
                return self._array(schema, field, place, open_refs)
            case "string":
                return _string(schema, field, place)
            case "integer":
                return _integer(schema, place)
            case "number":
                return _number(schema, place)
            case "boolean":
                return _choice((True, False))
            case "null":
                return _constant(None)
            case _:
                raise UnsupportedSchemaError(f"{place}: {kind!r} isn't a JSON type")

    def _object(self, schema: Mapping[str, Any], place: str, open_refs: tuple[str, ...]) -> Maker:
        properties = dict(schema.get("properties", {}))
        for name in schema.get("required", ()):
            properties.setdefault(name, True)
        makers = [
            (name, self.compile(item, field=name, place=f"{place}.{name}", open_refs=open_refs))
            for name, item in properties.items()
        ]
        return lambda draw: {name: make(draw) for name, make in makers}

    def _array(
        self, schema: Mapping[str, Any], field: str, place: str, open_refs: tuple[str, ...]
    ) -> Maker:
        low = int(schema.get("minItems", 0))
        high = int(schema.get("maxItems", low + 3))
        if high < low:
            raise UnsupportedSchemaError(f"{place}: minItems {low} is above maxItems {high}")
        make = self.compile(
            schema.get("items", True), field=field, place=f"{place}[]", open_refs=open_refs
        )
        roof = min(high, low + 3)
        return lambda draw: [make(draw) for _ in range(draw.between(max(low, min(1, roof)), roof))]
