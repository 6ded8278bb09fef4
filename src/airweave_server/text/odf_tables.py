"""Tables in OpenDocument: a line for each row, ``| a | b |``."""

from .odf_names import name, number
from .odf_walk import Block, End, Table, Walker, in_line

MAX_TABLES = 8  # within each other; deeper ones are read as paragraphs
MAX_ROW_CHARS = 2_000  # a longer row is read block by block
MAX_REPEATS = 1_048_576


def read_table(walker: Walker, _: dict[str, str]) -> End:
    if walker.frames:
        walker.frames[-1].is_shown = True
    walker.tables.append(Table() if len(walker.tables) < MAX_TABLES else None)

    def close() -> None:
        table = walker.tables.pop()
        if table is not None:
            _end_lines(table)
            walker.sink.extend(table.blocks)

    return close


def read_row(walker: Walker, attributes: dict[str, str]) -> End | None:
    table = walker.tables[-1] if walker.tables else None
    if table is None:
        return None
    table.row, table.gap = [], 0
    times = number(attributes.get(ROWS), 1, 1, MAX_REPEATS)

    def close() -> None:
        row, table.row = table.row, []
        chars = sum(len(block.text) for cell in row for block in cell)
        if not chars:
            return
        for _ in range(walker.repeats(times, chars, cells=len(row))):
            if len(row) + table.gap < 2 or chars > MAX_ROW_CHARS:
                _end_lines(table)
                table.blocks.extend(block for cell in row for block in cell)
                continue
            cells = [in_line(cell).replace("|", "\\|") if cell else "" for cell in row]
            table.lines.append(f"| {' | '.join(cells)} |")
            if len(table.lines) == 1 and not table.blocks:
                table.lines.append(f"|{' --- |' * len(row)}")

    return close


def _end_lines(table: Table) -> None:
    if table.lines:
        table.blocks.append(Block("\n".join(table.lines), is_table=True))
        table.lines = []


def read_cell(walker: Walker, attributes: dict[str, str]) -> End | None:
    table = walker.tables[-1] if walker.tables else None
    close = walker.open_sink() if table is not None else None
    if table is None or close is None:
        return None
    times = number(attributes.get(COLUMNS), 1, 1, MAX_REPEATS)

    def end() -> None:
        blocks = close().blocks or [Block(text) for text in (value_of(attributes),) if text]
        if walker.is_chart and (in_line(blocks) == "NaN" or (not walker.has_values and _VALUE in attributes)):
            blocks = []  # of a series that ends before others, or in the cells of the sheet
        if not blocks:
            table.gap += times
            return
        table.row.extend([[]] * walker.gaps(table.gap))
        table.gap = 0
        table.row.extend([blocks] * walker.repeats(times, sum(len(block.text) for block in blocks)))

    return end


def value_of(attributes: dict[str, str]) -> str:
    """The value of a cell as it is stored, or "" if it has none."""
    for value in _VALUES:
        if text := attributes.get(value):
            return text
    return ""


COLUMNS, ROWS = name("table:number-columns-repeated"), name("table:number-rows-repeated")
_VALUES = [name(f"office:{kind}") for kind in ("string-value", "date-value", "time-value", "boolean-value", "value")]
_VALUE = name("office:value")
