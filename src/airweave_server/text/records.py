"""JSON and JSON Lines to lines of ``path: value``."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .labels import Growth, clip
from .tables import split_lines

MAX_LINE_CHARS = 2_000_000  # of a line of JSON Lines; a longer one is left as it is, for a tree takes 20 times its size


class _Object(list[tuple[str, Any]]):
    """A JSON object that keeps the order of its keys, and duplicate keys."""


def json_to_text(text: str) -> str | None:
    """The values as lines of ``path: value``. None if the text is neither JSON nor JSON Lines."""
    growth = Growth(len(text))
    try:
        value = _parse_json(text)
    except (ValueError, RecursionError):
        if not are_json_lines(text):
            return None
        return "\n\n".join(json_lines_to_blocks(split_lines(text), growth))
    if isinstance(value, _Object):
        return "\n".join(_json_object(value, growth)).strip("\n")
    if isinstance(value, list) and not _fits_a_line(value):
        return "\n\n".join("\n".join(_json_lines("", item, growth)) for item in value)
    return "\n".join(_json_lines("", value, growth))


def are_json_lines(text: str) -> bool:
    """Whether the first lines are objects or arrays, each by itself."""
    lines = (line for line in split_lines(text) if not line.isspace())
    try:
        values = [_parse_json(line) for line in islice(lines, 2)]
    except (ValueError, RecursionError):
        return False
    return bool(values) and all(isinstance(value, list) for value in values)


def json_lines_to_blocks(lines: Iterable[str], growth: Growth) -> Iterator[str]:
    """The values of each line as lines of ``path: value``. A line that is not JSON stays as it is."""
    for line in lines:
        if line.isspace():
            continue
        try:
            if len(line) > MAX_LINE_CHARS:
                raise ValueError("too long for a tree")
            value = _parse_json(line)
        except (ValueError, RecursionError):
            yield line.rstrip("\n")
        else:
            yield "\n".join(_json_lines("", value, growth))


def _parse_json(text: str) -> Any:
    # numbers stay as they are written: no limit on digits, no loss of precision
    return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str)


def _json_object(value: _Object, growth: Growth) -> Iterator[str]:
    for key, item in value:
        if isinstance(item, list) and item and not _fits_a_line(item):
            yield ""
            yield from _json_lines(clip(key), item, growth)
            yield ""
        else:
            yield growth.add_label(clip(key), _scalar_to_text(item))


def _json_lines(path: str, value: Any, growth: Growth) -> Iterator[str]:
    if not isinstance(value, list) or not value or _fits_a_line(value):
        yield growth.add_label(path, _scalar_to_text(value))
        return
    stack = [_children(path, value)]
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
        elif not isinstance(child[1], list) or not child[1] or _fits_a_line(child[1]):
            yield growth.add_label(child[0], _scalar_to_text(child[1]))
        else:
            stack.append(_children(*child))


def _children(path: str, value: list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _Object):
        return ((clip(f"{path}.{key}" if path else key), item) for key, item in value)
    return ((clip(f"{path}[{i}]"), item) for i, item in enumerate(value))


def _fits_a_line(value: list[Any]) -> bool:
    """Whether it is a plain array of short scalars."""
    return not isinstance(value, _Object) and all(
        len(item) <= 100 and "\n" not in item if isinstance(item, str) else not isinstance(item, list) for item in value
    )


def _scalar_to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, _Object):
        return "{}"
    if isinstance(value, list):
        return ", ".join(map(_scalar_to_text, value)) if value else "[]"
    return "null" if value is None else str(value).lower()
