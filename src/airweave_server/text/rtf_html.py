"""Pages of HTML in Rich Text Format, as Outlook stores them (MS-OXRTFEX)."""

from . import rtf_groups, rtf_words
from .rtf_reader import Action, Reader

HEAD_BYTES = 4_096  # within which RTF says that it was made of HTML


def has_html(rtf: bytes) -> bool:
    """Whether the RTF is a page of HTML, which ``to_html`` returns."""
    return b"\\fromhtml" in rtf[:HEAD_BYTES]


def to_html(rtf: bytes) -> str:
    """The page of HTML that the RTF was made of."""
    reader = Reader(rtf, _GROUPS, _WORDS)
    reader.run()
    return "".join(reader.main.inline)


def _write_line(reader: Reader, number: int | None) -> None:
    reader.write("\r\n")


def _hide(reader: Reader, number: int | None) -> None:
    """What follows is only for programs that know no HTML."""
    reader.flush()
    reader.state.is_deleted = number != 0


def _read_tag(reader: Reader, number: int | None) -> None:
    reader.state.is_deleted = False


_GROUPS: dict[bytes, Action] = {**rtf_groups.HEADER, b"htmltag": _read_tag, b"pict": rtf_groups.skip}
_WORDS: dict[bytes, Action] = {**rtf_words.FONTS, b"htmlrtf": _hide, b"par": _write_line}
