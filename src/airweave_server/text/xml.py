"""XML without its dangers: streamed, no document type, no entities of its own, nothing fetched."""

from collections.abc import Callable
from typing import IO
from xml.parsers import expat

from .parts import Unparseable


def parse(
    file: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    characters: Callable[[str], None] | None = None,
) -> None:
    """Parse XML without building a tree. Element names have the form "namespace local". A document type is refused,
    because with one a small file can expand to a huge one."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise Unparseable("it declares a document type, which no office document does")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    if end is not None:
        parser.EndElementHandler = end
    if characters is not None:
        parser.CharacterDataHandler = characters
    with file:
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise Unparseable(f"it is damaged: {error}") from None


def local_name(name: str) -> str:
    return name.rpartition(" ")[2]
