"""XML without its dangers: streamed or as a small tree, no document type, no entities of its own, nothing fetched."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import IO, Any
from xml.parsers import expat

from .parts import Unparseable

PIECE_BYTES = 65_536  # that ``parse_in_pieces`` parses at once
MAX_DECLARATION_BYTES = 1_000  # of a namespace
MAX_NAMES = 10_000  # that are remembered
MAX_DEPTH = 200  # of the elements of a tree
MAX_NODES = 500_000  # elements of a tree, which take about 300 bytes each


def parse(
    file: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    characters: Callable[[str], None] | None = None,
) -> None:
    """Parse XML without building a tree. Element names have the form "namespace local". A document type that declares
    something itself is refused, because with one a small file can expand to a huge one."""
    parser = _make_parser(start, end, characters)
    with file:
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise Unparseable(f"it is damaged: {error}") from None


def parse_in_pieces(
    file: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    characters: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """The same piece by piece: yields after each, so that what was found in it can be taken, and memory stays small."""
    parser = _make_parser(start, end, characters)
    with file:
        while True:
            data = file.read(PIECE_BYTES)
            try:
                parser.Parse(data, not data)
            except expat.ExpatError as error:
                raise Unparseable(f"it is damaged: {error}") from None
            yield
            if not data:
                return


class Stream:
    """A parse of a large part, in about two thirds of the time of ``parse``.

    Element and attribute names have the form "prefix:local", with a prefix that ``prefixes`` has for their namespace,
    whatever the part calls it; those of other namespaces are unspecified. Handlers may pass over elements.
    """

    def __init__(
        self,
        prefixes: Mapping[str, tuple[str, ...]],
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        characters: Callable[[str], None] | None = None,
        take: Callable[[bytes], Iterable[bytes]] | None = None,
    ) -> None:
        """``take``: takes what it can from a piece, and returns the rest of it, which is parsed. It is asked only for
        parts in UTF-8 that have the usual prefixes, and nothing but tags and text; its pieces end with a tag."""
        self._prefixes = prefixes
        self._take = take
        self._start, self._end, self._characters = start, end, characters
        self._parser: expat.XMLParserType | None = None
        self._rename: Callable[[str], str] = str
        self.is_passing = False  # whether the parser is in an element that is passed over
        self._passed = ""
        self._noted: Mapping[str, Callable[[], None]] = {}

    def pass_over(self, name: str, noted: Mapping[str, Callable[[], None]] = MappingProxyType({})) -> None:
        """Tell nothing of what is in the element that was just started. It may hold no element of its own name.
        ``noted``: what to call at the ends of elements in it."""
        if self._parser is not None:
            self.is_passing, self._passed, self._noted = True, name, noted
            self._parser.StartElementHandler = None
            self._parser.EndElementHandler = self._leave

    def pieces(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield each piece before it is parsed, the last after the end of the file."""
        with file:
            parser, is_plain = self._make_parser(file)
            take, left, is_last = self._take if is_plain else None, b"", False
            while not is_last:
                data = file.read(PIECE_BYTES)
                is_last = not data
                if take is not None:
                    data = left + data
                    end = len(data) if is_last else data.rfind(b">") + 1
                    data, left = data[:end], data[end:]
                    if not end:  # a very long text or tag: what follows may begin within it
                        data, left, take = left, b"", None
                yield data
                try:
                    for rest in (data,) if take is None else take(data):
                        parser.Parse(rest, False)
                    if is_last:
                        parser.Parse(left, True)
                except expat.ExpatError as error:
                    raise Unparseable(f"it is damaged: {error}") from None

    def read(self, file: IO[bytes]) -> None:
        for _ in self.pieces(file):
            pass

    def _make_parser(self, file: IO[bytes]) -> tuple[expat.XMLParserType, bool]:
        """A parser that knows no namespaces if the prefixes are the usual ones, as this is faster; and whether they
        are, and all is tags and text."""
        is_usual, is_plain = _has_usual_prefixes(file, self._prefixes)
        file.seek(0)
        if not is_usual:
            self._translate()
        parser = _make_parser(self._start, self._end, self._characters, separator=None if is_usual else " ")
        self._parser = parser
        return parser, is_usual and is_plain

    def _translate(self) -> None:
        """Have the handlers get names with our prefixes."""
        start, end = self._start, self._end
        known: dict[str, str] = {}

        def rename(name: str) -> str:
            if (short := known.get(name)) is None:
                space, _, local = name.rpartition(" ")
                short = f"{self._prefixes[space][0]}:{local}" if space in self._prefixes else name
                if len(known) < MAX_NAMES:
                    known[name] = short
            return short

        def start_renamed(name: str, attributes: dict[str, str]) -> None:
            start(rename(name), {rename(key): value for key, value in attributes.items()})

        def end_renamed(name: str) -> None:
            if end is not None:
                end(rename(name))

        self._start, self._end, self._rename = start_renamed, end_renamed, rename

    def _leave(self, name: str) -> None:
        name = self._rename(name)
        if name == self._passed and self._parser is not None:
            self.is_passing = False
            self._parser.StartElementHandler = self._start
            self._parser.EndElementHandler = self._end
        elif (note := self._noted.get(name)) is not None:
            note()


def _has_usual_prefixes(file: IO[bytes], prefixes: Mapping[str, tuple[str, ...]]) -> tuple[bool, bool]:
    """Whether every declaration of a namespace in the file has a prefix of ``prefixes``, and whether there is nothing
    but tags and text."""
    reserved = {prefix for usual in prefixes.values() for prefix in usual}
    tail, is_plain, is_first = b"", True, True
    while data := file.read(PIECE_BYTES):
        if b"\0" in data:  # UTF-16
            return False, False
        if is_first and (said := _ENCODING.match(data)) is not None:
            is_plain = said[1].lower() == b"utf-8"
        data = tail + data
        is_plain = is_plain and b"<!" not in data and data.find(b"<?", 1 if is_first else 0) < 0
        is_first = False
        tail = data[-MAX_DECLARATION_BYTES:]
        for prefix, space in _DECLARATION.findall(data) if b"xmlns" in data else ():
            prefix, space = prefix.decode("utf-8", "replace"), space[1:-1].decode("utf-8", "replace")
            usual = prefixes.get(space)
            if "&" in space or (prefix in reserved if usual is None else prefix not in usual):
                return False, False
    return True, is_plain


_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*["']([\w.-]*)""")
_DECLARATION = re.compile(rb"""xmlns(?::([^\s=]+))?\s*=\s*("[^"<]*"|'[^'<]*')""")


class Node:
    """An element. ``name`` has the form "namespace local"; ``children`` are elements and texts in order."""

    __slots__ = ("attributes", "children", "local", "name")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.local = local_name(name)
        self.attributes = attributes
        self.children: list[Node | str] = []

    def __iter__(self) -> "Iterator[Node]":
        """The child elements."""
        return (child for child in self.children if isinstance(child, Node))

    def child(self, local: str) -> "Node | None":
        """The first child element of that local name."""
        return next((child for child in self if child.local == local), None)

    def walk(self) -> "Iterator[Node]":
        """This element and all below it, in document order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend([child for child in node.children if isinstance(child, Node)][::-1])

    def text(self) -> str:
        """The text directly in it."""
        return "".join(child for child in self.children if isinstance(child, str))

    def attribute(self, local: str) -> str | None:
        """The attribute of that local name, whatever its namespace."""
        if (value := self.attributes.get(local)) is not None:
            return value
        return next((value for name, value in self.attributes.items() if local_name(name) == local), None)


def tree(file: IO[bytes]) -> Node:
    """The root element of a small file. One that is nested deeper than ``MAX_DEPTH`` or has more than ``MAX_NODES``
    elements is refused."""
    top = Node("", {})
    open_nodes = [top]
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_NODES or len(open_nodes) > MAX_DEPTH:
            raise Unparseable("it has too many elements" if count > MAX_NODES else "its elements are nested too deeply")
        node = Node(name, attributes)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_: str) -> None:
        open_nodes.pop()

    def characters(text: str) -> None:
        open_nodes[-1].children.append(text)

    parse(file, start, end, characters)
    return next(iter(top))


def undeclared(file: IO[bytes]) -> IO[bytes]:
    """The file without what its document type declares, if it declares anything: an entity of its own is then an
    error where it stands, and what comes before it is read."""
    head = file.read(PIECE_BYTES)
    if (found := _DECLARES.search(head)) is None:
        file.seek(0)
        return file
    return io.BufferedReader(_Rest(head[: found.start()] + head[found.end() :], file))


_DECLARES = re.compile(
    rb"""<!DOCTYPE[^\[<>]*\[(?>"[^"]*"|'[^']*'|<!--(?>[^-]|-(?!->))*+-->|<\?(?>[^?]|\?(?!>))*+\?>|[^\]"'])*+\]\s*>"""
)


class _Rest(io.RawIOBase):
    """Some bytes, and after them the rest of a file."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def local_name(name: str) -> str:
    return name.rpartition(" ")[2]


def _make_parser(
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None,
    characters: Callable[[str], None] | None,
    separator: str | None = " ",
) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=separator)
    parser.buffer_text = True

    def refuse(name: str, system: str | None, public: str | None, declares: bool) -> None:
        if declares:
            raise Unparseable("it declares a document type, which no office document does")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    if end is not None:
        parser.EndElementHandler = end
    if characters is not None:
        parser.CharacterDataHandler = characters
    return parser
