"""What annotations say on a page of a PDF: values of form fields, typed text, stamps, comments and links."""

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfPage, PdfTextPage

from .parts import LeftOut

MAX_ANNOTATIONS = 2_000  # of one page
MAX_OPTIONS = 1_000  # of one form field
MAX_VALUE_BYTES = 4_000_000  # of one string
MAX_FILE_BYTES = 64 * 1024 * 1024  # of one embedded file
MAX_REMOVED = 20_000  # objects of a page that are taken away to read its appearances alone
CAPTION_WIDTH, CAPTION_HEIGHT = 240.0, 14.0  # points in which the caption of a field is looked for

_HIDDEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_MARKS = (
    pdfium.FPDF_ANNOT_HIGHLIGHT,
    pdfium.FPDF_ANNOT_UNDERLINE,
    pdfium.FPDF_ANNOT_SQUIGGLY,
    pdfium.FPDF_ANNOT_STRIKEOUT,
)
_COMMENTS = (
    *_MARKS,
    *(pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_LINE, pdfium.FPDF_ANNOT_SQUARE, pdfium.FPDF_ANNOT_CIRCLE),
    *(pdfium.FPDF_ANNOT_POLYGON, pdfium.FPDF_ANNOT_POLYLINE, pdfium.FPDF_ANNOT_CARET, pdfium.FPDF_ANNOT_INK),
    *(pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_FILEATTACHMENT, pdfium.FPDF_ANNOT_REDACT),
)
# Those whose appearance may have text. Of a comment it is an icon.
_APPEARANCES = (
    *(pdfium.FPDF_ANNOT_STAMP, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_WATERMARK),
    *(pdfium.FPDF_ANNOT_LINE, pdfium.FPDF_ANNOT_POLYGON, pdfium.FPDF_ANNOT_POLYLINE, pdfium.FPDF_ANNOT_REDACT),
)
_CHECKED = {True: "[x]", False: "[ ]"}
_TAGS = re.compile(r"<[^<>]{0,1000}>")
_SCHEME = re.compile(r"(?i)(?:https?://|mailto:|ftp://|tel:)(?=\S)")

Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(slots=True)
class Annotated:
    """What the annotations of a page say. ``inline``: text to put into that of the page, at these places; ``under``: at
    the ends of the lines that these places are in."""

    inline: list[tuple[int, str]] = field(default_factory=list)
    under: list[tuple[int, str]] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    files: list["File"] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add_to(self, text: str) -> str:
        """The text of the page, as PDFium counts it, with what its annotations say."""
        ends = [(end if (end := text.find("\r", place)) >= 0 else len(text), said) for place, said in self.under]
        pieces, start = [], 0
        for place, said in sorted([*map(partial(_at_word, text), self.inline), *ends], key=lambda one: one[0]):
            place = min(place, len(text))
            pieces += [text[start:place], said]
            start = place
        return self._add_rest("".join((*pieces, text[start:])))

    def add_below(self, text: str) -> str:
        """Another text of the page, with what its annotations say below it."""
        return self._add_rest("\n".join((text, *(said.strip() for _, said in (*self.inline, *self.under)))))

    def _add_rest(self, text: str) -> str:
        shown = "".join(text.split()).casefold()
        links = [link for link in dict.fromkeys(self.links) if _bare(link) not in shown]
        return "\n".join(filter(None, (text.rstrip() if self.below or links else text, *self.below, *links)))


@dataclass(frozen=True, slots=True)
class File:
    """A file inside the document."""

    name: str
    data: bytes


@dataclass(slots=True)
class _Annotation:
    kind: int
    box: Box
    text: str  # what it is known to say
    comment: str = ""
    field: int = -1  # the type of a form field
    appearance: str = ""


class Forms:
    """The form of a document, which must be opened before its pages and closed after them."""

    def __init__(self, document: PdfDocument) -> None:
        self.kind: int = pdfium.FPDF_GetFormType(document)
        self._config = pdfium.FPDF_FORMFILLINFO(version=2)
        self.handle = None
        if self.kind != pdfium.FORMTYPE_NONE:
            self.handle = pdfium.FPDFDOC_InitFormFillEnvironment(document, self._config)

    def close(self) -> None:
        if self.handle:
            pdfium.FPDFDOC_ExitFormFillEnvironment(self.handle)


def read(document: PdfDocument, number: int, page: PdfPage, words: PdfTextPage, forms: Forms) -> Annotated | None:
    """What the annotations of this page say, or None if it has none. Afterwards the page may show them as its content,
    so it must be loaded again."""
    count = pdfium.FPDFPage_GetAnnotCount(page)
    if count <= 0:
        return None
    said = Annotated()
    found = [
        one
        for place in range(min(count, MAX_ANNOTATIONS))
        if (one := _read_one(document, page, place, words, forms, said))
    ]
    if count > MAX_ANNOTATIONS:
        said.left_out.append(LeftOut("rest", (f"page {number + 1}",), note=f"annotations after {MAX_ANNOTATIONS:,}"))
    shown = [one for one in found if one.kind in _APPEARANCES]
    if shown:
        _read_appearances(document, number, page, shown)
        for one in shown:  # some programs write it on the page as well
            if one.appearance and _compact(one.appearance) in _compact(words.get_text_bounded(*one.box)):
                one.appearance = ""
    content = None
    for one in found:
        if one.kind == pdfium.FPDF_ANNOT_WIDGET:
            _place(_value(one), one, words, said)
        elif one.kind == pdfium.FPDF_ANNOT_FREETEXT:
            said.below.append(one.text or one.appearance)
        elif one.appearance:
            said.below.append(one.appearance)
        if one.comment and one.comment != one.appearance:
            if one.kind in _MARKS:  # some programs repeat in it what is marked
                content = content or _compact(words.get_text_range())
                if _compact(one.text) in content:
                    continue
            said.below.append(one.comment)
    return said


def _read_one(
    document: PdfDocument, page: PdfPage, place: int, words: PdfTextPage, forms: Forms, said: Annotated
) -> _Annotation | None:
    annotation = pdfium.FPDFPage_GetAnnot(page, place)
    if not annotation:
        return None
    try:
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN or kind == pdfium.FPDF_ANNOT_POPUP:
            return None
        link = _link(document, annotation) if kind == pdfium.FPDF_ANNOT_LINK else ""
        if kind == pdfium.FPDF_ANNOT_LINK and not link:
            return None
        rect = pdfium.FS_RECTF()
        pdfium.FPDFAnnot_GetRect(annotation, rect)
        box = (*sorted((rect.left, rect.right)), *sorted((rect.bottom, rect.top)))
        box = box[0], box[2], box[1], box[3]
        if kind == pdfium.FPDF_ANNOT_LINK:  # one with words is read by them, as on a web page
            if not _has_words(words, box):
                said.links.append(link)
            return None
        one = _Annotation(kind, box, "")
        if kind == pdfium.FPDF_ANNOT_WIDGET:
            if one.box[0] == one.box[2] or one.box[1] == one.box[3]:
                return None  # not shown
            return _field(annotation, one, forms)
        one.text = _contents(annotation)
        if kind in _COMMENTS and one.text:
            author = " ".join(_string(annotation, b"T").split())
            one.comment = f"[Comment by {author}: {one.text}]" if author else f"[Comment: {one.text}]"
        if kind == pdfium.FPDF_ANNOT_FILEATTACHMENT and (handle := pdfium.FPDFAnnot_GetFileAttachment(annotation)):
            file = read_file(handle)
            if isinstance(file, LeftOut):
                said.left_out.append(file)
            else:
                said.files.append(file)
        return one
    finally:
        pdfium.FPDFPage_CloseAnnot(annotation)


def _field(annotation: "pdfium.FPDF_ANNOTATION", one: _Annotation, forms: Forms) -> _Annotation | None:
    """What a form field says by itself; a button and a signature only have their appearance."""
    handle = forms.handle
    if not handle or (kind := pdfium.FPDFAnnot_GetFormFieldType(handle, annotation)) < 0:
        one.text = _string(annotation, b"V")
        return one
    one.field = kind
    if kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
        one.text = _CHECKED[(_string(annotation, b"AS") or _field_value(handle, annotation)) not in ("", "Off")]
    elif kind in (pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX):
        count = min(pdfium.FPDFAnnot_GetOptionCount(handle, annotation), MAX_OPTIONS)
        chosen = [n for n in range(count) if pdfium.FPDFAnnot_IsOptionSelected(handle, annotation, n)]
        if kind == pdfium.FPDF_FORMFIELD_LISTBOX and not chosen:  # it shows them all
            chosen = list(range(count))
        labels = [
            _wide(lambda buffer, size, n=n: pdfium.FPDFAnnot_GetOptionLabel(handle, annotation, n, buffer, size))
            for n in chosen
        ]
        one.text = ", ".join(filter(None, labels)) or _field_value(handle, annotation)
    elif kind == pdfium.FPDF_FORMFIELD_TEXTFIELD:
        if pdfium.FPDFAnnot_GetFormFieldFlags(handle, annotation) & pdfium.FPDF_FORMFLAG_TEXT_PASSWORD:
            return None
        one.text = _field_value(handle, annotation)
    return one


def _field_value(handle: "pdfium.FPDF_FORMHANDLE", annotation: "pdfium.FPDF_ANNOTATION") -> str:
    return _wide(lambda buffer, size: pdfium.FPDFAnnot_GetFormFieldValue(handle, annotation, buffer, size))


def _value(one: _Annotation) -> str:
    """What a form field shows, and its raw value in parentheses if that is written in another way."""
    if one.text in _CHECKED.values() or _compact(one.appearance) in _compact(one.text):
        return one.text
    if not one.text or one.field in (pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX):
        return one.text or one.appearance
    if _compact(one.text) in _compact(one.appearance):
        return one.appearance
    return f"{one.appearance} ({one.text})"


def _place(value: str, one: _Annotation, words: PdfTextPage, said: Annotated) -> None:
    """Put the value of a field behind its caption, and the state of a box before it."""
    if not value:
        return
    left, bottom, right, top = one.box
    middle = (bottom + top) / 2
    height = max(CAPTION_HEIGHT, top - bottom)
    above = (left + 4, top + CAPTION_HEIGHT / 2, 2 * CAPTION_HEIGHT, 2 * CAPTION_HEIGHT)
    if value in _CHECKED.values():
        index = pdfium.FPDFText_GetCharIndexAtPos(words, right + 1, middle, CAPTION_WIDTH / 4, height)
        if index >= 0 and _char_left(words, index) >= left:
            place = pdfium.FPDFText_GetTextIndexFromCharIndex(words, index)
            said.inline.append((max(0, place), f"{value} "))
            return
    index = pdfium.FPDFText_GetCharIndexAtPos(words, left, middle, CAPTION_WIDTH, height)
    if index >= 0 and _char_left(words, index) < right:
        said.inline.append((pdfium.FPDFText_GetTextIndexFromCharIndex(words, index) + 1, f" {value} "))
        return
    index = pdfium.FPDFText_GetCharIndexAtPos(words, *above)
    if index >= 0:
        said.under.append((pdfium.FPDFText_GetTextIndexFromCharIndex(words, index) + 1, f" {value} "))
        return
    if value != _CHECKED[False]:
        said.below.append(value)


def _at_word(text: str, inline: tuple[int, str]) -> tuple[int, str]:
    """The same, not within a word: the state of a box before it, a value behind it."""
    place, said = inline
    if said.strip() in _CHECKED.values() and not said.startswith(" "):
        while 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum():
            place -= 1
    else:
        while place > 0 and text[place - 1] in "\r\n":  # PDFium puts them at the end of the line
            place -= 1
        while 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum():
            place += 1
    return place, said


def _char_left(words: PdfTextPage, index: int) -> float:
    box = [ctypes.c_double() for _ in range(4)]
    pdfium.FPDFText_GetCharBox(words, index, *box)
    return box[0].value


def _read_appearances(document: PdfDocument, number: int, page: PdfPage, shown: list[_Annotation]) -> None:
    """Read what these annotations show: make their appearances content of the page, and take away what was there."""
    before = pdfium.FPDFPage_CountObjects(page)
    if before > MAX_REMOVED or pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) != pdfium.FLATTEN_SUCCESS:
        return
    flat = document[number]
    try:
        for place in range(min(before, pdfium.FPDFPage_CountObjects(flat)) - 1, -1, -1):
            thing = pdfium.FPDFPage_GetObject(flat, place)
            if pdfium.FPDFPage_RemoveObject(flat, thing):
                pdfium.FPDFPageObj_Destroy(thing)
        words = flat.get_textpage()
        try:
            for one in shown:
                one.appearance = _tidy(words.get_text_bounded(*one.box))
        finally:
            words.close()
    finally:
        flat.close()


def read_file(handle: "pdfium.FPDF_ATTACHMENT") -> File | LeftOut:
    """A file that the document holds, or that it cannot be read."""
    name = _wide(lambda buffer, size: pdfium.FPDFAttachment_GetName(handle, buffer, size)) or "unnamed"
    size = ctypes.c_ulong()
    if not pdfium.FPDFAttachment_GetFile(handle, None, 0, size):
        return LeftOut("attachment", (name,))
    if size.value > MAX_FILE_BYTES:
        return LeftOut("too_large", (name,))
    buffer = ctypes.create_string_buffer(size.value)
    pdfium.FPDFAttachment_GetFile(handle, buffer, size.value, size)
    return File(name, buffer.raw)


def _link(document: PdfDocument, annotation: "pdfium.FPDF_ANNOTATION") -> str:
    """The address of a link that leads out of the document, or ""."""
    link = pdfium.FPDFAnnot_GetLink(annotation)
    action = pdfium.FPDFLink_GetAction(link) if link else None
    if not action or pdfium.FPDFAction_GetType(action) != pdfium.PDFACTION_URI:
        return ""
    size = pdfium.FPDFAction_GetURIPath(document, action, None, 0)
    if not 0 < size <= MAX_VALUE_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDFAction_GetURIPath(document, action, buffer, size)
    address = "".join(buffer.value.decode("utf-8", "replace").split())
    return address if _SCHEME.match(address) else ""


def _has_words(words: PdfTextPage, box: Box) -> bool:
    left, bottom, right, top = box
    place = (left + right) / 2, (bottom + top) / 2, (right - left) / 2, (top - bottom) / 2
    return bool(pdfium.FPDFText_GetCharIndexAtPos(words.raw, *place) >= 0)


def _bare(link: str) -> str:
    """A link as people write it."""
    return _SCHEME.sub("", link, count=1).rstrip("/").casefold()


def _contents(annotation: "pdfium.FPDF_ANNOTATION") -> str:
    return _string(annotation, b"Contents") or _tidy(_TAGS.sub(" ", _string(annotation, b"RC")))


def _string(annotation: "pdfium.FPDF_ANNOTATION", key: bytes) -> str:
    return _wide(lambda buffer, size: pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, size))


def _wide(call: Callable[..., int]) -> str:
    """The text that a function of PDFium writes into a buffer, whose size it returns."""
    size = call(None, 0)
    if not 2 < size <= MAX_VALUE_BYTES:
        return ""
    buffer = (pdfium.FPDF_WCHAR * ((size + 1) // 2))()
    call(buffer, size)
    return _tidy(bytes(buffer).decode("utf-16-le", "replace").rstrip("\0"))


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()) for line in re.split(r"[\r\n\u2028\u2029]+", text))
    return "\n".join(filter(None, lines))


def _compact(text: str) -> str:
    return "".join(text.split())
