"""A page of a PDF as an image, for a program that reads images."""

import math

import pypdfium2.raw as pdfium
from pypdfium2 import PdfPage

from .parts import Picture

DPI = 300
MAX_PIXELS = 12_000_000  # of the drawn page
MAX_IMAGE_PIXELS = 60_000_000  # of an image on it, which is unpacked to draw it


def draw(page: PdfPage) -> Picture | None:
    """The page in gray, or None if it cannot be drawn."""
    width, height = page.get_size()
    if not (width > 0 and height > 0):
        return None
    scale = min(DPI / 72, math.sqrt(MAX_PIXELS / (width * height)))
    bitmap = page.render(scale=scale, grayscale=True, may_draw_forms=False)
    try:
        if bitmap.format != pdfium.FPDFBitmap_Gray:
            return None
        pixels = bytes(bitmap.buffer)
        if bitmap.stride != bitmap.width:
            rows = range(0, bitmap.height * bitmap.stride, bitmap.stride)
            pixels = b"".join(pixels[start : start + bitmap.width] for start in rows)
        return Picture(bitmap.width, bitmap.height, pixels)
    finally:
        bitmap.close()
