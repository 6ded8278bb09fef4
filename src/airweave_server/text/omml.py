"""Formulas of Office (OMML, ECMA-376-1 part 22) to linear text, as a person types it: "(a+b)/2", "x_i^2", "√(y)".

Letters and signs stay those of the document, so that a formula adds no words of its own.
"""

import re
from collections.abc import Iterator

from .xml import Node

MAX_DEPTH = 60  # of nested structures; what is deeper is read as its text alone

_NONE = frozenset({"del", "moveFrom", "delText", "instrText", "ctrlPr", "rPr"})
_SINGLE = re.compile(r"\w*|[^\W\d_]\W?|\([^()]*\)|\[[^\[\]]*\]|√\([^()]*\)")


def to_text(node: Node) -> str:
    """The formula in ``oMath`` or ``oMathPara``; the formulas of the latter are on lines of their own."""
    if node.local == "oMathPara":
        return "\n".join(filter(None, (to_text(one) for one in node if one.local == "oMath")))
    return " ".join(_read(node, 0).split())


def _read(node: Node, depth: int) -> str:
    """The text of a node and what is in it."""
    if node.local in _NONE or node.local.endswith("Pr"):
        return ""
    if node.local == "t":
        return node.text()
    if depth >= MAX_DEPTH:
        return "".join(_texts(node))
    read = _READERS.get(node.local)
    if read is not None:
        return read(node, depth + 1)
    return _join([_read(one, depth + 1) for one in node])


def _texts(node: Node) -> Iterator[str]:
    ways = [node]
    while ways:
        one = ways.pop()
        if one.local == "t":
            yield one.text()
        if one.local not in _NONE:
            ways.extend(reversed(list(one)))


def _join(parts: list[str]) -> str:
    """The parts side by side; after a fraction or an index, a letter would read as its part."""
    joined: list[str] = []
    for part in parts:
        if part and joined and _TAIL.search(joined[-1]) and (part[0].isalnum() or part[0] == "("):
            joined.append(" ")
        if part:
            joined.append(part)
    return "".join(joined)


_TAIL = re.compile(r"[/^_](?:\w+|\([^()]*\))\Z")


def _part(node: Node, name: str, depth: int) -> str:
    return _join([_read(one, depth) for one in node if one.local == name]).strip()


def _value(node: Node, *path: str) -> str | None:
    """The ``val`` of an element in the properties of a node; None if the element is not there."""
    found = node.child(f"{node.local}Pr")
    for name in path:
        if found is None:
            return None
        found = found.child(name)
    return None if found is None else found.attribute("val") or ""


def _wrap(text: str) -> str:
    """In brackets, unless it is one thing."""
    return text if _SINGLE.fullmatch(text) else f"({text})"


def _scripts(sub: str, sup: str) -> str:
    return (f"_{_wrap(sub)}" if sub else "") + (f"^{_wrap(sup)}" if sup else "")


def _fraction(node: Node, depth: int) -> str:
    top, bottom = _part(node, "num", depth), _part(node, "den", depth)
    if _value(node, "type") == "noBar":
        return f"({top}¦{bottom})"
    return f"{_wrap(top)}/{_wrap(bottom)}"


def _root(node: Node, depth: int) -> str:
    degree = _part(node, "deg", depth)
    sign = {"": "√", "2": "√", "3": "∛", "4": "∜"}.get(degree, f"√[{degree}]")
    return f"{sign}({_part(node, 'e', depth)})"


def _scripted(node: Node, depth: int) -> str:
    base = _part(node, "e", depth)
    return _wrap(base) + _scripts(_part(node, "sub", depth), _part(node, "sup", depth))


def _before(node: Node, depth: int) -> str:
    return _join([_scripts(_part(node, "sub", depth), _part(node, "sup", depth)), _part(node, "e", depth)])


def _sum(node: Node, depth: int) -> str:
    sign = _value(node, "chr")
    sign = "∫" if sign is None else sign
    limits = _scripts(_part(node, "sub", depth), _part(node, "sup", depth))
    return f"{sign}{limits} {_part(node, 'e', depth)}"


def _delimited(node: Node, depth: int) -> str:
    begin, end, middle = _value(node, "begChr"), _value(node, "endChr"), _value(node, "sepChr")
    parts = [_read(one, depth).strip() for one in node if one.local == "e"]
    inner = ("|" if middle is None else middle).join(parts)
    return f"{'(' if begin is None else begin}{inner}{')' if end is None else end}"


def _function(node: Node, depth: int) -> str:
    return f"{_part(node, 'fName', depth)} {_part(node, 'e', depth)}"


def _lower(node: Node, depth: int) -> str:
    return f"{_part(node, 'e', depth)}_{_wrap(_part(node, 'lim', depth))}"


def _upper(node: Node, depth: int) -> str:
    return f"{_part(node, 'e', depth)}^{_wrap(_part(node, 'lim', depth))}"


def _accent(node: Node, depth: int) -> str:
    sign = _value(node, "chr")
    return f"{_wrap(_part(node, 'e', depth))}{chr(0x302) if sign is None else sign}"


def _bar(node: Node, depth: int) -> str:
    sign = chr(0x305) if _value(node, "pos") == "top" else chr(0x332)
    return f"{_wrap(_part(node, 'e', depth))}{sign}"


def _group(node: Node, depth: int) -> str:
    return _part(node, "e", depth)


def _matrix(node: Node, depth: int) -> str:
    rows = [
        ", ".join(_read(one, depth).strip() for one in row if one.local == "e") for row in node if row.local == "mr"
    ]
    return f"[{'; '.join(rows)}]"


def _lines(node: Node, depth: int) -> str:
    return "; ".join(_read(one, depth).strip() for one in node if one.local == "e")


_READERS = {
    "acc": _accent,
    "bar": _bar,
    "borderBox": _group,
    "box": _group,
    "d": _delimited,
    "eqArr": _lines,
    "f": _fraction,
    "func": _function,
    "groupChr": _group,
    "limLow": _lower,
    "limUpp": _upper,
    "m": _matrix,
    "nary": _sum,
    "phant": _group,
    "rad": _root,
    "sPre": _before,
    "sSub": _scripted,
    "sSubSup": _scripted,
    "sSup": _scripted,
}
