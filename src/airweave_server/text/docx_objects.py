"""What is drawn or embedded in a Word document: images, charts, diagrams, WordArt, documents of other programs."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import IO

from . import docx_flow, drawingml, opc, xml
from .docx_context import Context
from .docx_flow import Block
from .package import PART_ERRORS, describe_failure
from .parts import LeftOut, Member

MAX_OBJECTS = 2_000  # embedded documents
_FILE_NAME = re.compile(r"[^\n]*\.(png|jpe?g|gif|bmp|emf|wmf|tiff?|svg|webp|pict?)|[A-Za-z]:\\.*|https?://\S+", re.I)
_CONTROLS = "http://schemas.microsoft.com/office/2006/activeX"
_SAID = ("Caption", "Value", "Text")
_EQUATION = re.compile(r"Equation|MathType", re.I)


class Objects:
    """Handles elements of drawings and objects. ``anchor`` adds blocks after the current paragraph."""

    def __init__(
        self, context: Context, relations: Mapping[str, opc.Relation], anchor: Callable[[list[Block]], None]
    ) -> None:
        self.made = 0  # how much was found; an alternative without anything is not the one to read
        self._context = context
        self._relations = relations
        self._anchor = anchor
        self._images: list[str] = []  # of the open object
        self._is_object = self._is_embedded = False

    def relation_id(self, attributes: dict[str, str], local: str = "id") -> str:
        return attributes.get(f"r:{local}", "")

    def imported(self, attributes: dict[str, str]) -> Member | None:
        """The document that an ``altChunk`` imports."""
        part = self._part(self.relation_id(attributes), "member")
        return None if part is None else Member(_base_name(part), partial(self._open, part), is_named=False)

    def _open(self, part: str) -> IO[bytes]:
        return self._context.package.open(part)

    def _part(self, id: str, what: str) -> str | None:
        """The part of a relation. If there is none, that is noted as left out."""
        one = self._relations.get(id)
        if one is not None and not one.is_external and self._context.package.has(one.target):
            return one.target
        self._context.left_out.append(LeftOut(what, (_base_name(one.target),) if one is not None else ()))
        return None

    # Drawings

    def _start_wp_docPr(self, attributes: dict[str, str]) -> None:
        self._describe(attributes.get("title") or "")
        self._describe(attributes.get("descr") or "")

    def _start_pic_cNvPr(self, attributes: dict[str, str]) -> None:
        self._describe(attributes.get("descr") or "")

    def _describe(self, text: str) -> None:
        """Read the description of a picture, once, unless it is its file name."""
        text = docx_flow.clean(text)
        if text and text not in self._context.descriptions and not _FILE_NAME.fullmatch(text):
            self._context.descriptions.add(text)
            self.made += 1
            self._anchor([Block(None, "", f"![{text}]")])

    def _start_a_blip(self, attributes: dict[str, str]) -> None:
        self._add_image(self.relation_id(attributes, "embed") or self.relation_id(attributes, "link"))

    def _start_v_imagedata(self, attributes: dict[str, str]) -> None:
        self._add_image(self.relation_id(attributes))

    def _start_v_shape(self, attributes: dict[str, str]) -> None:
        self._describe(attributes.get("alt") or "")

    def _add_image(self, id: str) -> None:
        one = self._relations.get(id)
        if one is not None:
            self.made += 1
            if self._is_object:
                self._images.append(one.target)
            else:
                self._context.images.add(one.target)

    def _start_v_textpath(self, attributes: dict[str, str]) -> None:
        if text := docx_flow.clean(attributes.get("string", "")):
            self.made += 1
            self._anchor([Block(None, "", text)])

    def _start_c_chart(self, attributes: dict[str, str]) -> None:
        self.made += 1
        part = self._part(self.relation_id(attributes), "object")
        if part is not None:
            self._read(part, drawingml.read_chart_part)

    _start_cx_chart = _start_c_chart

    def _start_dgm_relIds(self, attributes: dict[str, str]) -> None:
        self.made += 1
        part = self._part(self.relation_id(attributes, "dm"), "object")
        if part is not None:
            self._read(part, lambda archive, name: drawingml.read_diagram(archive.open(name)))

    def _read(self, part: str, read: Callable[..., list[str]]) -> None:
        package = self._context.package
        try:
            self._anchor([Block(None, "", text) for text in read(package.archive, package.name(part))])
        except PART_ERRORS as error:
            self._context.left_out.append(describe_failure(error, part))

    # Embedded documents

    def _start_w_object(self, _: dict[str, str]) -> None:
        self._is_object, self._is_embedded = True, False

    def _end_w_object(self) -> None:
        if not self._is_embedded:  # else its image shows the document
            self._context.images.update(self._images)
        self._images.clear()
        self._is_object = False

    def _start_o_OLEObject(self, attributes: dict[str, str]) -> None:
        is_link = attributes.get("Type") == "Link"
        self._embed(self.relation_id(attributes), attributes.get("ProgID", ""), is_link=is_link)

    def _start_w_objectEmbed(self, attributes: dict[str, str]) -> None:
        self._embed(self.relation_id(attributes), attributes.get("w:progId", ""), is_link=False)

    def _start_w_objectLink(self, attributes: dict[str, str]) -> None:
        self._embed(self.relation_id(attributes), attributes.get("w:progId", ""), is_link=True)

    def _start_w_control(self, attributes: dict[str, str]) -> None:
        """A control of a form: what it says, unless only the program knows that draws it."""
        self.made += 1
        self._is_embedded = True
        name = attributes.get("w:name")
        one = self._relations.get(self.relation_id(attributes))
        said: list[str] = []

        def start(_: str, properties: dict[str, str]) -> None:
            if properties.get(f"{_CONTROLS} name") in _SAID:
                said.append(properties.get(f"{_CONTROLS} value", ""))

        if one is not None and not one.is_external:
            with suppress(*PART_ERRORS):
                xml.parse(self._open(one.target), start)
        if text := docx_flow.clean(" ".join(said)):
            self._anchor([Block(None, "", text)])
        else:
            self._context.left_out.append(LeftOut("object", (name,) if name else ()))

    def _embed(self, id: str, kind: str, *, is_link: bool) -> None:
        """An object of the program ``kind``."""
        self.made += 1
        self._is_embedded = True
        if _EQUATION.match(kind):
            self._context.left_out.append(LeftOut("formula"))
        elif is_link or len(self._context.members) >= MAX_OBJECTS:
            self._context.left_out.append(LeftOut("object", (kind,) if kind else ()))
        elif (part := self._part(id, "object")) is not None:
            self._context.members.append(Member(_base_name(part), partial(self._open, part)))


def _base_name(part: str) -> str:
    return part.rpartition("/")[2]
