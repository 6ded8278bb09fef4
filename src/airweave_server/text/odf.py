"""OpenDocument to text: documents, spreadsheets, presentations and drawings, as a package or as a single XML file."""

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO

from . import xml
from .odf_names import Form
from .odf_shapes import SHAPES, add_controls
from .odf_sheets import SHEETS
from .odf_text import TEXT
from .odf_walk import Embedded, Found, Handlers, Sheet, Walker, join
from .parts import Deadline, LeftOut, Member, Part, Text, Unparseable
from .tables import join_lines, rows_to_lines

MAX_OBJECTS = 2_000  # embedded ones that are read in place
MAX_OBJECT_DEPTH = 4  # of objects within each other
_BODY: Handlers = {**TEXT, **SHAPES}
_DAMAGE = (Unparseable, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def read(archive: zipfile.ZipFile, form: Form, deadline: Deadline) -> Iterator[Part]:
    """What a package says. A part that is damaged is left out; a damaged main part is read up to there."""
    package = _Package(archive)
    walker = package.walker(form)
    try:
        walker.read(archive.open("styles.xml"))  # how numbers look, headers and footers
    except KeyError:
        pass
    except _DAMAGE as error:
        package.found.left_out.append(LeftOut("damaged", ("styles.xml",), note=str(error)[:200]))
    try:
        size_bytes = archive.getinfo("content.xml").file_size
    except KeyError:  # a template of styles alone has none
        yield from _read_parts(walker)
        return
    yield from _read_main(walker, archive.open("content.xml"), form, deadline, size_bytes)


def read_flat(file: IO[bytes], form: Form, deadline: Deadline, *, size_bytes: int) -> Iterator[Part]:
    """What a single XML document says."""
    package = _Package(None)
    yield from _read_main(package.walker(form), file, form, deadline, size_bytes)


def _read_main(walker: Walker, content: IO[bytes], form: Form, deadline: Deadline, size_bytes: int) -> Iterator[Part]:
    broken: Exception | None = None
    if form == "ods":
        sheets = _Sheets(walker, content, deadline, size_bytes)
        yield from sheets.read()
        broken = sheets.broken
    else:
        try:
            walker.read(content)
        except _DAMAGE as error:
            broken = error
    yield from _read_parts(walker)
    if broken is not None:
        raise broken


def _read_parts(walker: Walker) -> Iterator[Part]:
    """What the walk has found, without sheets."""
    add_controls(walker)
    for label, blocks in walker.pages:
        yield Text(label, join(blocks), "markdown")
    for text in walker.furniture:
        walker.sink.add(text)
    last = walker.sink.blocks
    if last:
        yield Text("", join(last), "markdown")
    found = walker.found
    yield from found.members
    yield from found.left_out
    for place, count in found.images.items():
        yield LeftOut("image", place, count)


class _Sheets:
    """Reads a spreadsheet while it is parsed, row by row."""

    def __init__(self, walker: Walker, content: IO[bytes], deadline: Deadline, size_bytes: int) -> None:
        self.broken: Exception | None = None
        self._is_over = False
        self._walker = walker
        self._deadline = deadline
        self._size_bytes = size_bytes
        self._steps = xml.parse_in_pieces(content, walker.start, walker.end, walker.characters)

    def read(self) -> Iterator[Part]:
        while self._walker.sheets or self._step():
            while self._walker.sheets:
                sheet = self._walker.sheets.popleft()
                rows = self._rows(sheet)
                lines = join_lines(rows_to_lines(rows, chars=self._size_bytes))
                for _ in rows:  # beyond what a text may have
                    pass
                label = f"Sheet {sheet.title}"
                yield Text(label, lines, "csv")
                if sheet.shapes.blocks:
                    yield Text(label, join(sheet.shapes.blocks), "markdown")

    def _rows(self, sheet: Sheet) -> Iterator[list[str]]:
        while True:
            while sheet.rows:
                row, times = sheet.rows.popleft()
                for _ in range(times):
                    yield row
            if sheet.is_complete or not self._step():
                return

    def _step(self) -> bool:
        """Parse a piece more, if there is time. Returns whether there was one."""
        if self._deadline.is_over():
            if not self._is_over:
                self._is_over = True
                self._walker.found.left_out.append(self._deadline.left_out(*self._walker.place))
                self._walker.finish()
            return False
        try:
            next(self._steps)
        except StopIteration:
            return False
        except _DAMAGE as error:
            self.broken = error
            self._walker.finish()  # completes what was open
        return True


class _Package:
    """The objects in a package, each of which is read once, however often it is shown."""

    def __init__(self, archive: zipfile.ZipFile | None) -> None:
        self.found = Found()
        self._archive = archive
        self._names = set(archive.namelist()) if archive is not None else set()
        self._read: set[str] = set()

    def walker(self, form: Form | None, folder: str = "", depth: int = 0) -> Walker:
        handlers = SHEETS if form == "ods" else _BODY
        made = Walker(handlers, self.found, partial(self._embed, folder=folder, depth=depth))
        made.page_name = "Slide" if form == "odp" else "Page"
        return made

    def _embed(self, outer: Walker, target: str, *, folder: str, depth: int) -> Embedded:
        path = _resolve(folder, target)
        if path is None or self._archive is None:
            self._leave_out(LeftOut("object", outer.place, note=f"linked: {target}"[:200]))
            return Embedded()
        if path in self._read:
            return Embedded()
        if len(self._read) >= MAX_OBJECTS or depth >= MAX_OBJECT_DEPTH:
            self._leave_out(LeftOut("too_deep" if depth >= MAX_OBJECT_DEPTH else "object", outer.place))
            return Embedded()
        self._read.add(path)
        if f"{path}/content.xml" in self._names:
            return self._read_object(outer, path, depth + 1)
        if path in self._names:
            place = outer.place[0] if outer.place else ""
            self.found.members.append(Member(path, partial(self._archive.open, path), place))
        else:
            self._leave_out(LeftOut("object", outer.place, note=f"{path} is missing"[:200]))
        return Embedded()

    def _read_object(self, outer: Walker, path: str, depth: int) -> Embedded:
        assert self._archive is not None
        inner = self.walker(None, path, depth)
        inner.place = outer.place
        inner.has_values = outer.sheet is None
        try:
            inner.read(self._archive.open(f"{path}/content.xml"))
        except _DAMAGE as error:
            self._leave_out(LeftOut("damaged", (*outer.place, path)[-1:], note=str(error)[:200]))
        blocks = [block for _, page in inner.pages for block in page] + inner.sink.blocks
        if inner.is_formula:
            return Embedded(formula=" ".join(block.text for block in blocks))
        return Embedded(blocks)

    def _leave_out(self, one: LeftOut) -> None:
        self.found.left_out.append(one)


def _resolve(folder: str, target: str) -> str | None:
    """The path in the package that an address names, or None if it is elsewhere."""
    if "://" in target or target.startswith("/"):
        return None
    parts = folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or None
