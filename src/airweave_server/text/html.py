"""HTML to Markdown-like text, in one pass and without a tree: neither nesting nor attributes make it slow.

If a page marks its main part, the parts around it that repeat on every page of a site are left out: headers, footers,
sidebars, menus, banners. Any other page loses only its ``nav``.

Tree builders were tried; they are quadratic on hostile pages (nested elements, thousands of attributes).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from html import unescape

START = re.compile(
    r"\s*+(?:<\?xml[^>]{0,200}>\s*+)?(?:<!--(?:(?!-->).){0,2000}+-->\s*+){0,20}+<(?:!doctype\s+html|html|head|body)\b",
    re.I | re.S,
)
TAG = re.compile(
    r"</?(?:a|article|b|body|br|code|dd|div|dl|dt|em|font|form|h[1-6]|head|header|hr|html|i|img|input|li|link|main|meta"
    r"|nav|ol|p|pre|script|section|span|strong|style|table|tbody|td|th|title|tr|u|ul)[\s/>]",
    re.I,
)
# All quantifiers are possessive, and a tag ends no later than the text: one pass, whatever the text. An unclosed quote
# of each kind is met only once.
_MARKUP = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+(?:>|\Z)|<(!--|[!?/])""")
_DIGITS = re.compile(r"&#[xX]?[0-9a-fA-F]{16,};?")  # unescape raises on thousands of digits
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.I) for name in ("script", "style", "title", "textarea", "iframe")}
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd"}
    | {"label", "mark", "nobr", "output", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong"}
    | {"sub", "sup", "time", "tt", "u", "var", "picture", "wbr"}
)
_DROPPED = frozenset({"nav", "template", "svg"})
_MAIN = frozenset({"main", "article"})
_AROUND = frozenset({"header", "footer", "aside", "dialog"})
_ROLE = re.compile(
    r"""\srole\s*+=\s*+["']?+(main|navigation|banner|contentinfo|complementary|search|dialog|alertdialog)\b""", re.I
)
_NAMES = re.compile(r"""\s(?:id|class)\s*+=\s*+["']?+([^"'>]{1,300})""", re.I)
_AROUND_NAMES = re.compile(
    r"(?<![a-z])(?:cookies?|consent|gdpr|navbar|navigation|nav|menu|sidebar|sphinxsidebar|breadcrumbs?|footer|site-header"
    r"|masthead|newsletter|social-links|share-buttons|skip-link|skiplink)(?![a-z])",
    re.I,
)
TAG_CHARS = 2_000  # how much of a tag is used to classify it
LEAST_MAIN_CHARS = 200  # a shorter main part does not represent the page
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_LINES = frozenset(
    {
        "li",
        "tr",
        "br",
        "dt",
        "dd",
        "div",
        "option",
        "legend",
        "summary",
        "figcaption",
        "caption",
        "thead",
        "tbody",
        "tfoot",
    }
)
_BREAK_ROW = frozenset({"table", "pre", *_HEADINGS})
MAX_ROW_CHARS = 1_000  # a longer row is a layout, not data
_HYPHENS = {0xAD: None, 0x2011: "-"}  # soft ones do not show, and one that does not break is one like others
MAX_INDENT = 6  # levels of nested lists


def to_text(html: str, *, whole: bool = False) -> str:
    """The text of a page, with headings, lists, tables and code as in Markdown. Takes linear time. ``whole``: it is no
    page of a site but a message or a chapter, of which nothing is left out."""
    page = _Page(whole)
    is_xml = html.lstrip()[:5] == "<?xml"  # in XML any element may close itself
    position = 0
    unclosed: set[str] = set()
    while markup := _MARKUP.search(html, position):
        page.text(html[position : markup.start()])
        position = markup.end()
        if other := markup[3]:
            closing = html.find("-->" if other == "!--" else ">", position - (2 if other == "!--" else 0))
            position = len(html) if closing < 0 else html.index(">", closing) + 1
            continue
        name = markup[2].lower()
        if markup[1]:
            page.close(name)
        elif markup[0].endswith("/>") and (is_xml or name in _DROPPED):
            page.open(name, "")
            page.close(name)
        elif (pattern := _RAW.get(name)) and name not in unclosed:
            if end := pattern.search(html, position):
                page.raw(name, html[position : end.start()])
                position = end.start()
            elif name in ("title", "textarea"):
                unclosed.add(name)
            else:
                return page.finish()
        else:
            page.open(name, markup[0][:TAG_CHARS])
    page.text(html[position:])
    return page.finish()


def tokens(html: str) -> Iterator[tuple[str, str]]:
    """The texts of a page, as ("", text) with their references, and its tags, as ("td" or "/td", tag). Leaves out
    comments, scripts and styles. Takes linear time."""
    position = 0
    unclosed: set[str] = set()
    while markup := _MARKUP.search(html, position):
        if markup.start() > position:
            yield "", html[position : markup.start()]
        position = markup.end()
        if other := markup[3]:
            closing = html.find("-->" if other == "!--" else ">", position - (2 if other == "!--" else 0))
            position = len(html) if closing < 0 else html.index(">", closing) + 1
            continue
        name = markup[2].lower()
        pattern = None if markup[1] else _RAW.get(name)
        if pattern is not None and name not in unclosed:
            if end := pattern.search(html, position):
                if name in ("title", "textarea"):
                    yield "", html[position : end.start()]
                position = end.start()
            elif name in ("title", "textarea"):
                unclosed.add(name)
            else:
                return
        yield markup[1] + name, markup[0][:TAG_CHARS]
    yield "", html[position:]


class _Page:
    """Turns tags and text, in page order, into lines. Keeps no tree, so nesting may be arbitrarily deep."""

    def __init__(self, whole: bool) -> None:
        self._whole = whole
        self._lines: list[str] = []
        self._around: list[int] = []  # the numbers of the lines around the main part
        self._main_chars = 0
        self._main_at: int | None = None  # height of the stack below the main part
        self._around_at: int | None = None  # and below a part around it
        self._inline: list[str] = []
        self._inline_chars = 0
        self._prefix = ""
        self._blank = False  # an empty line is due
        self._stack: list[str] = []
        self._open: dict[str, int] = {}
        self._dropped_at: int | None = None  # height of the stack below a part that is left out
        self._pre = False
        self._row = False
        self._title = ""
        self._first_h1: int | None = None  # its line number

    def text(self, text: str) -> None:
        if text and self._dropped_at is None:
            self._inline.append(_unescape(text))
            self._inline_chars += len(text)

    def raw(self, name: str, text: str) -> None:
        if self._dropped_at is not None:
            return
        if name == "title":
            self._title = self._title or " ".join(_unescape(text).split())
        elif name == "textarea":
            self.text(text)

    def open(self, name: str, tag: str) -> None:
        if name in INLINE:
            return
        part = "" if self._whole else _classify(name, tag)
        if part:
            self._row = False  # the table is layout, not data
        self._start(name)
        if name not in _VOID:
            if name in _DROPPED and self._dropped_at is None and not (self._whole and name == "nav"):
                self._dropped_at = len(self._stack)
            if part == "main" and self._main_at is None:
                self._main_at = len(self._stack)
            elif part == "around" and self._around_at is None:
                self._around_at = len(self._stack)
            self._stack.append(name)
            self._open[name] = self._open.get(name, 0) + 1

    def close(self, name: str) -> None:
        if name in INLINE:
            return
        if name == "p" and not self._open.get("p"):
            self._start("p")
        while self._open.get(name):
            top = self._stack.pop()
            self._open[top] -= 1
            if self._dropped_at is not None and len(self._stack) <= self._dropped_at:
                self._dropped_at = None
            if len(self._stack) in (self._main_at, self._around_at):
                self._row = False
            self._end(top)
            if self._main_at is not None and len(self._stack) <= self._main_at:
                self._main_at = None
            if self._around_at is not None and len(self._stack) <= self._around_at:
                self._around_at = None
            if top == name:
                break

    def finish(self) -> str:
        self._dropped_at = None
        self._end("pre" if self._pre else "table")
        lines = self._lines
        h1 = lines[self._first_h1][2:] if self._first_h1 is not None else None
        if self._main_chars >= LEAST_MAIN_CHARS:
            around = set(self._around)
            lines = [line for number, line in enumerate(lines) if number not in around]
            lines = [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]
            h1 = None if self._first_h1 in around else h1
        if self._title and self._title != h1:
            lines = [self._title if h1 else f"# {self._title}", "", *lines]
        return "\n".join(lines).rstrip("\n")

    def _start(self, name: str) -> None:
        if self._dropped_at is not None:
            return
        if self._pre:
            if name in ("br", "div", "p", "tr", "li"):
                self._inline.append("\n" if name == "br" or not self._at_line_start() else "")
            return
        if name in ("td", "th"):
            self._row = True
            if any(not part.isspace() for part in self._inline):
                self._inline.append(" | ")
            return
        if self._row and name not in _BREAK_ROW and name != "tr" and self._inline_chars < MAX_ROW_CHARS:
            self._inline.append(" ")
            return
        self._flush()
        self._blank = self._blank or not self._is_tight(name)
        if name in _HEADINGS:
            self._prefix = _HEADINGS[name]
        elif name == "li":
            depth = self._open.get("ul", 0) + self._open.get("ol", 0)
            self._prefix = "  " * min(max(depth - 1, 0), MAX_INDENT) + "- "
        elif name == "pre":
            self._pre = True

    def _end(self, name: str) -> None:
        if self._dropped_at is not None:
            return
        if self._pre:
            if name == "pre":
                self._fence()
            return
        if name in ("td", "th"):
            return
        if (
            self._row
            and name not in ("tr", "table", "tbody", "thead", *_HEADINGS)
            and self._inline_chars < MAX_ROW_CHARS
        ):
            self._inline.append(" ")
            return
        self._flush()
        self._blank = self._blank or not self._is_tight(name)

    def _is_tight(self, name: str) -> bool:
        return name in _LINES or (name in ("ul", "ol") and self._open.get("li", 0) > 0)

    def _at_line_start(self) -> bool:
        return not self._inline or self._inline[-1].endswith("\n") or not self._inline[-1]

    def _flush(self) -> None:
        line = " ".join("".join(self._inline).split())
        if not line.isascii():
            line = line.translate(_HYPHENS)
        self._inline, self._inline_chars, self._row = [], 0, False
        if line:
            if self._prefix == "# " and self._first_h1 is None:
                self._first_h1 = len(self._lines) + (self._blank and bool(self._lines))
            self._add(self._prefix + line)
        self._prefix = ""

    def _fence(self) -> None:
        code = "".join(self._inline).strip("\n").rstrip()
        self._inline, self._inline_chars, self._pre = [], 0, False
        if code:
            fence = "```"
            while fence in code and len(fence) < 20:
                fence += "`"
            self._blank = True
            self._add(f"{fence}\n{code}\n{fence}")
        self._blank = True

    def _add(self, line: str) -> None:
        if self._blank and self._lines:
            self._lines.append("")
        self._blank = False
        if self._main_at is not None:
            self._main_chars += len(line)
        elif self._around_at is not None:
            self._around.append(len(self._lines))
        self._lines.append(line)


@lru_cache(maxsize=1_000)  # a page has few kinds of tags
def _classify(name: str, tag: str) -> str:
    """The part of the page that an element declares itself to be: "main", "around" it, or "" for neither."""
    if name in _MAIN:
        return "main"
    if name in _AROUND:
        return "around"
    if name in ("html", "body", "p", "li", "td", "th", "tr") or name in _HEADINGS or " " not in tag:
        return ""
    if role := _ROLE.search(tag):
        return "main" if role[1].lower() == "main" else "around"
    return "around" if any(_AROUND_NAMES.search(names[1]) for names in _NAMES.finditer(tag)) else ""


def _unescape(text: str) -> str:
    return unescape(_DIGITS.sub("\ufffd", text)) if "&" in text else text
