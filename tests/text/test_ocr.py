"""Pages that are images are read by tesseract where a person turned it on; without it they are said as ever."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

import formats
from airweave_server.sdk.process import NotRunnable
from airweave_server.services.doctor import describe_ocr
from airweave_server.settings import Settings
from airweave_server.text import ocr
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText, describe

has_tesseract = pytest.mark.skipif(shutil.which(ocr.PROGRAM) is None, reason="tesseract is not installed")
WORDS = "The invoice number is 4711"


def nothing() -> None:
    pass


def drawn(words: str) -> Image.Image:
    page = Image.new("L", (1240, 400), 255)
    ImageDraw.Draw(page).text((60, 120), words, font=ImageFont.load_default(60), fill=0)
    return page


def scanned(*pages: str) -> bytes:
    """A PDF whose first page is text and whose others are images of these words."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[4 0 R %s]>>"
        % (len(pages) + 1, b" ".join(b"%d 0 R" % (6 + 3 * n) for n in range(len(pages)))),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 200]/Contents 5 0 R/Resources<</Font<</F1 3 0 R>>>>>>",
        formats.pdf_stream(b"BT /F1 12 Tf 50 100 Td (typed words) Tj ET"),
    ]
    for number, words in enumerate(pages):
        image = drawn(words)
        keys = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8" % image.size
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 200]/Contents %d 0 R/Resources<</XObject<</Im %d 0 R>>>>>>"
            % (7 + 3 * number, 8 + 3 * number),
            formats.pdf_stream(b"q 600 0 0 200 0 0 cm /Im Do Q"),
            formats.pdf_stream(image.tobytes(), keys),
        ]
    return formats.raw_pdf(objects)


@pytest.fixture(scope="module")
def start(scratch: Path) -> Iterator[Callable[[str | None], Parsers]]:
    made: list[Parsers] = []

    def one(languages: str | None) -> Parsers:
        made.append(Parsers(seconds=30, memory_mb=400, ocr_languages=languages))
        return made[-1]

    yield one
    for parsers in made:
        parsers.close()


def read(parsers: Parsers, data: bytes, name: str = "a.pdf") -> Extracted:
    found = parsers.read([data], filename=name, beat=nothing)
    assert isinstance(found, Extracted), found
    return found


@has_tesseract
def test_a_page_that_is_an_image_is_read_and_said(start: Callable[[str | None], Parsers]) -> None:
    parsers = start("eng")
    found = read(parsers, scanned(WORDS))
    assert WORDS in found.text
    assert [section.label for section in found.sections] == ["Page 1", "Page 2 (OCR)"]
    assert describe(found.left_out) == "page 2: read by OCR, so characters may be others"
    inside = read(parsers, formats.zipped({"in/a.pdf": scanned(WORDS, "")}), "a.zip")
    assert [section.label for section in inside.sections] == ["in/a.pdf > Page 1", "in/a.pdf > Page 2 (OCR)"]
    assert [(one.what, one.where) for one in inside.left_out] == [
        ("ocr", ("in/a.pdf > page 2",)),
        ("page_without_text", ("in/a.pdf > page 3",)),  # nothing is written on it
    ]


@has_tesseract
def test_a_language_that_is_missing_leaves_the_page_said(start: Callable[[str | None], Parsers]) -> None:
    found = read(start("xxx"), scanned(WORDS))
    assert describe(found.left_out) == "page 2: no text layer"


def test_without_ocr_the_page_is_said(start: Callable[[str | None], Parsers]) -> None:
    found = read(start(None), scanned(WORDS))
    assert describe(found.left_out) == "page 2: no text layer"


def test_without_tesseract_the_page_is_said(
    start: Callable[[str | None], Parsers], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parsers = start("eng")
    read(parsers, scanned())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(read(parsers, scanned(WORDS, WORDS)).left_out) == "page 2, page 3: no text layer"
    with pytest.raises(NotRunnable, match="tesseract"):
        ocr.examine()


def test_only_so_many_pages_of_a_document_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "MAX_PAGES", 0)
    assert ocr.Recognizer("eng", nothing).read(1, 1, b"\0") is None
    monkeypatch.setattr(ocr, "MAX_PAGES", 1)
    monkeypatch.setattr(ocr, "DOCUMENT_S", 0.0)
    assert ocr.Recognizer("eng", nothing).read(1, 1, b"\0") is None


@has_tesseract
def test_the_installed_program_says_its_version_and_languages() -> None:
    found = ocr.examine()
    assert found.version[0].isdigit()
    assert "eng" in found.languages


def encoded(image: Image.Image, form: str, **keys: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **keys)
    return file.getvalue()


@has_tesseract
def test_image_files_are_read(start: Callable[[str | None], Parsers]) -> None:
    parsers = start("eng")
    clear = Image.new("RGBA", (1240, 400), (0, 0, 0, 0))
    ImageDraw.Draw(clear).text((60, 120), WORDS, font=ImageFont.load_default(60), fill=(0, 0, 0, 255))
    files = {
        "a.png": encoded(drawn(WORDS), "PNG"),
        "a.jpg": encoded(drawn(WORDS).convert("RGB"), "JPEG"),
        "clear.png": encoded(clear, "PNG"),
        "fax.tif": encoded(drawn(WORDS).convert("1"), "TIFF", compression="group4"),
    }
    for name, data in files.items():
        found = read(parsers, data, name)
        assert found.text.strip() == WORDS, name
        assert describe(found.left_out) == "read by OCR, so characters may be others"
    pages = encoded(drawn(WORDS), "TIFF", save_all=True, append_images=[drawn(""), drawn("Another 4712")])
    found = read(parsers, pages, "a.tiff")
    assert [section.label for section in found.sections] == ["Page 1 (OCR)", "Page 3 (OCR)"]
    assert [(one.what, one.where) for one in found.left_out] == [
        ("ocr", ("page 1", "page 3")),
        ("page_without_text", ("page 2",)),
    ]
    inside = read(parsers, formats.zipped({"a.md": b"# One", "in/a.png": files["a.png"]}), "a.zip")
    assert [section.label for section in inside.sections] == ["a.md", "in/a.png > OCR"]


@has_tesseract
def test_an_image_without_words_or_with_damage_is_no_failure_of_others(start: Callable[[str | None], Parsers]) -> None:
    parsers = start("eng")
    empty = parsers.read([encoded(drawn(""), "PNG")], filename="a.png", beat=nothing)
    assert isinstance(empty, NoText)
    assert empty.reason == "unsupported_format: PNG image"
    cut = formats.zipped({"a.md": b"# One", "b.png": encoded(drawn(WORDS), "PNG")[:300], "c.md": b"# Two"})
    found = read(parsers, cut, "a.zip")
    assert "# One" in found.text
    assert "# Two" in found.text
    assert [one.what for one in found.left_out] == ["member"]
    huge = encoded(Image.new("1", (30_000, 30_000), 1), "PNG")
    assert isinstance(parsers.read([huge], filename="a.png", beat=nothing), NoText)


def test_an_image_is_read_only_if_ocr_is_on() -> None:
    refused = NoText("unsupported_format: PNG image")
    assert not Parsers(seconds=1, memory_mb=400).reads_image(refused)
    assert Parsers(seconds=1, memory_mb=400, ocr_languages="eng").reads_image(refused)
    assert not Parsers(seconds=1, memory_mb=400, ocr_languages="eng").reads_image(NoText("unsupported_format: font"))


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = Settings(ocr=True, ocr_languages="eng+xxx")
    if shutil.which(ocr.PROGRAM):
        fact, findings = describe_ocr(wanted)
        assert fact.startswith("on, eng+xxx; tesseract ")
        assert [one.what for one in findings] == ["OCR_LANGUAGES names xxx, which tesseract does not have"]
        assert describe_ocr(Settings(ocr=False))[0].startswith("off; tesseract ")
    monkeypatch.setenv("PATH", str(tmp_path))
    fact, findings = describe_ocr(wanted)
    assert "tesseract cannot be run" in findings[0].what
    assert "install tesseract" in str(findings[0].do)
    assert describe_ocr(Settings(ocr=False)) == ("off; tesseract is not installed", [])


@has_tesseract
def test_giving_up_ends_the_program(start: Callable[[str | None], Parsers]) -> None:
    class Enough(Exception):
        pass

    def give_up() -> None:
        raise Enough

    image = drawn("\n".join([WORDS] * 60)).resize((3_000, 3_000))  # takes seconds
    with pytest.raises(Enough):
        ocr.Recognizer("eng", give_up).read(*image.size, image.tobytes())
