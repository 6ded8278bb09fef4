"""What the words of RTF do that give no group its meaning: ends of paragraphs and cells, properties, fonts."""

from collections.abc import Mapping
from functools import partial

from . import fonts
from .flow import Flow
from .rtf_reader import Action, Fonts, Reader, Styles

# Paragraphs and tables


def _end_paragraph(reader: Reader, number: int | None) -> None:
    state = reader.state
    if isinstance(state.sink, Flow) and not state.is_deleted:
        reader.flush()
        heading = state.heading or reader.styles.levels.get(state.style, 0)
        state.sink.end_paragraph(state.level, heading=heading, indent=state.indent)


def _end_section(reader: Reader, number: int | None) -> None:
    if isinstance(reader.state.sink, Flow):
        reader.flush()
        reader.state.sink.end_paragraph(reader.state.level)


def _end_cell(reader: Reader, number: int | None, *, nested: bool = False) -> None:
    if isinstance(reader.state.sink, Flow):
        reader.flush()
        reader.state.sink.end_cell(max(2, reader.state.level) if nested else 1)


def _end_row(reader: Reader, number: int | None, *, nested: bool = False) -> None:
    if isinstance(reader.state.sink, Flow):
        reader.flush()
        reader.state.sink.end_row(max(2, reader.state.level) if nested else 1)


def _reset_paragraph(reader: Reader, number: int | None) -> None:
    state = reader.state
    state.level = state.heading = state.indent = state.style = 0


def _set_table_level(reader: Reader, number: int | None) -> None:
    reader.state.level = max(0, number or 0)


def _set_in_table(reader: Reader, number: int | None) -> None:
    reader.state.level = 0 if number == 0 else max(1, reader.state.level)


def _set_outline_level(reader: Reader, number: int | None) -> None:
    level = (number or 0) + 1
    if isinstance(reader.state.sink, Styles):
        if 1 <= level <= 9:
            reader.state.sink.set_level(level)
    else:
        reader.state.heading = level if 1 <= level <= 9 else 0


def _set_indent(reader: Reader, number: int | None) -> None:
    reader.state.indent = max(0, number or 0)


def _set_style(reader: Reader, number: int | None) -> None:
    if isinstance(reader.state.sink, Styles):
        reader.state.sink.open(number or 0)
    else:
        reader.state.style = number or 0


def _set_other_style(reader: Reader, number: int | None) -> None:
    if isinstance(reader.state.sink, Styles):
        reader.state.sink.open(None)


# Characters


def _reset_characters(reader: Reader, number: int | None) -> None:
    state = reader.state
    reader.set_hidden(False)
    state.is_deleted, state.encoding, state.font = False, None, ""


def _set_deleted(reader: Reader, number: int | None) -> None:
    reader.state.is_deleted = number != 0


def _set_hidden(reader: Reader, number: int | None) -> None:
    reader.set_hidden(number != 0)


def _set_skips(reader: Reader, number: int | None) -> None:
    reader.state.skips = max(0, number or 0)


def _set_font(reader: Reader, number: int | None) -> None:
    if isinstance(reader.state.sink, Fonts):
        reader.flush()
        reader.state.sink.open(number or 0)
    else:
        _use_font(reader, number or 0)


def _use_font(reader: Reader, number: int) -> None:
    state = reader.state
    state.encoding = reader.fonts.encodings.get(number) or reader.encoding
    state.font = reader.fonts.names.get(number, "") if state.encoding == fonts.SYMBOLS else ""


def _set_default_font(reader: Reader, number: int | None) -> None:
    reader.default_font = number or 0


def _set_charset(reader: Reader, number: int | None) -> None:
    encoding = fonts.CHARSETS.get(number or 0)
    if isinstance(reader.state.sink, Fonts):
        reader.state.sink.set_encoding(encoding)


def _set_code_page(reader: Reader, number: int | None) -> None:
    if isinstance(reader.state.sink, Fonts) and number:
        reader.state.sink.set_encoding(fonts.encoding_of(number))


def _set_run_charset(reader: Reader, number: int | None) -> None:
    if (encoding := fonts.CHARSETS.get(number or 0)) and encoding != fonts.SYMBOLS:
        reader.state.encoding = encoding


def _set_endnote(reader: Reader, number: int | None) -> None:
    if reader.state.note is not None:
        reader.state.note.is_endnote = True


def _choose(reader: Reader, number: int | None) -> None:
    if reader.state.field is not None:
        reader.state.field.chosen = number or 0


def _preset(reader: Reader, number: int | None) -> None:
    if reader.state.field is not None:
        reader.state.field.preset = number or 0


FONTS: Mapping[bytes, Action] = {
    b"uc": _set_skips,
    b"f": _set_font,
    b"deff": _set_default_font,
    b"fcharset": _set_charset,
} | {b"cpg": _set_code_page, b"cchs": _set_run_charset}
_PARAGRAPHS: dict[bytes, Action] = {b"par": _end_paragraph, b"sect": _end_section, b"cell": _end_cell, b"row": _end_row}
_WORDS: dict[bytes, Action] = (
    _PARAGRAPHS
    | {b"nestcell": partial(_end_cell, nested=True), b"nestrow": partial(_end_row, nested=True)}
    | {b"pard": _reset_paragraph, b"intbl": _set_in_table, b"itap": _set_table_level, b"ilvl": _set_indent}
    | {b"outlinelevel": _set_outline_level, b"s": _set_style}
    | dict.fromkeys((b"cs", b"ds", b"ts"), _set_other_style)
    | {b"plain": _reset_characters, b"deleted": _set_deleted, b"mvf": _set_deleted}
    | {b"v": _set_hidden}
    | {b"ftnalt": _set_endnote, b"ffres": _choose, b"ffdefres": _preset}
)
WORDS: Mapping[bytes, Action] = {**FONTS, **_WORDS}
