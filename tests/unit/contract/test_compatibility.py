"""What a change of a contract breaks: case by case, and that what is passed is really read."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from torpor.contract.compatibility import Change, changes, compare
from torpor.contract.schemas import misfits, removed

if TYPE_CHECKING:
    from torpor.contract.shapes import Shape


class Small(BaseModel):
    a: int


class Big(BaseModel):
    a: int
    b: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Wood(BaseModel):
    value: float
    children: list[Wood] | None = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def _schema(hint: Any) -> dict[str, Any]:
    return create_model("Payload", x=(hint, ...)).model_json_schema()


def _shape(schema: dict[str, Any] | None = None, **changed: Any) -> Shape:
    shape = {"publishes": True, "handles": True, "topic": "t", "key": "id", "type": "t", "version": 1, "oldest": 1}
    return {**shape, "content_type": "application/json", "schema": schema, **changed}  # type: ignore[typeddict-item]  # a case


TAKEN = [
    (int, float),
    (int, int | str),
    (int, Decimal),
    (int, Any),
    (bool, bool | None),
    (Small, Small | None),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a"], str),
    (Colour, str),
    (UUID, str),
    (datetime, str),
    (Annotated[int, Field(ge=3)], Annotated[int, Field(ge=2)]),
    (Annotated[str, Field(max_length=3)], str),
    (Annotated[str, Field(pattern="a")], str),
    (list[int], list[float]),
    (tuple[int, str], tuple[float, str]),
    (dict[str, int], dict[str, float]),
    (Small, dict[str, int]),
    (Big, Small),
    (set[int], list[int]),
    (Tree, Wood),
    (Tree, Tree),
    (Cat, Pet),
    (Pet, Pet),
    (Strict, Small),
    (int | None, int | str | None),
    (tuple[int, int], list[int]),
]
REFUSED = [
    (float, int),
    (int, str),
    (str, int),
    (int | None, int),
    (str, UUID),
    (str, datetime),
    (datetime, date),
    (str, Colour),
    (Any, int),
    (Literal["a", "b"], Literal["a"]),
    (str, Literal["a"]),
    (Literal[1], Literal[True]),
    (Decimal, float),
    (int, Annotated[int, Field(ge=0)]),
    (Annotated[int, Field(ge=2)], Annotated[int, Field(ge=3)]),
    (Annotated[str, Field(max_length=3)], Annotated[str, Field(max_length=2)]),
    (str, Annotated[str, Field(pattern="a")]),
    (list[float], list[int]),
    (list[int], set[int]),
    (list[int], int),
    (tuple[int, str], tuple[str, int]),
    (dict[str, float], dict[str, int]),
    (Small, Big),
    (Big, Strict),
    (dict[str, int], Small),
    (Wood, Tree),
    (Pet, Cat),
    (Small, dict[str, str]),
]


@pytest.mark.parametrize(("old", "new"), TAKEN, ids=str)
def test_what_is_wider_takes_what_was_written(old: Any, new: Any) -> None:
    """A reader of the new type takes all that the old type writes."""
    assert misfits(_schema(new), _schema(old)) == []


@pytest.mark.parametrize(("old", "new"), REFUSED, ids=str)
def test_what_is_narrower_is_told_with_its_place(old: Any, new: Any) -> None:
    """A reader of the new type does not take all of the old, and each misfit says where and why."""
    found = misfits(_schema(new), _schema(old))

    assert found
    assert all(misfit.where.startswith("x") and misfit.what for misfit in found)


def test_misfits_are_told_where_they_are() -> None:
    """A place leads through objects and lists, and the reason names both sides."""
    other: Any = create_model("Other", a=(str, ...), b=(str, ...), c=(int, ...))
    old, new = _schema(list[Big]), _schema(list[other])

    assert [tuple(misfit) for misfit in misfits(new, old)] == [
        ("x[].c", "it is required, and is absent"),
        ("x[].a", "integer is not taken: expected string"),
    ]
    assert removed(_schema(list[Big]), _schema(list[Small])) == ["x[].b"]


HINTS = st.sampled_from([hint for pair in (*TAKEN, *REFUSED) for hint in pair])
WRAPS: list[Any] = [
    lambda hint: list[hint],  # type: ignore[valid-type]  # made here
    lambda hint: dict[str, hint],  # type: ignore[valid-type]  # made here
    lambda hint: tuple[int, hint],  # type: ignore[valid-type]  # made here
    lambda hint: Optional[hint],  # noqa: UP045  # a hint that is no type yet
    lambda hint: Union[hint, list[str]],  # noqa: UP007  # as above
]


def _model(fields: dict[str, tuple[Any, bool]]) -> type[BaseModel]:
    made: dict[str, Any] = {
        name: (hint, ...) if is_required else (hint | None, None) for name, (hint, is_required) in fields.items()
    }
    return create_model("Payload", **made)


@st.composite
def _changed(draw: st.DrawFn) -> tuple[Any, Any]:
    """The type of a field, and what became of it: something near, or anything, inside the same things."""
    old, new = draw(st.one_of(st.sampled_from(TAKEN + REFUSED), st.tuples(HINTS, HINTS)))
    for wrap in draw(st.lists(st.sampled_from(WRAPS), max_size=2)):
        old, new = wrap(old), wrap(new)
    return old, new


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[type[BaseModel], type[BaseModel]]:
    """A model, and what became of it: one field has changed, and another has come, gone or stayed."""
    (before, after), other, flags = draw(_changed()), draw(HINTS), draw(st.lists(st.booleans(), min_size=6, max_size=6))
    old, new = {"a": (before, flags[0])}, {"a": (after, flags[1])}
    if flags[2]:
        old["b"] = other, flags[3]
    if flags[4]:
        new["b"] = other, flags[5]
    return _model(old), _model(new)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(pair=_pairs(), data=st.data())
def test_what_is_judged_to_be_read_is_read(pair: tuple[type[BaseModel], type[BaseModel]], data: st.DataObject) -> None:
    """When nothing is told, whatever the old model wrote is validated by the new one."""
    old, new = pair
    if misfits(new.model_json_schema(), old.model_json_schema()):
        return
    payload = data.draw(
        st.builds(old, **{name: _values(field.annotation, field.metadata) for name, field in old.model_fields.items()})
    )
    written = payload.model_dump_json()
    try:
        new.model_validate_json(written)
    except ValidationError as error:
        raise AssertionError(f"{old.model_json_schema()} wrote {written}: {error}") from error


def _values(hint: Any, metadata: Any) -> st.SearchStrategy[Any]:
    hint = Annotated[(hint, *metadata)] if metadata else hint
    holder = create_model("Holder", v=(hint, ...))

    def is_valid(value: Any) -> bool:
        try:
            holder.model_validate({"v": value})
        except ValidationError:
            return False
        return True

    scalars = st.one_of(
        st.integers(-9, 9),
        st.floats(-9, 9),
        st.sampled_from(["", "a", "b", "ab", "red", "x" * 9]),
        st.booleans(),
        st.none(),
        st.uuids(),
        st.dates(),
        st.decimals(-9, 9, places=1),
        st.sampled_from(
            [
                {"a": 1},
                {"a": 2, "b": "x"},
                {"kind": "cat", "lives": 9},
                {"kind": "dog"},
                {"value": 1},
                {"value": 2, "children": [{"value": 3}]},
            ]
        ),
    )
    shapes = st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
        max_leaves=3,
    )
    return shapes.filter(is_valid)


def _told(found: list[Change]) -> list[tuple[str, bool]]:
    return [(f"{change.place}: {change.what}", change.is_breaking) for change in found]


NOW = _schema(int)
CASES: list[tuple[str, Shape, Shape, list[tuple[str, bool]]]] = [
    ("nothing", _shape(NOW), _shape(NOW), []),
    ("topic", _shape(NOW), _shape(NOW, topic="u"), [("C: the topic was 't' and is 'u'", True)]),
    ("key", _shape(NOW), _shape(NOW, key=None), [("C: the key was 'id' and is None", True)]),
    ("type", _shape(NOW), _shape(NOW, type="u"), [("C: the type was 't' and is 'u'", True)]),
    (
        "content type",
        _shape(NOW),
        _shape(NOW, content_type="x/y"),
        [("C: the content type was 'application/json' and is 'x/y'", True)],
    ),
    (
        "added",
        _shape(_schema(Small)),
        _shape(_schema(create_model("P", a=(int, ...), b=(int, 0)))),
        [("C.x.b: it was added", False)],
    ),
    (
        "required",
        _shape(_schema(Small), publishes=False),
        _shape(_schema(Big), publishes=False),
        [("C.x.b: it reads less than before", True)],
    ),
    (
        "required, published alone",
        _shape(_schema(Small), handles=False),
        _shape(_schema(Big), handles=False),
        [("C.x.b: it was added", False)],
    ),
    (
        "removed",
        _shape(_schema(Big), handles=False),
        _shape(_schema(Small), handles=False),
        [("C.x.b: it was removed", True)],
    ),
    (
        "removed, handled alone",
        _shape(_schema(Big), publishes=False),
        _shape(_schema(Small), publishes=False),
        [("C.x.b: it is not read any more", False)],
    ),
    (
        "narrowed",
        _shape(_schema(float), publishes=False),
        _shape(NOW, publishes=False),
        [("C.x: it reads less than before", True)],
    ),
    ("narrowed, published alone", _shape(_schema(float), handles=False), _shape(NOW, handles=False), []),
    ("widened", _shape(NOW, publishes=False), _shape(_schema(float), publishes=False), []),
    (
        "widened, published",
        _shape(NOW, handles=False),
        _shape(_schema(float), handles=False),
        [("C.x: more may be written than before", True)],
    ),
    (
        "a default, published",
        _shape(NOW, handles=False),
        _shape(create_model("P", x=(int, 1)).model_json_schema(), handles=False),
        [],
    ),
    ("no schema", _shape(None), _shape(None), []),
    ("schema lost", _shape(NOW), _shape(None), [("C: its schema came or went, so that nothing can be compared", True)]),
    (
        "new version",
        _shape(NOW),
        _shape(_schema(str), version=2, oldest=1, key=None),
        [("C: version 1 became 2: deploy this before who publishes it", False)],
    ),
    (
        "new version, not read",
        _shape(NOW),
        _shape(_schema(str), version=2, oldest=2),
        [("C: version 2 does not read version 1", True)],
    ),
    (
        "new version, published alone",
        _shape(NOW, handles=False),
        _shape(_schema(str), version=2, oldest=2, handles=False),
        [("C: version 1 became 2: deploy who listens to it before this", False)],
    ),
    (
        "new version and topic",
        _shape(NOW),
        _shape(NOW, version=2, topic="u"),
        [
            ("C: version 1 became 2: deploy this before who publishes it", False),
            ("C: the topic was 't': what is on its way there is not read any more", False),
        ],
    ),
    ("older version", _shape(NOW, version=2), _shape(NOW), [("C: the version fell from 2 to 1", True)]),
    (
        "an upcast dropped",
        _shape(NOW, version=2, oldest=1),
        _shape(NOW, version=2, oldest=2),
        [("C: version 1 was read, and 2 is the oldest now", True)],
    ),
    (
        "no longer handled",
        _shape(NOW),
        _shape(_schema(str), handles=False, publishes=False),
        [
            ("C: it is not handled any more", False),
            ("C: it is not published any more", False),
        ],
    ),
]


@pytest.mark.parametrize(("old", "new", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_change_is_told_as_what_it_is(old: Shape, new: Shape, told: list[tuple[str, bool]]) -> None:
    """A change is breaking, or told as compatible, or of no consequence; a breaking one says what to do."""
    found = compare(old, new, "C")

    assert _told(found) == told
    assert all(bool(change.remedy) == change.is_breaking for change in found)


def test_contracts_come_and_go() -> None:
    """A new contract breaks nothing; one that is gone does, until it is accepted."""
    found = changes({"Old": _shape(NOW), "Same": _shape(NOW)}, {"New": _shape(NOW), "Same": _shape(NOW)}, "orders")

    assert _told(found) == [("orders: New: it is new", False), ("orders: Old: it is gone", True)]
