"""XML without its dangers: streamed or as a small tree, no document type, no entities of its own, nothing fetched."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import IO
from xml.parsers import expat

from .parts import Unparseable

PIECE_BYTES = 65_536  # that ``parse_in_pieces`` parses at once
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
    """A parse whose handlers may pass over an element: then they are told nothing of what is in it, which takes half
    the time. Reads the file piece by piece, so that what was found in each piece can be taken."""

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        characters: Callable[[str], None] | None = None,
    ) -> None:
        self._parser = _make_parser(start, end, characters)
        self._start, self._end = start, end
        self._passed = ""
        self._noted: Mapping[str, Callable[[], None]] = {}

    def pass_over(self, name: str, noted: Mapping[str, Callable[[], None]] = MappingProxyType({})) -> None:
        """Pass over the element that was just started. ``noted``: what to call at the ends of elements in it. It may
        hold no element of its own name."""
        self._passed, self._noted = name, noted
        self._parser.StartElementHandler = None
        self._parser.EndElementHandler = self._leave

    def pieces(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield each piece before it is parsed, and ``b""`` at the end."""
        with file:
            while True:
                data = file.read(PIECE_BYTES)
                yield data
                try:
                    self._parser.Parse(data, not data)
                except expat.ExpatError as error:
                    raise Unparseable(f"it is damaged: {error}") from None
                if not data:
                    return

    def read(self, file: IO[bytes]) -> None:
        for _ in self.pieces(file):
            pass

    def _leave(self, name: str) -> None:
        if name == self._passed:
            self._parser.StartElementHandler = self._start
            self._parser.EndElementHandler = self._end
        elif (note := self._noted.get(name)) is not None:
            note()


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


def local_name(name: str) -> str:
    return name.rpartition(" ")[2]


def _make_parser(
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None,
    characters: Callable[[str], None] | None,
) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
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
