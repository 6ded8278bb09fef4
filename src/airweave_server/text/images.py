"""Files that are images, read by OCR. Decoding them needs Pillow, an extra of this package."""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from .parts import LeftOut, NoText, Part, Picture, Recognize, Refused, Text
from .tables import MAX_TEXT_CHARS

if TYPE_CHECKING:
    from PIL import Image

try:  # the package alone, without the code for any format
    from PIL import __version__ as _PILLOW
except ImportError:
    _PILLOW = ""

READ = {"PNG image": "PNG", "JPEG image": "JPEG", "TIFF image": "TIFF"}  # by what ``detect_format`` calls them
MAX_IMAGE_PIXELS = 40_000_000
MAX_PIXELS = 12_000_000  # of what is handed over
MAX_PAGES = 100  # of a TIFF


def load() -> None:
    """Load the code for each format, which a sealed process cannot."""
    if _PILLOW:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # ours holds
        Image.init()


def kind_of(refused: NoText) -> str | None:
    """The kind of image that ``detect_format`` has refused, if such images can be read."""
    kind = READ.get(refused.reason.removeprefix("unsupported_format: "))
    return kind if kind is not None and _PILLOW else None


def read(file: IO[bytes], kind: str, recognize: Recognize) -> Iterator[Part]:
    """The words on each page of the image. Raises ``Refused`` if there are none."""
    from PIL import Image

    image = Image.open(file, formats=(kind,))
    pages = getattr(image, "n_frames", 1)
    has_words, chars = False, 0
    for number in range(min(pages, MAX_PAGES)):
        image.seek(number)
        place = (f"page {number + 1}",) if pages > 1 else ()
        words = recognize(_to_picture(image)) if image.width * image.height <= MAX_IMAGE_PIXELS else ""
        if not words:
            if pages > 1:
                yield LeftOut("page_without_text", place)
            continue
        has_words = True
        chars += len(words)
        yield Text(f"Page {number + 1} (OCR)" if pages > 1 else "OCR", words, "text")
        yield LeftOut("ocr", place)
        if chars > MAX_TEXT_CHARS:
            break
    if pages > MAX_PAGES:
        yield LeftOut("rest", note=f"pages after {MAX_PAGES}")
    if not has_words:
        raise Refused(f"unsupported_format: {kind} image")


def _to_picture(image: "Image.Image") -> Picture:
    from PIL import Image

    shrink = (MAX_PIXELS / (image.width * image.height)) ** 0.5
    size = (max(1, int(image.width * shrink)), max(1, int(image.height * shrink))) if shrink < 1 else image.size
    image.draft("L", size)  # a JPEG is decoded at about that size
    gray = image
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        gray = Image.new("RGBA", image.size, "white")
        gray.alpha_composite(clear)
    gray = gray.convert("L")
    if gray.size != size and gray.width * gray.height > MAX_PIXELS:
        gray = gray.resize(size)
    return Picture(gray.width, gray.height, gray.tobytes())
