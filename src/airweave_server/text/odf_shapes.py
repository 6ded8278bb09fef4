"""What is drawn in OpenDocument: frames, embedded objects, form controls, and the slides or pages they stand on."""

from functools import partial

from .odf_lists import ListStyles
from .odf_names import name
from .odf_text import capture
from .odf_walk import End, Frame, Handlers, Walker, in_line, make_handlers
from .parts import LeftOut

MAX_NOTE_CHARS = 100


def _frame(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A frame holds one thing, often in several forms: an object and the image of it."""
    kind = attributes.get(_CLASS, "")
    if kind == "page-number":
        return _mute(walker)
    once = walker.open_sink() if kind in ("header", "footer", "date-time") else None
    frame, was_title = Frame(), walker.is_title
    walker.frames.append(frame)
    walker.is_title = kind == "title"

    def close() -> None:
        walker.frames.pop()
        walker.is_title = was_title
        if once is not None:
            _say_once(walker, in_line(once().blocks))
        if frame.images and not frame.is_shown:
            _count_image(walker)

    return close


def _mute(walker: Walker) -> End:
    was, walker.is_muted = walker.is_muted, True

    def close() -> None:
        walker.is_muted = was

    return close


def _say_once(walker: Walker, text: str) -> None:
    if text not in walker.said:
        walker.said.add(text)
        walker.sink.add(text)


def _image(walker: Walker, _: dict[str, str]) -> None:
    if walker.frames:
        walker.frames[-1].images += 1
    else:
        _count_image(walker)


def _count_image(walker: Walker) -> None:
    walker.found.images[walker.place] = walker.found.images.get(walker.place, 0) + 1


def _shown(walker: Walker, _: dict[str, str]) -> None:
    if walker.frames:
        walker.frames[-1].is_shown = True


def _object(walker: Walker, attributes: dict[str, str]) -> None:
    _shown(walker, attributes)
    if not (target := attributes.get(_HREF)):
        return  # it stands here, in a file that is a single XML document
    embedded = walker.embed(walker, target)
    walker.add_inline(embedded.formula)
    walker.sink.extend(embedded.blocks)


def _unread_object(walker: Walker, attributes: dict[str, str]) -> None:
    _shown(walker, attributes)
    kind = attributes.get(_MIME, "")
    note = "audio or video" if kind.startswith(("audio/", "video/")) or kind == _MEDIUM else kind[:MAX_NOTE_CHARS]
    walker.found.left_out.append(LeftOut("object", walker.place, note=note))


def _section(walker: Walker, _: dict[str, str]) -> End:
    """A part of a text. If it stands in another file and not here, that is said."""
    sink, before, was = walker.sink, len(walker.sink.blocks), walker.linked
    walker.linked = ""

    def close() -> None:
        linked, walker.linked = walker.linked, was
        if linked and len(sink.blocks) == before and not sink.waiting:
            walker.found.left_out.append(LeftOut("object", walker.place, note=f"linked: {linked}"))

    return close


def _link(walker: Walker, attributes: dict[str, str]) -> None:
    walker.linked = attributes.get(_HREF, "")[:MAX_NOTE_CHARS]


def _inner_document(walker: Walker, _: dict[str, str]) -> End | None:
    """A document within a file that is a single XML document. Its styles hold for it alone."""
    if not walker.frames:
        return None
    was = walker.styles, walker.parents, walker.numbered, walker.unnumbered, walker.outline, walker.counters
    walker.styles, walker.parents, walker.numbered, walker.unnumbered = ListStyles(), {}, set(), set()
    walker.outline, walker.counters = type(was[4])(), {}

    def close() -> None:
        walker.styles, walker.parents, walker.numbered, walker.unnumbered, walker.outline, walker.counters = was

    return close


def _chart(walker: Walker, _: dict[str, str]) -> End:
    was, walker.is_chart = walker.is_chart, True

    def close() -> None:
        walker.is_chart = was

    return close


def _description(walker: Walker, _: dict[str, str]) -> End | None:
    """The title or description of a shape: what people read who do not see it. Those in a chart name its cells."""
    if walker.is_chart:
        return _mute(walker)

    def use(text: str) -> None:
        frame = walker.frames[-1] if walker.frames else Frame()
        if text != frame.description:
            frame.description = text
            walker.sink.add(text)

    return capture(walker, use)


def _control(walker: Walker, attributes: dict[str, str], *, has_value: bool) -> End | None:
    """A form control. It is read where it is shown (``_shown_control``)."""
    close = walker.open_sink()
    if close is None:
        return None
    label = attributes.get(_LABEL, "")
    if not has_value and (_STATE in attributes or _SELECTED in attributes):
        is_on = attributes.get(_STATE) == "checked" or attributes.get(_SELECTED) == "true"
        label = f"[{'x' if is_on else ' '}] {label}"
    value = (attributes.get(_CURRENT) or attributes.get(_VALUE) or "") if has_value else ""

    def end() -> None:
        said = in_line(close().blocks) or value
        text = " ".join(filter(None, (label, said)))
        id = attributes.get(_XML_ID) or attributes.get(_ID) or f"unnamed {len(walker.controls)}"
        if text.strip():
            walker.controls[id] = text

    return end


def _option(walker: Walker, attributes: dict[str, str]) -> None:
    if "true" in (attributes.get(_SELECTED), attributes.get(_OPTION_SELECTED)):
        walker.sink.add(attributes.get(_LABEL, ""))


def _shown_control(walker: Walker, attributes: dict[str, str]) -> None:
    if text := walker.controls.pop(attributes.get(_CONTROL, ""), ""):
        walker.add_inline(f" {text} ")


def add_controls(walker: Walker) -> None:
    """Add the form controls that no shape shows."""
    for text in walker.controls.values():
        walker.sink.add(text)
    walker.controls.clear()


def _page(walker: Walker, attributes: dict[str, str]) -> End | None:
    close = walker.open_sink()
    if close is None:
        return None
    label, was = f"{walker.page_name} {len(walker.pages) + 1}", walker.place
    walker.place = (label,)

    def end() -> None:
        add_controls(walker)
        _add_declared(walker, attributes)
        walker.pages.append((label, close().blocks))
        walker.place = was

    return end


def _notes(walker: Walker, attributes: dict[str, str]) -> End | None:
    close = walker.open_sink()
    if close is None:
        return None

    def end() -> None:
        _add_declared(walker, attributes)
        if blocks := close().blocks:
            walker.sink.add("Notes:")
            walker.sink.extend(blocks)

    return end


def _add_declared(walker: Walker, attributes: dict[str, str]) -> None:
    for kind, used in _USED.items():
        if text := walker.declared.get(f"{kind} {attributes.get(used)}"):
            _say_once(walker, text)


def _declaration(walker: Walker, attributes: dict[str, str], *, kind: str) -> End | None:
    key = f"{kind} {attributes.get(_DECLARED)}"

    def use(text: str) -> None:
        walker.declared[key] = text

    return capture(walker, use)


_CLASS, _HREF, _MIME = name("presentation:class"), name("xlink:href"), name("draw:mime-type")
_MEDIUM = "application/vnd.sun.star.media"
_LABEL, _STATE, _SELECTED = name("form:label"), name("form:current-state"), name("form:current-selected")
_CURRENT, _VALUE, _OPTION_SELECTED = name("form:current-value"), name("form:value"), name("form:selected")
_XML_ID, _ID, _CONTROL = name("xml:id"), name("form:id"), name("draw:control")
_DECLARED = name("presentation:name")
_USED = {kind: name(f"presentation:use-{kind}-name") for kind in ("header", "footer", "date-time")}

_FIELDS = ("combobox", "date", "file", "formatted-text", "listbox", "number", "text", "textarea", "time", "value-range")

SHAPES: Handlers = make_handlers(
    {
        "chart:chart": _chart,
        "draw:applet": _unread_object,
        "draw:control": _shown_control,
        "draw:floating-frame": _unread_object,
        "draw:frame": _frame,
        "draw:image": _image,
        "draw:object": _object,
        "draw:object-ole": _object,
        "draw:page": _page,
        "draw:plugin": _unread_object,
        "draw:text-box": _shown,
        "form:option": _option,
        "office:document": _inner_document,
        "presentation:notes": _notes,
        "svg:desc": _description,
        "svg:title": _description,
        "text:section": _section,
        "text:section-source": _link,
        **{f"presentation:{kind}-decl": partial(_declaration, kind=kind) for kind in _USED},
        **{f"form:{kind}": partial(_control, has_value=True) for kind in _FIELDS},
        **{
            f"form:{kind}": partial(_control, has_value=False)
            for kind in ("button", "checkbox", "column", "fixed-text", "frame", "image", "radio")
        },
    }
)
