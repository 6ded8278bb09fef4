"""What the words of RTF do that give a group its meaning: notes, comments, boxes, fields, objects, formulas."""

from collections.abc import Mapping
from functools import partial

from . import fonts, ole
from .flow import Flow
from .rtf_reader import Action, Capture, Field, Formula, Note, Object, Passed, Reader

MAX_CHOICES = 1_000  # of a list in a form


def skip(reader: Reader, number: int | None) -> None:
    reader.state.sink = None


def _go_on(reader: Reader, number: int | None) -> None:
    """The text of the group belongs to the text around it."""


def _pass(reader: Reader, number: int | None) -> None:
    reader.state.sink = Passed(reader.state.home)


def _read_fonts(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.fonts

    def end() -> None:
        encoding = reader.fonts.encodings.get(reader.default_font or 0) or reader.encoding
        reader.base_encoding = reader.encoding if encoding == fonts.SYMBOLS else encoding

    reader.ends.append(end)


def _read_styles(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.styles


def _prefer_unicode(reader: Reader, number: int | None) -> None:
    reader.state.unicode = reader.state.copy()
    reader.state.sink = None


def _open_flow(reader: Reader) -> Flow:
    """A text of its own, such as that of a note."""
    flow = Flow()
    state = reader.state
    state.sink, state.is_deleted, state.note = flow, False, None
    state.level = state.heading = state.indent = state.style = 0
    return flow


def _read_note(reader: Reader, number: int | None) -> None:
    home = reader.state.home
    if home is None or reader.state.is_deleted:
        reader.state.sink = None
        return
    if not reader.nest():
        return
    place = len(home.inline)
    home.write("")
    flow = _open_flow(reader)
    note = reader.state.note = Note()

    def end() -> None:
        if text := flow.finish():
            reader.notes[note.is_endnote] += 1
            marker = f"[^{'e' if note.is_endnote else ''}{reader.notes[note.is_endnote]}]"
            home.inline[place] = marker
            home.add_after(f"{marker}: {text}")

    reader.ends.append(end)


def _read_author(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.author = Capture()


def _read_initials(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.initials = Capture()


def _read_comment(reader: Reader, number: int | None) -> None:
    home = reader.state.home
    if home is None:
        reader.state.sink = None
        return
    if not reader.nest():
        return
    flow = _open_flow(reader)
    author = reader.author.text() or reader.initials.text()
    reader.author, reader.initials = Capture(), Capture()

    def end() -> None:
        if text := flow.finish():
            home.add_after(f"[Comment by {author}: {text}]" if author else f"[Comment: {text}]")

    reader.ends.append(end)


def _read_header(reader: Reader, number: int | None, *, is_footer: bool = False) -> None:
    flow = _open_flow(reader)

    def end() -> None:
        (reader.footers if is_footer else reader.headers).setdefault(flow.finish())

    reader.ends.append(end)


def _read_box(reader: Reader, number: int | None) -> None:
    home = reader.state.home
    if home is None or reader.state.is_deleted:
        reader.state.sink = None
        return
    if not reader.nest():
        return
    flow = _open_flow(reader)
    reader.ends.append(lambda: home.add_after(flow.finish()))


def _read_label(reader: Reader, number: int | None) -> None:
    """The number or the bullet of a list item, as shown."""
    home = reader.state.home
    if home is None or reader.state.is_deleted:
        reader.state.sink = None
        return
    reader.state.sink = label = Capture()

    def end() -> None:
        home.prefix = label.text()

    reader.ends.append(end)


# Shapes: the properties are pairs of a name and a value


def _read_property_name(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.property_name = Capture()


def _read_property_value(reader: Reader, number: int | None) -> None:
    """Of the values only the text of WordArt is shown; but pictures stand among them."""
    home = reader.state.home
    if home is None:
        reader.state.sink = None
    elif reader.property_name.text() == "gtextUNICODE":
        value = reader.state.sink = Capture()
        reader.ends.append(lambda: home.add_after(value.text()))
    else:
        reader.state.sink = Passed(home)


def _count_picture(reader: Reader, number: int | None) -> None:
    if reader.state.object is None and isinstance(reader.state.sink, Flow | Passed) and not reader.state.is_deleted:
        reader.images += 1
    reader.state.sink = None


# Fields


def _open_field(reader: Reader, number: int | None) -> None:
    home = reader.state.home
    if home is None or not reader.nest():
        return
    field = reader.state.field = Field()
    place = len(home.inline)

    def end() -> None:
        shown = "" if reader.state.is_deleted else field.show()
        # an instruction that is shown has no result, or one that is a picture of it
        if shown and not "".join(home.inline[place:]).strip():
            home.write(shown)

    reader.ends.append(end)


def _read_instruction(reader: Reader, number: int | None) -> None:
    field = reader.state.field
    reader.state.sink = field.instruction if field is not None and reader.state.home is not None else None
    reader.state.is_deleted = False


def _read_choice(reader: Reader, number: int | None) -> None:
    reader.state.sink = None
    if (field := reader.state.field) is not None and len(field.choices) < MAX_CHOICES:
        reader.state.sink = Capture()
        field.choices.append(reader.state.sink)


# Objects


def _open_object(reader: Reader, number: int | None) -> None:
    found = reader.state.object = Object()
    reader.state.sink = Passed(reader.state.home)

    def end() -> None:
        if (part := ole.read_hex(b"".join(found.digits), found.name.text())) is not None:
            reader.others.append(part)

    if not reader.state.is_deleted:
        reader.ends.append(end)


def _read_object_data(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.state.object


def _read_object_class(reader: Reader, number: int | None) -> None:
    reader.state.sink = reader.state.object.name if reader.state.object is not None else None


def _read_result(reader: Reader, number: int | None) -> None:
    if (home := reader.state.home) is not None:
        reader.state.sink = home


# Formulas, as linear text


def _open_formula(
    reader: Reader, number: int | None, *, before: str = "", between: str = "", end: str = "", wraps: bool = True
) -> None:
    made = reader.state.formula = Formula(before, between, end, wraps=wraps)
    reader.ends.append(lambda: reader.write(made.end))


def _open_part(reader: Reader, number: int | None, *, sign: str = "") -> None:
    """A part of a structure, after ``sign``; in parentheses if it is longer than a character."""
    home, formula = reader.state.home, reader.state.formula
    if home is None or not reader.nest():
        return
    if formula is not None:
        home.write(formula.before if formula.parts == 0 else formula.between)
        formula.parts += 1
    wraps = formula is None or formula.wraps
    place = len(home.inline)
    reader.state.formula = None

    def end() -> None:
        text = "".join(home.inline[place:]).strip()
        del home.inline[place:]
        if text:
            home.write(f"{sign}({text})" if wraps and len(text) > 1 else f"{sign}{text}")

    reader.ends.append(end)


def _read_sign(reader: Reader, number: int | None, *, is_end: bool = False) -> None:
    formula = reader.state.formula
    sign = reader.state.sink = Capture()

    def end() -> None:
        if formula is not None and is_end:
            formula.end = sign.text()
        elif formula is not None:
            formula.before = sign.text()

    reader.ends.append(end)


_SKIPPED = """
    aftncn aftnsep aftnsepc annotationref atndate atnicn atnparent atnref atntime atrfend atrfstart background blipuid
    bkmkend bkmkstart category colorschememapping colortbl comment company creatim datafield datastore docvar falt
    ffdeftext ffentrymcr ffexitmcr ffformat ffhelptext ffname ffstattext filetbl fname fontemb fontfile formatting
    ftncn ftnsep ftnsepc generator hlinkbase info keywords latentstyles listname listoverridetable listpicture
    listtable mmathPict mmathPr nextfile nonesttables nonshppict objalias objname objsect objtime oleclsid panose
    passwordhash pgdsctbl pgptbl picprop pn pnseclvl pntxta pntxtb printim private protusertbl revtbl revtim rsidtbl
    rxe shprslt tc template themedata txe userprops wgrffmtfilter xe xmlnstbl
"""
_HEADER_WORDS: dict[bytes, Action] = {b"fonttbl": _read_fonts, b"upr": _prefer_unicode}
HEADER = {word.encode(): skip for word in _SKIPPED.split()} | _HEADER_WORDS
_PART_SIGNS = {b"mnum": "", b"mden": "", b"mdeg": "", b"me": "", b"msup": "^", b"msub": "_", b"mlim": "_"}
GROUPS: Mapping[bytes, Action] = (
    HEADER
    | {b"stylesheet": _read_styles, b"footnote": _read_note, b"annotation": _read_comment}
    | {b"atnauthor": _read_author, b"atnid": _read_initials}
    | dict.fromkeys((b"header", b"headerl", b"headerr", b"headerf"), _read_header)
    | dict.fromkeys((b"footer", b"footerl", b"footerr", b"footerf"), partial(_read_header, is_footer=True))
    | dict.fromkeys((b"listtext", b"pntext"), _read_label)
    | dict.fromkeys((b"shp", b"shpgrp", b"shpinst", b"do", b"formfield", b"mnaryPr", b"mdPr"), _pass)
    | dict.fromkeys((b"shppict", b"fldrslt", b"nesttableprops", b"mmath", b"moMath", b"moMathPara"), _go_on)
    | {b"shptxt": _read_box, b"dptxbxtext": _read_box, b"pict": _count_picture}
    | {b"sn": _read_property_name, b"sv": _read_property_value}
    | {b"field": _open_field, b"fldinst": _read_instruction, b"ffl": _read_choice}
    | {b"object": _open_object, b"objdata": _read_object_data, b"objclass": _read_object_class}
    | {b"result": _read_result}
    | {b"mchr": _read_sign, b"mbegChr": _read_sign, b"mendChr": partial(_read_sign, is_end=True), b"msepChr": skip}
    | {b"mnary": partial(_open_formula, before="∫"), b"mrad": partial(_open_formula, before="√")}
    | {b"md": partial(_open_formula, before="(", between=", ", end=")", wraps=False)}
    | {b"mf": partial(_open_formula, between="/"), b"mm": partial(_open_formula, between="; ", wraps=False)}
    | {b"mmr": partial(_open_formula, between=", ", wraps=False)}
    | {word: partial(_open_part, sign=sign) for word, sign in _PART_SIGNS.items()}
)
