"""JSON and JSON Lines to lines of ``path: value``."""

import json
from collections.abc import Iterator
from typing import Any

from .labels import Growth, clip


class _Object(list[tuple[str, Any]]):
    """A JSON object that keeps the order of its keys, and duplicate keys."""


def json_to_text(text: str) -> str | None:
    """The values as lines of ``path: value``. None if the text is neither JSON nor JSON Lines."""
    growth = Growth(len(text))
    try:
        value = _parse_json(text)
    except (ValueError, RecursionError):
        lines = (line for line in text.split("\n") if line and not line.isspace())
        blocks: list[str] = []
        for count, line in enumerate(lines):
            try:
                value = _parse_json(line)
            except (ValueError, RecursionError):
                if count < 2:
                    return None
                blocks.append(line)
            else:
                if count < 2 and not isinstance(value, list):
                    return None
                blocks.append("\n".join(_json_lines("", value, growth)))
        return "\n\n".join(blocks)
    if isinstance(value, _Object):
        return "\n".join(_json_object(value, growth)).strip("\n")
    if isinstance(value, list) and not _fits_a_line(value):
        return "\n\n".join("\n".join(_json_lines("", item, growth)) for item in value)
    return "\n".join(_json_lines("", value, growth))


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
