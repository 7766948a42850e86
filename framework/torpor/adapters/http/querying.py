"""GraphQL documents, measured before they are validated: what a query may cost is known from its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_operation_ast,
    parse,
)

if TYPE_CHECKING:
    from torpor.kernel.query import QueryLimits

_INTROSPECTION = frozenset({"__schema", "__type"})
_ENOUGH = 1_000_000  # beyond this nobody counts: fragments inside fragments double at each step


class Size(NamedTuple):
    """How large a part of a document is, with the fragments that it uses."""

    depth: int
    fields: int
    aliases: int
    is_introspective: bool = False


def operation_of(text: str, name: str | None, limits: QueryLimits, *, may_introspect: bool) -> bool:
    """Whether a query is a mutation. Raises GraphQLError for one that is none, too large, or not to be had here."""
    operation = get_operation_ast(_document_of(text, limits, may_introspect=may_introspect), name)
    if operation is None:
        raise GraphQLError("Say by operationName which of the operations is to be done.")
    if operation.operation is OperationType.SUBSCRIPTION:
        raise GraphQLError("Subscriptions are not to be had here. Ask a WebSocket, or server-sent events.")
    return operation.operation is OperationType.MUTATION


def _document_of(text: str, limits: QueryLimits, *, may_introspect: bool) -> DocumentNode:
    """The document of a text. Raises GraphQLError for one that is none, or too large."""
    try:
        document = parse(text, max_tokens=limits.tokens)
        size = _Measure(document).whole()
    except RecursionError:
        raise GraphQLError(f"The query is nested too deeply. {limits.depth} levels are allowed.") from None
    if size.is_introspective and not may_introspect:
        raise GraphQLError("Introspection is off. Ask for the schema's document instead.")
    for what, amount, most in (
        ("fields inside each other", size.depth, limits.depth),
        ("fields", size.fields, limits.fields),
        ("aliases", size.aliases, limits.aliases),
    ):
        if amount > most:
            raise GraphQLError(f"The query has {min(amount, _ENOUGH)} {what}, and {most} are allowed. Ask for less.")
    return document


class _Measure:
    def __init__(self, document: DocumentNode) -> None:
        self._document = document
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._known: dict[str, Size] = {}

    def whole(self) -> Size:
        """The largest operation; a fragment that none uses is refused when it is validated."""
        operations = [one for one in self._document.definitions if isinstance(one, OperationDefinitionNode)]
        sizes = [self._of(operation.selection_set) for operation in operations]
        return Size(
            max((size.depth for size in sizes), default=0),
            max((size.fields for size in sizes), default=0),
            max((size.aliases for size in sizes), default=0),
            any(size.is_introspective for size in sizes),
        )

    def _of(self, selections: SelectionSetNode | None) -> Size:
        depth = fields = aliases = 0
        is_introspective = False
        for selection in () if selections is None else selections.selections:
            if isinstance(selection, FieldNode):
                inner = self._of(selection.selection_set)
                is_schema = selection.name.value in _INTROSPECTION
                if is_schema:  # what it holds is deep and much by nature, and ends where the schema does
                    inner = Size(0, 0, 0, is_introspective=True)
                aliases_here = inner.aliases + (selection.alias is not None)
                size = Size(inner.depth + 1, inner.fields + 1, aliases_here, inner.is_introspective)
            elif isinstance(selection, FragmentSpreadNode):
                size = self._fragment(selection.name.value)
            elif isinstance(selection, InlineFragmentNode):
                size = self._of(selection.selection_set)
            else:
                continue
            depth = max(depth, size.depth)
            fields, aliases = min(fields + size.fields, _ENOUGH), min(aliases + size.aliases, _ENOUGH)
            is_introspective = is_introspective or size.is_introspective
        return Size(depth, fields, aliases, is_introspective)

    def _fragment(self, name: str) -> Size:
        """The size of a fragment; one inside itself counts as nothing there, and is refused when it is validated."""
        if name not in self._known and name in self._fragments:
            self._known[name] = Size(0, 0, 0)
            self._known[name] = self._of(self._fragments[name].selection_set)
        return self._known.get(name, Size(0, 0, 0))
