"""What text is in OpenDocument: paragraphs, lists, tables, notes, comments, fields."""

from collections.abc import Callable
from functools import partial

from .odf_lists import BULLET, MAX_LEVEL, MAX_NUMBER, Counter
from .odf_names import name, number
from .odf_styles import read_styles
from .odf_tables import read_cell, read_row, read_table
from .odf_walk import BREAK, FIELD, Block, End, OpenList, Walker, in_line, join, make_handlers

MAX_HEADING = 6  # of Markdown
MAX_LABEL_CHARS = 40  # of a note
HEADING_STYLE = "Heading_20_"  # and the level: the name of a style in whatever language
MAX_PARENTS = 20  # of a style


def read_paragraph(walker: Walker, attributes: dict[str, str]) -> End:
    return _open_paragraph(walker, _heading_level(walker, attributes.get(_STYLE, "")), "")


def _heading(walker: Walker, attributes: dict[str, str]) -> End:
    level = number(attributes.get(_OUTLINE_LEVEL), 1, 1, MAX_LEVEL)
    label = ""
    style = attributes.get(_STYLE, "")
    if not _is_in_list(walker) and attributes.get(_IS_HEADER) != "true" and not _is_unnumbered(walker, style):
        first = None
        if attributes.get(_RESTART) == "true" or _START in attributes:
            first = number(attributes.get(_START), 1, 0, MAX_NUMBER)
        label = walker.outline.count(walker.styles.outline, level, first)
    return _open_paragraph(walker, level, label)


def _open_paragraph(walker: Walker, heading: int, label: str) -> End:
    sink = walker.sink
    is_item, indent = False, ""
    if _is_in_list(walker):
        current = sink.lists[-1]
        indent = "  " * (current.level - 1)
        if current.is_label_due:
            current.is_label_due = False
            label = current.counter.count(current.levels, current.level, current.first)
            if current.label and label != BULLET:
                label = f"{current.label} "
            is_item = True
        else:
            indent += "  "
    sink.paragraphs.append([])
    labels = len(walker.labels)

    def close() -> None:
        text = sink.close_paragraph()
        walker.chars += len(text)
        shown = label
        if len(walker.labels) > labels:  # the number itself stands in the document
            shown = f"{walker.labels[-1]} " if label != BULLET else label
            del walker.labels[labels:]
        if text and (heading or walker.is_title):
            sink.add(f"{'#' * min(heading or 1, MAX_HEADING)} {shown}{' '.join(text.split())}")
        elif text and is_item:
            sink.add(indent + shown + text.replace("\n", f"\n{indent}  "), is_item=True)
        elif text:
            sink.add(indent + text.replace("\n", f"\n{indent}"))
        sink.release()

    return close


def _heading_level(walker: Walker, style: str) -> int:
    """The level of a paragraph that is no heading but looks like one; 0 for others."""
    for _ in range(MAX_PARENTS):
        if style == "Title":
            return 1
        if style.startswith(HEADING_STYLE):
            return number(style.removeprefix(HEADING_STYLE), 1, 1, MAX_LEVEL)
        style = walker.parents.get(style, "")
        if not style:
            break
    return 0


def _is_unnumbered(walker: Walker, style: str) -> bool:
    for _ in range(MAX_PARENTS):
        if style in walker.unnumbered:
            return True
        if not style or style in walker.numbered:
            break
        style = walker.parents.get(style, "")
    return False


def _is_in_list(walker: Walker) -> bool:
    lists = walker.sink.lists
    return bool(lists) and lists[-1].depth == len(walker.sink.paragraphs)


def _list(walker: Walker, attributes: dict[str, str]) -> End:
    sink = walker.sink
    style, depth = attributes.get(_STYLE, ""), len(sink.paragraphs)
    if _is_in_list(walker):
        outer = sink.lists[-1]
        style = style or outer.style
        counter, level = outer.counter, min(outer.level + 1, MAX_LEVEL)
    else:
        counter, level = _find_counter(walker, attributes, style), 1
    sink.lists.append(OpenList(style, walker.styles.find(style), counter, level, depth))
    return partial(_close_list, sink.lists)


def _close_list(lists: list[OpenList]) -> None:
    lists.pop()


def _find_counter(walker: Walker, attributes: dict[str, str], style: str) -> Counter:
    """That of the list which this one continues, or a new one."""
    counter = walker.counters.get(f"id {attributes[_CONTINUED]}") if _CONTINUED in attributes else None
    if counter is None and attributes.get(_CONTINUES) == "true":
        counter = walker.counters.get(f"style {style}")
    counter = counter or Counter()
    walker.counters[f"style {style}"] = counter
    if id := attributes.get(_ID):
        walker.counters[f"id {id}"] = counter
    return counter


def _numbered_paragraph(walker: Walker, attributes: dict[str, str]) -> End:
    """A list item without a list."""
    sink, style = walker.sink, attributes.get(_STYLE, "")
    counter = walker.counters.setdefault(f"id {attributes.get(_LIST_ID, '')}", Counter())
    level = number(attributes.get(_LEVEL), 1, 1, MAX_LEVEL)
    levels, depth = walker.styles.find(style), len(sink.paragraphs)
    sink.lists.append(OpenList(style, levels, counter, level, depth, is_label_due=True, first=_first(attributes)))
    return partial(_close_list, sink.lists)


def _item(walker: Walker, attributes: dict[str, str]) -> None:
    if _is_in_list(walker):
        current = walker.sink.lists[-1]
        current.is_label_due, current.first, current.label = True, _first(attributes), ""
        if override := attributes.get(_STYLE_OVERRIDE):
            current.levels = walker.styles.find(override)
        else:
            current.levels = walker.styles.find(current.style)


def _list_header(walker: Walker, _: dict[str, str]) -> None:
    if _is_in_list(walker):
        walker.sink.lists[-1].is_label_due = False


def _first(attributes: dict[str, str]) -> int | None:
    return number(attributes[_START], 1, 0, MAX_NUMBER) if _START in attributes else None


def _label(walker: Walker, _: dict[str, str]) -> End | None:
    """The number of a list item or heading as it is shown, which not all programs write."""

    def use(text: str) -> None:
        text = text[:MAX_LABEL_CHARS]
        if walker.sink.paragraphs:
            walker.labels.append(text)
        elif _is_in_list(walker):
            walker.sink.lists[-1].label = text

    return capture(walker, use)


def capture(walker: Walker, use: Callable[[str], None]) -> End | None:
    """Read the content of the element apart, as a line."""
    close = walker.open_sink()
    if close is None:
        return None
    walker.sink.paragraphs.append([])

    def end() -> None:
        sink = close()
        text = sink.close_paragraph()
        sink.release()
        use(in_line([Block(text), *sink.blocks]).strip())

    return end


def _space(walker: Walker, _: dict[str, str]) -> None:
    walker.characters(" ")


def _break(walker: Walker, _: dict[str, str]) -> None:
    if walker.sink.paragraphs:
        walker.characters(BREAK)


def _note(walker: Walker, _: dict[str, str]) -> End:
    outer = walker.note
    walker.note = ["", ""]

    def close() -> None:
        label, text = walker.note
        walker.note = outer
        marker = f"[^{label}]"
        if walker.sink.paragraphs:
            walker.sink.paragraphs[-1].append(marker)
        walker.sink.add(f"{marker}: {text}" if text else "")

    return close


def _note_label(walker: Walker, _: dict[str, str]) -> End | None:
    def use(text: str) -> None:
        walker.note[0] = text[:MAX_LABEL_CHARS]

    return capture(walker, use)


def _note_body(walker: Walker, _: dict[str, str]) -> End | None:
    close = walker.open_sink()
    if close is None:
        return None

    def end() -> None:
        walker.note[1] = join(close().blocks)

    return end


def _comment(walker: Walker, _: dict[str, str]) -> End | None:
    close = walker.open_sink()
    if close is None:
        return None
    outer, walker.author = walker.author, ""

    def end() -> None:
        text, by = in_line(close().blocks), f" by {walker.author}" if walker.author else ""
        walker.author = outer
        walker.sink.add(f"[Comment{by}: {text}]" if text else "", is_comment=True)

    return end


def _author(walker: Walker, _: dict[str, str]) -> End | None:
    def use(text: str) -> None:
        walker.author = text

    return capture(walker, use)


def _ruby_text(walker: Walker, _: dict[str, str]) -> End | None:
    return capture(walker, lambda text: walker.add_inline(f"({text})" if text else ""))


def _hidden_text(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A field that is shown on a condition: its text is read in either case."""
    hidden = attributes.get(_STRING_VALUE, "")
    return capture(walker, lambda text: walker.add_inline(text or hidden))


def _page_number(walker: Walker, _: dict[str, str]) -> End:
    """Not read: it is that of the page on which the document was saved."""
    was, walker.is_muted = walker.is_muted, True
    if walker.is_furniture and walker.sink.paragraphs:
        walker.sink.paragraphs[-1].append(FIELD)

    def close() -> None:
        walker.is_muted = was

    return close


def page_field(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A field that in headers and footers says something else on each page or each day."""
    return _page_number(walker, attributes) if walker.is_furniture and attributes.get(_FIXED) != "true" else None


# Elements whose content is no text of the document: templates of indexes, what was deleted, settings, data.
_IGNORED = (
    "dc:date",
    "loext:sender-initials",
    "meta:creator-initials",
    "meta:date-string",
    "office:binary-data",
    "office:event-listeners",
    "office:font-face-decls",
    "office:meta",
    "office:script",
    "office:scripts",
    "office:settings",
    "table:tracked-changes",
    "text:alphabetical-index-source",
    "text:bibliography-source",
    "text:illustration-index-source",
    "text:object-index-source",
    "text:script",
    "text:table-index-source",
    "text:table-of-content-source",
    "text:tracked-changes",
    "text:user-index-source",
)
TEXT = make_handlers(
    {
        **dict.fromkeys(_IGNORED, Walker.ignore),
        "math:math": Walker.read_formula,
        "dc:creator": _author,
        "office:annotation": _comment,
        "office:automatic-styles": read_styles,
        "office:master-styles": read_styles,
        "office:styles": read_styles,
        "table:covered-table-cell": read_cell,
        "table:table": read_table,
        "table:table-cell": read_cell,
        "table:table-row": read_row,
        "text:h": _heading,
        "text:hidden-text": _hidden_text,
        "text:line-break": _break,
        "text:list": _list,
        "text:list-header": _list_header,
        "text:list-item": _item,
        "text:note": _note,
        "text:note-body": _note_body,
        "text:note-citation": _note_label,
        "text:number": _label,
        "text:numbered-paragraph": _numbered_paragraph,
        "text:p": read_paragraph,
        "text:page-count": page_field,
        "text:page-number": _page_number,
        "text:ruby-text": _ruby_text,
        "text:s": _space,
        "text:tab": _space,
    }
)
_CONTINUED, _CONTINUES = name("text:continue-list"), name("text:continue-numbering")
_ID, _LIST_ID, _LEVEL, _LIST_STYLE = (
    name("xml:id"),
    name("text:list-id"),
    name("text:level"),
    name("style:list-style-name"),
)
_FIXED = name("text:fixed")
_IS_HEADER, _RESTART = name("text:is-list-header"), name("text:restart-numbering")
_OUTLINE_LEVEL, _START = name("text:outline-level"), name("text:start-value")
_STRING_VALUE, _STYLE, _STYLE_NAME = name("text:string-value"), name("text:style-name"), name("style:name")
_STYLE_OVERRIDE = name("text:style-override")
_VALUES = [name(f"office:{kind}") for kind in ("string-value", "date-value", "time-value", "boolean-value", "value")]
