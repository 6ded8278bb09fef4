"""A safe parser for untrusted XML.

It refuses document types and entities, which can expand a small file to gigabytes or fetch other files, and it limits
size, depth and number of elements.
"""

from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from .errors import Unavailable, Unreadable

MAX_BYTES = 50_000_000
MAX_DEPTH = 200
MAX_ELEMENTS = 1_000_000  # including attributes


def parse(data: bytes, *, one_entity: bool = False) -> Element:
    """Return the root of a document. Names in a namespace are written "{namespace}name".

    Raises ``Unavailable`` for a document that is malformed or unsafe; with ``one_entity``, ``Unreadable``.
    """
    reader = _Reader()
    try:
        if len(data) > MAX_BYTES:
            raise _Refused(f"too_large: the limit is {MAX_BYTES / 1_000_000:g} MB")
        return reader.read(data)
    except _Refused as error:
        reason = str(error)
    except expat.ExpatError as error:
        reason = f"damaged XML: {expat.ErrorString(error.code)} in line {error.lineno}"
    except (ValueError, LookupError):
        reason = "damaged XML: an unknown encoding"
    raise (Unreadable(reason) if one_entity else Unavailable(reason))


class _Refused(Exception):
    pass


class _Reader:
    def __init__(self) -> None:
        self._tree = TreeBuilder()
        self._depth = self._count = 0
        parser = self._parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.UnparsedEntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data

    def read(self, data: bytes) -> Element:
        self._parser.Parse(data, True)
        return self._tree.close()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1 + len(attributes)
        if self._depth > MAX_DEPTH:
            raise _Refused(f"XML nested deeper than {MAX_DEPTH} elements")
        if self._count > MAX_ELEMENTS:
            raise _Refused(f"XML with more than {MAX_ELEMENTS} elements and attributes")
        self._tree.start(_name(name), {_name(key): value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._tree.end(_name(name))


def _name(name: str) -> str:
    return "{" + name if "}" in name else name


def _refuse(*_: Any) -> Any:
    raise _Refused("XML with a document type or entities, which are not allowed")
