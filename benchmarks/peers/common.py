"""What the peers share: the files' texts cut in one way, the same weights, and one JSON line in the end.

Runs in a peer's own virtual environment: imports nothing of this project but, on demand, its embedder.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_CHARS = 2_000  # the longest chunk of the server too
DIMENSIONS = 256
PROJECT = Path(__file__).resolve().parents[2]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=("initial", "nochange", "delta1"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--embedder", choices=("stock", "ours"), default="stock")
    parser.add_argument("--vector-index", action="store_true")
    parser.add_argument("--words", nargs="*", default=[], help="new words, each to be in one row in the end")
    found = parser.parse_args()
    found.state.mkdir(parents=True, exist_ok=True)
    return found


def split(text: str) -> list[str]:
    """Whole paragraphs, as many as fit into a chunk; a longer one is cut. No splitter is cheaper."""
    chunks: list[str] = []
    held = ""
    for paragraph in text.split("\n\n"):
        if held and len(held) + len(paragraph) + 2 <= CHUNK_CHARS:
            held += "\n\n" + paragraph
            continue
        if held.strip():
            chunks.append(held)
        while len(paragraph) > CHUNK_CHARS:
            chunks.append(paragraph[:CHUNK_CHARS])
            paragraph = paragraph[CHUNK_CHARS:]
        held = paragraph
    return [*chunks, held] if held.strip() else chunks


def embedder(kind: str) -> Embed:
    """``stock``: wordllama's own ``embed``; ``ours``: the code of this project's, with the same weights."""
    if kind == "ours":
        sys.path.insert(0, str(PROJECT / "src"))
        from airweave_server.embedders.local import WordLlama

        ours = WordLlama()
        ours.embed(["the weights are loaded at the first use"])
        return ours.embed
    import wordllama
    from safetensors import safe_open
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    # its load() looks for the wheel's own files at a wrong place, and would download them
    folder = Path(wordllama.__file__).parent
    with safe_open(folder / "weights" / "l2_supercat_256.safetensors", framework="np") as file:
        weights = file.get_tensor("embedding.weight")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    stock = WordLlamaInference(weights, tokenizer, binary=False)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = stock.embed(list(texts), norm=True)
        return vectors

    return embed


def report(began_at: float, ended_at: float, *, files: int, chunks: int, table: Any, words: Sequence[str]) -> None:
    """``table`` is the LanceDB table; rows that no index covers are counted, for they make later searches slow."""
    indexes = list(table.list_indices())
    used = resource.getrusage(resource.RUSAGE_SELF)
    said = {
        "seconds": ended_at - began_at,
        "files": files,
        "chunks": chunks,
        "rows": table.count_rows(),
        "found": sum(table.count_rows(f"text like '%{word}%'") == 1 for word in words),
        "indexes": sorted(str(index.index_type) for index in indexes),
        "unindexed": max((table.index_stats(index.name).num_unindexed_rows for index in indexes), default=0),
        "peak_mb": used.ru_maxrss / 1024,
        "cpu_s": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(said), flush=True)


def now() -> float:
    return time.perf_counter()
