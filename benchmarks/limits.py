"""What bounds the figures: single parts of the work, alone, on one thread of a fresh process.

``python -m benchmarks.limits FOLDER`` prints one JSON line. Chunks are those that the server makes of the same files.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import safe_open
from tokenizers import Tokenizer
from wordllama.inference import WordLlamaInference

from airweave_server.embedders import local
from airweave_server.text.chunk import chunks
from airweave_server.text.extract import extract
from airweave_server.text.parts import Extracted

EMBED_AT_ONCE = 64
SCANS = 5
MEASURE_S = 600.0
ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds of each part. ``stock_s``: wordllama's own ``embed`` on the same chunks; None if not requested."""

    files: int
    chunks: int
    scan_s: float
    read_s: float
    cut_s: float
    embed_s: float
    stock_s: float | None


def limits(folder: Path, *, stock: bool) -> Limits:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.limits", str(folder), *(["--stock"] if stock else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=MEASURE_S, cwd=ROOT)
    return Limits(**json.loads(done.stdout))


def _measure(folder: str, *, stock: bool) -> Limits:
    scan_s = min(_timed(lambda: sum(1 for _ in _scan(folder)))[0] for _ in range(SCANS))
    paths = sorted(path for path, _ in _scan(folder))
    read_s, contents = _timed(lambda: [Path(path).read_bytes() for path in paths])
    cut_s, texts = _timed(
        lambda: [text for path, data in zip(paths, contents, strict=True) for text in _cut(path, data)]
    )
    batches = [texts[start : start + EMBED_AT_ONCE] for start in range(0, len(texts), EMBED_AT_ONCE)]
    ours = local.WordLlama()
    ours.embed(["the weights are loaded at the first use"])
    embed_s, _ = _timed(lambda: [ours.embed(batch) for batch in batches])
    stock_s = None
    if stock:
        theirs = _stock()
        stock_s, _ = _timed(lambda: [theirs.embed(batch, norm=True) for batch in batches])
    return Limits(len(paths), len(texts), scan_s, read_s, cut_s, embed_s, stock_s)


def _scan(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)


def _cut(path: str, data: bytes) -> list[str]:
    found = extract(data, filename=os.path.basename(path))
    if not isinstance(found, Extracted):
        return []
    return [f"{chunk.heading}\n{chunk.text}" for chunk in chunks(found.text, found.kind)]


def _stock() -> WordLlamaInference:
    folder = Path(sys.modules["wordllama"].__file__ or "").parent
    with safe_open(folder / local.WEIGHTS, framework="np") as file:
        weights = file.get_tensor(local.TENSOR)
    return WordLlamaInference(weights, Tokenizer.from_file(str(folder / local.TOKENIZER)), binary=False)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began_at = time.perf_counter()
    result = work()
    return time.perf_counter() - began_at, result


if __name__ == "__main__":
    found = _measure(sys.argv[1], stock="--stock" in sys.argv[2:])
    print(json.dumps({name: getattr(found, name) for name in Limits.__slots__}))
