"""Reading the most frequent events quickly, by classes derived from the contract's own.

Validating an event with pydantic takes ten times as long as reading it with msgspec. The classes
here are made from the contract's models, field by field with their constraints, and are never
wider: what a lean reader takes, ``parse`` takes too and reads the same from it. What it does not
take (another spelling, a field of a newer writer, anything odd) says nothing; ``parse`` decides.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AwareDatetime, BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from millstream_schemas.envelope import BATCH_ID_PATTERN, Saturating
from millstream_schemas.slices import BITMAP_PATTERN, SliceEvent, SliceState

NEAR_BYTES = 128
PROVEN_MOST = 100_000
_PROVEN_BY_READER = {BATCH_ID_PATTERN, BITMAP_PATTERN}
"""Patterns of texts that come again and again: looked up rather than matched each time."""
_PLAIN = (str, int, float, bool, NoneType, Any)


class _Proven(set[str]):
    """Texts that match a pattern, kept so that none is matched twice."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self._match = re.compile(_python(pattern)).fullmatch

    def proves(self, text: str) -> bool:
        """Tell whether a text matches that is not among those known."""
        if self._match(text) is None:
            return False
        if len(self) >= PROVEN_MOST:
            self.clear()
        self.add(text)
        return True


class LeanReader:
    """Reads events of some kinds; what it gives looks like the contract's events."""

    def __init__(self, kinds: tuple[type[SliceEvent], ...]) -> None:
        """Take ``kinds``, the most frequent one first.

        Raises:
            TypeError: a model says something that has no lean form.
        """
        self._kinds: list[tuple[bytes, str, Callable[[bytes], Any]]] = []
        for kind in kinds:
            name = str(kind.model_fields["type"].default)
            decoder = msgspec.json.Decoder(lean(kind))
            self._kinds.append((f'"type":"{name}"'.encode(), name, decoder.decode))
        self._place = 0
        self._batch_ids = _Proven(BATCH_ID_PATTERN)
        self._bitmaps = _Proven(BITMAP_PATTERN)

    def __call__(self, payload: bytes) -> tuple[str, SliceEvent] | None:
        """Return (type, event); None where ``parse`` must decide."""
        for mark, kind, read in self._kinds:
            # Events that follow each other have their type at about the same place.
            near = self._place
            place = payload.find(mark, near, near + NEAR_BYTES)
            if place < 0:
                place = payload.find(mark)
                if place < 0:
                    continue
                self._place = max(0, place - NEAR_BYTES // 2)
            try:
                event = read(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return None
            ids, maps, after = self._batch_ids, self._bitmaps, event.after
            if (
                (event.batch_id in ids or ids.proves(event.batch_id))
                and (after.generated in maps or maps.proves(after.generated))
                and (after.failed in maps or maps.proves(after.failed))
                and (after.abandoned in maps or maps.proves(after.abandoned))
            ):
                return kind, event
            return None
        return None


def solid(state: SliceState) -> SliceState:
    """Return a slice's state, lean or not, as one of the contract's own class."""
    if isinstance(state, SliceState):
        return state
    return SliceState.model_validate(msgspec.to_builtins(state))


@cache
def lean(model: type[BaseModel]) -> type[msgspec.Struct]:
    """Return the lean class of a model of the contract.

    Raises:
        TypeError: the model says something that has no lean form.
    """
    rules = model.__pydantic_decorators__
    if rules.field_validators or rules.model_validators or rules.root_validators:
        raise TypeError(f"{model.__name__} has validators of its own, which have no lean form")
    fields: list[Any] = []
    for name, field in model.model_fields.items():
        where = f"{model.__name__}.{name}"
        if field.alias or field.validation_alias or field.default_factory:
            raise TypeError(f"{where} has an alias or a factory, which have no lean form")
        kind = _kind(field.annotation, field.metadata, where)
        if field.is_required() or name == "type":  # a document without its type is none
            fields.append((name, kind))
        else:
            fields.append((name, kind, _default(field.default)))
    return msgspec.defstruct(
        f"Lean{model.__name__}",
        fields,
        frozen=True,
        gc=False,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return lean(type(value))(**{name: getattr(value, name) for name in value.model_fields_set})
    return value


def _kind(annotation: Any, metadata: list[Any], where: str) -> Any:
    """Return what msgspec must be told of a type and its constraints."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], [*arguments[1:], *metadata], where)
    bounds = _all_bounds(metadata, where)
    if annotation is AwareDatetime:
        kind: Any = datetime
        bounds["tz"] = True
    elif origin in (Union, UnionType):
        kind = Union[tuple(_kind(one, [], where) for one in arguments)]  # noqa: UP007  # made
    elif origin is Literal or annotation in _PLAIN:
        kind = annotation
    elif origin in (dict, Mapping):
        key, value = arguments
        kind = dict[_kind(key, [], where), _kind(value, [], where)]  # type: ignore[misc]  # made
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = lean(annotation)
    else:
        raise TypeError(f"{where}: {annotation!r} has no lean form")
    return Annotated[kind, msgspec.Meta(**bounds)] if bounds else kind


def _all_bounds(metadata: list[Any], where: str) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for item in metadata:
        if item is not Saturating:  # the bound beside it refuses here what it would change
            bounds |= _bounds(item, where)
    return bounds


def _bounds(item: Any, where: str) -> dict[str, Any]:
    match item:
        case Ge(ge=value):
            return {"ge": value}
        case Gt(gt=value):
            return {"gt": value}
        case Le(le=value):
            return {"le": value}
        case Lt(lt=value):
            return {"lt": value}
        case MinLen(min_length=value):
            return {"min_length": value}
        case MaxLen(max_length=value):
            return {"max_length": value}
        case FieldInfo():
            return _all_bounds(item.metadata, where)
        case StringConstraints():
            return _text_bounds(vars(item), where)
        case _ if hasattr(item, "__dict__"):
            return _text_bounds(vars(item), where)
        case _:
            raise TypeError(f"{where}: {item!r} has no lean form")


def _text_bounds(rules: Mapping[str, Any], where: str) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for name, value in rules.items():
        if value is None or (name == "allow_inf_nan" and value is False):
            continue  # JSON as msgspec reads it has neither
        if name in ("min_length", "max_length"):
            bounds[name] = value
        elif name != "pattern":
            raise TypeError(f"{where}: {name}={value!r} has no lean form")
        elif value not in _PROVEN_BY_READER:
            bounds["pattern"] = _python(value)
    return bounds


def _python(pattern: str) -> str:
    r"""Return a pattern as Python spells it: its ``$`` takes a line's end, the contract's not."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
