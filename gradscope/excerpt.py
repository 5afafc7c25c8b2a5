"""A line of the user's source with a caret under the piece of it that matters."""

import ast

from gradscope.traces import Location

LONGEST = 100


def excerpt(place: Location | None) -> tuple[str, ...]:
    """The source line and the line with the caret under it; only the first without columns, nothing without source."""
    if place is None or not place.source:
        return ()
    start, end = _narrowed(place)
    source = place.source.expandtabs(1)
    if start >= end:
        return (_cut(source, 0, LONGEST),)
    first = max(0, min(start - LONGEST // 3, len(source) - LONGEST))
    last = min(len(source), first + LONGEST)
    return _cut(source, first, last), " " * (start - first) + "^" * max(1, min(end, last) - start)


def _cut(source: str, first: int, last: int) -> str:
    """A part of a line, with dots where something is left out."""
    text = source[first:last]
    text = f"...{text[3:]}" if first else text
    return f"{text[:-3]}..." if last < len(source) else text


def _narrowed(place: Location) -> tuple[int, int]:
    """Of a call `value.method(...)` the part from the dot on; of anything else the whole."""
    try:
        parsed = ast.parse(place.source[place.column : place.end], mode="eval").body
    except (SyntaxError, ValueError):
        return place.column, place.end
    node: ast.AST = parsed.func if isinstance(parsed, ast.Call) else parsed
    if not isinstance(node, ast.Attribute) or _is_name(node.value):
        return place.column, place.end
    before = place.source[place.column : place.end].encode()[: node.value.end_col_offset].decode()
    return place.column + len(before), place.end


def _is_name(node: ast.AST) -> bool:
    """A plain name or a dotted one, as in torch.sqrt(x): then the whole call is what matters."""
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_name(node.value))
