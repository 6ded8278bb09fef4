"""Reads the groups of RTF: what holds in them, and where their text goes. What the words do is told by ``rtf``."""

import re
from collections.abc import Callable, Mapping

from . import fields, fonts
from .flow import Flow, tidy
from .parts import LeftOut, Part
from .rtf_tokens import (
    BRACE,
    CHARACTERS,
    HEX,
    LINE_ENDS,
    SYMBOL,
    SYMBOLS,
    TEXT,
    Tokens,
    default_encoding,
    has_utf8,
    unicode_of,
)

MAX_GROUPS = 1_000  # that are open at once; the braces of deeper ones are passed over
MAX_NESTING = 20  # of what is put together when its group ends; what is deeper is text like that around it
MAX_STYLES = 10_000
MAX_INSTRUCTION = 1_000  # pieces of the instruction of a field


class Capture:
    """Takes text that is not shown where it stands."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def text(self) -> str:
        return tidy("".join(self.pieces))


class Passed:
    """Takes text that means nothing, of a group in which others have a meaning. ``home``: the text around it."""

    def __init__(self, home: Flow | None) -> None:
        self.home = home

    def write(self, text: str) -> None:
        pass


class Fonts:
    """The table of fonts."""

    def __init__(self) -> None:
        self.current: int | None = None
        self.encodings: dict[int, str | None] = {}  # None: that of the document
        self.names: dict[int, str] = {}

    def open(self, number: int) -> None:
        if len(self.encodings) < MAX_STYLES:
            self.current = number
            self.encodings.setdefault(number, None)

    def set_encoding(self, encoding: str | None) -> None:
        if self.current is not None and encoding is not None:
            self.encodings[self.current] = encoding

    def write(self, text: str) -> None:
        if self.current is not None:
            self.names[self.current] = (self.names.get(self.current, "") + text.partition(";")[0])[:100]


class Styles:
    """The table of styles: which of them are headings."""

    def __init__(self) -> None:
        self.current: int | None = 0
        self.levels: dict[int, int] = {}
        self._name = ""

    def open(self, number: int | None) -> None:
        self.current, self._name = number, ""

    def set_level(self, level: int) -> None:
        if self.current is not None and len(self.levels) < MAX_STYLES:
            self.levels[self.current] = level

    def write(self, text: str) -> None:
        name, end, _ = text.partition(";")
        self._name = (self._name + name)[:100]
        if end:
            if (found := _HEADING.fullmatch(self._name.strip())) and self.current not in self.levels:
                self.set_level(int(found[1] or 1))
            self.open(0)


_HEADING = re.compile(r"(?:heading ?([1-9])|title)(?:,.*)?", re.I)


class Field:
    def __init__(self) -> None:
        self.instruction = Capture()
        self.choices: list[Capture] = []
        self.chosen = self.preset = 0

    def show(self) -> str:
        chosen = self.preset if self.chosen == _UNCHOSEN else self.chosen
        if self.choices:
            return self.choices[chosen].text() if chosen < len(self.choices) else ""
        return fields.show("".join(self.instruction.pieces[:MAX_INSTRUCTION]))


_UNCHOSEN = 25  # \ffres of a list from which nothing was chosen


class Object:
    """An embedded object: the bytes of it, in hexadecimal digits."""

    def __init__(self) -> None:
        self.name = Capture()
        self.digits: list[bytes] = []
        self.is_linked = False

    def write(self, text: str) -> None:
        self.digits.append(text.encode("ascii", "ignore"))

    def take(self, data: bytes) -> None:
        self.digits.append(data.hex().encode())


class Formula:
    """A structure of a formula: what to write before its first part, between its parts, and at its end."""

    def __init__(self, before: str, between: str, end: str, *, wraps: bool) -> None:
        self.before, self.between, self.end, self.wraps = before, between, end, wraps
        self.parts = 0


class Note:
    def __init__(self) -> None:
        self.is_endnote = False


Sink = Flow | Capture | Passed | Fonts | Styles | Object


class State:
    """What holds within a group. It is copied where a group opens."""

    __slots__ = (
        *("encoding", "field", "font", "formula", "heading", "indent", "is_deleted", "is_hidden", "level", "note"),
        *("nesting", "object", "sink", "skips", "style", "unicode"),
    )

    def __init__(self, sink: Sink) -> None:
        self.sink: Sink | None = sink  # None: nothing in the group means anything
        self.encoding: str | None = None  # None: that of the default font
        self.font = ""  # the name of a symbol font
        self.skips = 1  # characters that follow \u for programs that do not know it
        self.level = self.heading = self.indent = self.style = 0
        self.nesting = 0  # of notes in notes, fields in fields, formulas in formulas
        self.is_deleted = self.is_hidden = False
        self.field: Field | None = None
        self.formula: Formula | None = None
        self.object: Object | None = None
        self.note: Note | None = None
        self.unicode: State | None = None  # what held before text that stands there a second time in Unicode

    def copy(self) -> "State":
        made = State.__new__(State)
        for name in State.__slots__:
            setattr(made, name, getattr(self, name))
        return made

    @property
    def home(self) -> Flow | None:
        """The text that the group stands in."""
        sink = self.sink
        return sink if isinstance(sink, Flow) else sink.home if isinstance(sink, Passed) else None


End = Callable[[], None]
Action = Callable[["Reader", int | None], None]


class Reader:
    """``groups``: what the words do that give a group its meaning; ``words``: what the others do."""

    def __init__(self, data: bytes, groups: Mapping[bytes, Action], words: Mapping[bytes, Action]) -> None:
        self.tokens = Tokens(data)
        self._groups, self._words = groups, words
        self.others: list[Part] = []
        self.encoding = self.base_encoding = fonts.LATIN  # of the document, of its default font
        self.fonts, self.styles = Fonts(), Styles()
        self.default_font: int | None = None
        self.main = Flow()
        self.state = State(self.main)
        self.headers: dict[str, None] = {}
        self.footers: dict[str, None] = {}
        self.author, self.initials, self.property_name = Capture(), Capture(), Capture()
        self.notes = [0, 0]  # footnotes, endnotes
        self.images = 0
        self.is_cut = False  # a group that is open at the end, once all is read
        self.ends: list[End] = []  # what is done when the group ends
        self._held = bytearray()  # bytes of the same encoding
        self._held_for: tuple[Sink, str, str] | None = None
        self._is_utf8 = has_utf8(data)
        self._skip = self._too_deep = 0

    def text(self) -> str:
        texts = [*self.headers, self.main.finish(), *(one for one in self.footers if one not in self.headers)]
        return "\n\n".join(filter(None, texts))

    def run(self) -> None:
        groups: list[tuple[State, list[End]]] = []
        is_starred = False
        for token in self.tokens:
            kind = token.lastindex
            if kind == TEXT:
                if self.state.sink is not None:  # the bytes of a picture may be many: no copy of them
                    self._take_text(token[TEXT])
            elif kind == HEX:
                if self._skip:
                    self._skip -= 1
                else:
                    self._take_bytes(bytes.fromhex(token[HEX].decode()))
            elif kind == BRACE:
                self._skip, is_starred = 0, False
                if token[BRACE] == b"{":
                    if len(groups) >= MAX_GROUPS:
                        self._too_deep += 1
                        continue
                    groups.append((self.state, self.ends))
                    self.state, self.ends = self.state.copy(), []
                elif self._too_deep:
                    self._too_deep -= 1
                elif groups:
                    self.flush()
                    for end in reversed(self.ends):
                        end()
                    self.set_hidden(groups[-1][0].is_hidden)
                    self.state, self.ends = groups.pop()
                    if not groups:
                        break
            elif kind == SYMBOL:
                is_starred = self._take_symbol(token[SYMBOL])
            else:
                number = int(token[4]) if token[4] else None
                self._take_word(token[3], number, token.end(), is_starred=is_starred)
                is_starred = False
        self.flush()
        if groups:
            self.is_cut = True
        while groups:
            for end in reversed(self.ends):
                end()
            self.state, self.ends = groups.pop()
        if self.images:
            self.others.insert(0, LeftOut("image", count=self.images))

    def nest(self) -> bool:
        """Whether what begins here may be put together apart from the text around it."""
        self.state.nesting += 1
        return self.state.nesting <= MAX_NESTING

    def write(self, text: str) -> None:
        """Write characters that are no bytes of an encoding."""
        self.flush()
        if self.state.sink is not None and not self.state.is_deleted:
            self.state.sink.write(text)

    def set_hidden(self, is_hidden: bool) -> None:
        """Keep hidden text apart from the words beside it, which a page shows without it."""
        if is_hidden != self.state.is_hidden and isinstance(self.state.sink, Flow):
            self.write(" ")
        self.state.is_hidden = is_hidden

    def _take_text(self, data: bytes) -> None:
        if isinstance(self.state.sink, Object):
            self.state.sink.digits.append(data)
            return
        data = data.translate(None, LINE_ENDS)
        if self._skip and data:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if data and self._is_utf8 and not data.isascii():
            self.write(data.decode("utf-8", "replace"))
        elif data:
            self._take_bytes(data)

    def _take_bytes(self, data: bytes) -> None:
        state = self.state
        if state.sink is None or state.is_deleted:
            return
        held_for = (state.sink, state.encoding or self.base_encoding, state.font)
        if self._held and self._held_for != held_for:
            self.flush()
        self._held_for = held_for
        self._held += data

    def flush(self) -> None:
        if self._held and self._held_for is not None:
            sink, encoding, font = self._held_for
            sink.write(fonts.decode(bytes(self._held), encoding, font))
            self._held.clear()

    def _take_symbol(self, symbol: bytes) -> bool:
        """Returns whether the group may be passed over if its name is unknown."""
        if symbol == b"*":
            return True
        if self._skip and symbol in SYMBOLS:
            self._skip -= 1
        elif symbol in SYMBOLS:
            self.write(SYMBOLS[symbol])
        elif symbol in (b"\r", b"\n"):
            self._words[b"par"](self, None)
        return False

    def _take_word(self, word: bytes, number: int | None, end: int, *, is_starred: bool) -> None:
        state = self.state
        if word == b"bin":
            data = self.tokens.skip(end, number or 0)
            if isinstance(state.sink, Object):
                self.flush()
                state.sink.take(data)
        elif state.sink is None:
            if word == b"ud" and state.unicode is not None:
                self.state = state.unicode.copy()
        elif word == b"u":
            self._take_unicode(number or 0)
        elif (character := CHARACTERS.get(word)) is not None:
            if self._skip:
                self._skip -= 1
            else:
                self.write(character)
        elif (action := self._groups.get(word)) is not None:
            self.flush()
            if not self._too_deep:
                action(self, number)
        elif is_starred or _is_formula_property(word):
            state.sink = None
        elif (action := self._words.get(word)) is not None:
            action(self, number)
        elif (encoding := default_encoding(word, number)) is not None:
            self.encoding = self.base_encoding = encoding

    def _take_unicode(self, number: int) -> None:
        character = unicode_of(number)
        if fonts.is_private(ord(character)):
            character = fonts.sign(ord(character), self.state.font)
        self.write(character)
        self._skip = self.state.skips


def _is_formula_property(word: bytes) -> bool:
    return word.startswith(b"m") and word.endswith(b"Pr")
