"""``python -m benchmarks``: runs the benchmarks, and prints and writes their tables. Asserts no figures; a run that did
not do its work ends with an error."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from airweave_server.errors import ClientError

from . import contest, corpus, documents, durable, growth, machine, quality, remembering, searching, syncing, tiers
from .lab import Lab
from .report import Table
from .server import Unfit, scratch

BENCHMARKS: dict[str, Callable[[Lab], list[Table]]] = {
    "sync": syncing.run,
    "search": searching.run,
    "million": searching.run_million,
    "quality": quality.run,
    "tiers": tiers.run,
    "memory": remembering.run,
    "durable": durable.run,
    "growth": growth.run,
    "documents": documents.run,
    "peers": contest.run,
}
REPEATS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    asked = _arguments()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # wordllama sets up logging when it is imported
    cores = machine.pin()
    text = _head(asked, machine.facts(cores))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    try:
        files = corpus.load()
        with scratch() as place:
            lab = Lab(files, place, repeats=1 if asked.quick else asked.repeats, quick=asked.quick)
            sizes = f"{files.described(lab.usual)} as usual, {files.described(lab.whole)} in all"
            text += f"* Corpus: {files.label}; {sizes}\n"
            print(text)
            for name in asked.only:
                try:
                    found = "\n".join(table.markdown() for table in BENCHMARKS[name](lab))
                except (Unfit, ClientError) as error:
                    failed = True
                    found = f"## {name}\n\n**Did not come to its end:** {error}\n"
                print("\n" + found, flush=True)
                text += "\n" + found
                asked.out.write_text(text, encoding="utf-8")  # after each benchmark, so that no figures are lost
    except OSError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; everything that was started is ended", file=sys.stderr)
        return 130
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=tuple(BENCHMARKS),
        default=list(BENCHMARKS),
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of whatever is repeated")
    parser.add_argument("--quick", action="store_true", help="200 documents, one run, no peers: to try the harness")
    parser.add_argument(
        "--out",
        type=Path,
        help="Markdown file to write [benchmarks/results.md; of less than all benchmarks/.scratch/results.md]",
    )
    asked = parser.parse_args()
    if asked.repeats < 1:
        parser.error("--repeats must be at least 1")
    if asked.out is None:
        in_full = not asked.quick and asked.only == list(BENCHMARKS)
        asked.out = Path(__file__).parent / ("results.md" if in_full else ".scratch/results.md")
    return asked


def _head(asked: argparse.Namespace, facts: Sequence[str]) -> str:
    command = ["python -m benchmarks"]
    if list(asked.only) != list(BENCHMARKS):
        command.append("--only " + " ".join(asked.only))
    if asked.quick:
        command.append("--quick")
    if asked.repeats != REPEATS:
        command.append(f"--repeats {asked.repeats}")
    lines = [
        "# Figures",
        "",
        *(["**A quick run, to try the harness: these figures mean nothing.**", ""] if asked.quick else []),
        f"* {date.today():%d %B %Y}, `{' '.join(command)}`",
        *(f"* {fact}" for fact in facts),
        "* Where there are several runs: median (least-greatest)",
    ]
    return "\n".join(lines) + "\n"


def _interrupt(_: int, __: object) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
