"""Documents to text by kreuzberg, which loses some of it."""

from kreuzberg import ConcurrencyConfig, ExtractionConfig, KreuzbergError, PostProcessorConfig, extract_bytes_sync

from .parts import Refused, Unparseable

OLD_WORD, POWERPOINT = "application/msword", "application/vnd.ms-powerpoint"
OPENDOCUMENT_TEXT = "application/vnd.oasis.opendocument.text"


def convert(data: bytes, mime: str) -> str:
    """The text as Markdown."""
    try:
        return extract_bytes_sync(data, mime, config=_KREUZBERG).content
    except KreuzbergError as error:
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise Refused("encrypted") from None
        raise Unparseable(f"it cannot be parsed: {error}"[:300]) from None


_KREUZBERG = ExtractionConfig(
    use_cache=False,
    enable_quality_processing=False,
    output_format="markdown",
    postprocessor=PostProcessorConfig(enabled=False),
    concurrency=ConcurrencyConfig(max_threads=1),
)
