"""Word documents (.docx, .docm, .dotx, .dotm) to text, by a walk of our own over their parts."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import IO

from . import docx_flow, opc
from .docx_context import Context
from .docx_styles import Styles
from .docx_walk import Walk
from .package import PART_ERRORS, Package, describe_failure
from .parts import LeftOut, Part, Refused, Text, Unparseable

MAIN = "word/document.xml"  # unless a relation says otherwise
MAX_REMEMBERED_BYTES = 512 * 1024  # of a part with styles
LABELS = {"header": "Header", "footer": "Footer"}


def read(archive: zipfile.ZipFile) -> Iterator[Part]:
    """The text as Markdown, then its headers and footers, then the documents that are embedded in it.

    Notes and comments come after the paragraph or table that refers to them. Raises ``Unparseable`` where the main
    part is damaged, after the text before that place.
    """
    package = Package(archive)
    main = package.main_part() or MAIN
    context = Context(package)
    relations = package.relations(main)
    _read_part(context, relations, "styles", partial(_read_styles, context))
    _read_part(context, relations, "numbering", context.lists.read)
    for kind in ("footnotes", "endnotes", "comments"):
        _read_notes(context, relations, kind)
    walk = Walk(context, main)
    damage: Exception | None = None
    try:
        for _ in walk.pieces(_open_main(package, main)):
            yield from walk.parts
            walk.parts.clear()
    except PART_ERRORS as error:
        damage = error
    walk.finish()
    if damage is None:
        walk.blocks.extend(context.other_comments())
    walk.flush()
    yield from walk.parts
    yield from _read_headers(context, walk.headers)
    yield from context.members
    if context.images:
        yield LeftOut("image", count=len(context.images))
    yield from context.left_out
    if damage is not None:
        raise damage


def _open_main(package: Package, main: str) -> IO[bytes]:
    try:
        return package.open(main)
    except KeyError:
        raise Unparseable("it is damaged: its main part is missing") from None
    except RuntimeError:
        raise Refused("encrypted") from None


def _read_part(
    context: Context, relations: Mapping[str, opc.Relation], kind: str, take: Callable[[IO[bytes]], None]
) -> None:
    """Read a part that the main part refers to. One that is damaged is read as far as possible, and noted."""
    for one in relations.values():
        if one.kind == kind and not one.is_external:
            try:
                take(context.package.open(one.target))
            except PART_ERRORS as error:
                context.left_out.append(describe_failure(error, one.target))


def _read_styles(context: Context, file: IO[bytes]) -> None:
    with file:
        data = file.read(MAX_REMEMBERED_BYTES + 1)
        if len(data) <= MAX_REMEMBERED_BYTES:
            context.styles, error = _parse_styles(data)
            if error is not None:
                raise error
            return
        file.seek(0)
        context.styles.read(file)


@lru_cache(maxsize=16)
def _parse_styles(data: bytes) -> tuple[Styles, Unparseable | None]:
    """The styles in the bytes of a part, as far as they are not damaged. Many documents of one template have the same,
    which take as long to read as ten pages."""
    styles = Styles()
    try:
        styles.read(io.BytesIO(data))
    except Unparseable as error:
        return styles, error.with_traceback(None)
    return styles, None


def _read_notes(context: Context, relations: Mapping[str, opc.Relation], kind: str) -> None:
    for one in relations.values():
        if one.kind == kind and not one.is_external:
            walk = Walk(context, one.target)
            _read_part(context, {"": one}, kind, walk.read)


def _read_headers(context: Context, headers: list[tuple[str, str]]) -> Iterator[Part]:
    """Each different header in one section, then each different footer."""
    for kind, label in LABELS.items():
        texts: dict[str, None] = {}
        for part in dict.fromkeys(part for known, part in headers if known == kind):
            walk = Walk(context, part)
            try:
                walk.read(context.package.open(part))
            except PART_ERRORS as error:
                context.left_out.append(describe_failure(error, part))
            walk.finish()
            texts[docx_flow.join(walk.blocks)] = None
        yield Text(label, "\n\n".join(filter(None, texts)), "markdown")
