"""Styles of OpenDocument: how numbers look, and the headers and footers of pages."""

import re

from .odf_names import name
from .odf_walk import FIELD, End, Walker, make_handlers


def read_styles(walker: Walker, _: dict[str, str]) -> End:
    """Styles hold no text, but how numbers are shown, and headers and footers."""
    was, walker.handlers, walker.is_muted = (walker.handlers, walker.is_muted), STYLES, True
    walker.bodies.append(was[0])

    def close() -> None:
        walker.bodies.pop()
        walker.handlers, walker.is_muted = was

    return close


def _style(walker: Walker, attributes: dict[str, str]) -> None:
    if attributes.get(_FAMILY) == "paragraph":
        own = attributes.get(_STYLE_NAME, "")
        walker.parents[own] = attributes.get(_PARENT, "")
        if _LIST_STYLE in attributes:
            (walker.numbered if attributes[_LIST_STYLE] else walker.unnumbered).add(own)


def _furniture(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A header or footer of pages: read once, however many kinds of pages have it."""
    close = walker.open_sink() if walker.bodies and attributes.get(_DISPLAY) != "false" else None
    if close is None:
        return None
    walker.handlers, walker.is_muted, walker.is_furniture = walker.bodies[-1], False, True

    def end() -> None:
        walker.handlers, walker.is_muted, walker.is_furniture = STYLES, True, False
        for block in close().blocks:
            # "Page 3 of 12" says nothing: a word for each field
            if len(_WORD.findall(block.text)) > block.text.count(FIELD):
                walker.furniture[" ".join(block.text.replace(FIELD, "").split())] = None

    return end


def _list_style(walker: Walker, attributes: dict[str, str]) -> None:
    walker.styles.open_style(attributes)


def _outline_style(walker: Walker, _: dict[str, str]) -> None:
    walker.styles.open_outline()


def _level(walker: Walker, attributes: dict[str, str]) -> None:
    walker.styles.add_level(attributes, is_bullet=False)


def _bullet(walker: Walker, attributes: dict[str, str]) -> None:
    walker.styles.add_level(attributes, is_bullet=True)


STYLES = make_handlers(
    {
        "office:binary-data": Walker.ignore,
        "style:style": _style,
        "text:list-style": _list_style,
        "text:list-level-style-number": _level,
        "text:list-level-style-bullet": _bullet,
        "text:list-level-style-image": _bullet,
        "text:outline-style": _outline_style,
        "text:outline-level-style": _level,
        **dict.fromkeys(
            (
                "style:header",
                "style:header-left",
                "style:header-first",
                "loext:header-first",
                "style:footer",
                "style:footer-left",
                "style:footer-first",
                "loext:footer-first",
            ),
            _furniture,
        ),
    }
)

_DISPLAY, _FAMILY, _PARENT = name("style:display"), name("style:family"), name("style:parent-style-name")
_LIST_STYLE, _STYLE_NAME = name("style:list-style-name"), name("style:name")
_WORD = re.compile(r"\w+")
