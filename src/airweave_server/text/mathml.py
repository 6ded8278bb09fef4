"""MathML to linear text: ``E=m c^2``, ``(a+b)/2``, ``√(x+1)``."""

import re
from collections.abc import Callable

MAX_DEPTH = 60  # elements nested deeper are read as if their parent held their content
MAX_ANNOTATION_CHARS = 10_000

_SIMPLE = re.compile(r"[\w.]+|\W")  # needs no parentheses
_INVISIBLE = dict.fromkeys(map(ord, "\u2061\u2062\u2063\u2064\u200b"))


class Formula:
    """Handles the XML events within a ``math`` element; ``text`` returns the formula after its end."""

    def __init__(self) -> None:
        self._open: list[tuple[str, list[str], dict[str, str]]] = [("mrow", [], {})]
        self._deeper = 0  # elements open below ``MAX_DEPTH``
        self._annotations: list[str] = []  # the formula as its author typed it, in StarMath or TeX

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            self._deeper += 1
        else:
            self._open.append((name, [], attributes))

    def end(self) -> None:
        if self._deeper:
            self._deeper -= 1
            return
        name, children, attributes = self._open.pop()
        if name == "annotation":
            self._annotations.append("".join(children)[:MAX_ANNOTATION_CHARS])
        elif name not in ("annotation-xml", "mphantom"):
            text = _write(name, children, attributes)
            # an empty argument keeps its place: the second of a fraction is what it is divided by
            self._open[-1][1].append(text)

    def characters(self, text: str) -> None:
        if text.isspace():
            return
        name, children, _ = self._open[-1]
        if name in ("annotation", "annotation-xml", "mtext", "ms"):
            children.append(text)
        else:
            children.append(" ".join(text.translate(_INVISIBLE).split()))

    def text(self) -> str:
        """The formula, or its annotation if it has no other content."""
        written = _join(self._open[0][1])
        return written or " ".join(" ".join(self._annotations[:1]).split())


def _write(name: str, children: list[str], attributes: dict[str, str]) -> str:
    write = _WRITERS.get(name)
    if write is not None and len(children) >= write[0]:
        return write[1](children, attributes)
    return _join(children)


def _join(parts: list[str]) -> str:
    """The parts in a row, with a space where two words would become one."""
    joined: list[str] = []
    last = ""
    for part in parts:
        if not part:
            continue
        if last and (last[-1].isalnum() and part[0].isalnum()):
            joined.append(" ")
        joined.append(part)
        last = part
    return "".join(joined)


def _group(text: str) -> str:
    return text if not text or _SIMPLE.fullmatch(text) else f"({text})"


def _under_over(children: list[str], signs: str) -> str:
    """``signs``: what precedes each child after the first."""
    base, *others = children
    return base + "".join(sign + _group(other) for sign, other in zip(signs, others, strict=False) if other)


def _accent(children: list[str], sign: str) -> str:
    mark = children[1]
    return children[0] + mark if len(mark) == 1 and not mark.isalnum() else _under_over(children, sign)


def _fence(children: list[str], attributes: dict[str, str]) -> str:
    separator = attributes.get("separators", ",").strip()[:1]
    return f"{attributes.get('open', '(')[:5]}{separator.join(children)}{attributes.get('close', ')')[:5]}"


# By element: how many children it needs, and how it is written.
_WRITERS: dict[str, tuple[int, Callable[[list[str], dict[str, str]], str]]] = {
    "mfrac": (2, lambda children, _: f"{_group(children[0])}/{_group(children[1])}"),
    "msup": (2, lambda children, _: _under_over(children, "^")),
    "msub": (2, lambda children, _: _under_over(children, "_")),
    "msubsup": (2, lambda children, _: _under_over(children, "_^")),
    "munder": (2, lambda children, _: _accent(children, "_")),
    "mover": (2, lambda children, _: _accent(children, "^")),
    "munderover": (2, lambda children, _: _under_over(children, "_^")),
    "msqrt": (1, lambda children, _: f"√{_group(_join(children))}"),
    "mroot": (2, lambda children, _: f"{children[1]}√{_group(children[0])}"),
    "mfenced": (0, _fence),
    "mtr": (0, lambda children, _: ", ".join(children)),
    "mlabeledtr": (0, lambda children, _: ", ".join(children)),
    "mtable": (0, lambda children, _: "; ".join(children)),
    "mspace": (0, lambda _, __: " "),
    "ms": (0, lambda children, _: f'"{"".join(children)}"'),
    "mtext": (0, lambda children, _: "".join(children)),
}
