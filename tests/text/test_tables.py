"""Tables: which rows name the columns, and that each row says its own values."""

import pytest

from airweave_server.text.extract import extract
from airweave_server.text.parts import Extracted
from airweave_server.text.tables import rows_to_lines


def read(text: str, filename: str = "a.csv") -> str:
    found = extract(text.encode(), filename=filename)
    assert isinstance(found, Extracted), found
    assert found.kind == "csv"
    return found.text


ABOVE = {
    "a line for Excel": ("sep=;\r\nName;Preis\r\nSEPLINEROW;1,5\r\n", "Name: SEPLINEROW; Preis: 1,5"),
    "the same in quotes": ('"sep=|"\nName|Price\na,b|1\n', "Name: a,b; Price: 1"),
    "the same in a text file": ("SEP=;\nName;Preis\nx;1,5\n", "Name: x; Preis: 1,5"),
    "a byte order mark before it": ("\ufeffsep=;\nName;Preis\nx;1,5\n", "Name: x; Preis: 1,5"),
    "a title": (
        "Prices of May\n\nname,price\nrope,5\nsail,90\n",
        "Prices of May\nname: rope; price: 5\nname: sail; price: 90",
    ),
    "a title with empty cells": ("Prices,,\nname,price,unit\nrope,5,m\n", "Prices\nname: rope; price: 5; unit: m"),
    "titles with a value": (
        "Report:,Sales,,\nDate:,2026-01-05,,\n,,,\nid,name,price,unit\n1,rope,5,m\n2,sail,9,piece\n",
        "Report:; Sales\nDate:; 2026-01-05\nid: 1; name: rope; price: 5; unit: m\n"
        "id: 2; name: sail; price: 9; unit: piece",
    ),
    "comments": (
        "# made by hand, in May, on a ship\n# more\nname,price,unit\nrope,5,m\nsail,9,p\n",
        "# made by hand; in May; on a ship\n# more\nname: rope; price: 5; unit: m\nname: sail; price: 9; unit: p",
    ),
    "no comment, but a name": (
        "#CHROM\tPOS\tID\nchr1\t100\trs1\nchr2\t200\trs2\n",
        "#CHROM: chr1; POS: 100; ID: rs1\n#CHROM: chr2; POS: 200; ID: rs2",
    ),
    "a long preamble": (
        "".join(f"note {n}\n" for n in range(12)) + "name;price\nrope;5\nsail;9\n",
        "".join(f"note {n}\n" for n in range(12)) + "name: rope; price: 5\nname: sail; price: 9",
    ),
    "a title of two cells": (
        "Report,Q3\nid,name,city\n1,Ann,Rome\n2,Bob,Oslo\n",
        "Report; Q3\nid: 1; name: Ann; city: Rome\nid: 2; name: Bob; city: Oslo",
    ),
}


@pytest.mark.parametrize(("text", "lines"), ABOVE.values(), ids=ABOVE)
def test_what_stands_above_the_names_of_the_columns_is_no_name(text: str, lines: str) -> None:
    assert read(text) == lines


NAMES = {
    "years": (
        "country,2019,2020\nItaly,83.1,84\nMalta,1,2\n",
        "country: Italy; 2019: 83.1; 2020: 84\ncountry: Malta; 2019: 1; 2020: 2",
    ),
    "days": ("who;01.05.2026;02.05.2026\nAnn;8;7\n", "who: Ann; 01.05.2026: 8; 02.05.2026: 7"),
    "numbers of days": ("who,1,2,3,4\nAnn,8,7,6,0\n", "who: Ann; 1: 8; 2: 7; 3: 6; 4: 0"),
    "an empty first name": (",price\nrope,5\n", "rope; price: 5"),
    "empty columns before": (",,name,price\n,,rope,5\n", "name: rope; price: 5"),
    "equal names": ("id,note,note\n1,a,b\n", "id: 1; note: a; note: b"),
    "units": ("length;weight\n(m);(kg)\n5;7\n", "length: (m); weight: (kg)\nlength: 5; weight: 7"),
    "a column without values": ("id,name,phone\n1,Ann,\n", "id: 1; name: Ann\nphone"),
    "quarters": ("unit,Q1,Q2\nsales,5,6\nlegal,7,8\n", "unit: sales; Q1: 5; Q2: 6\nunit: legal; Q1: 7; Q2: 8"),
    "a line break in a name and in a value": (
        '"full\nname",note\nAnn,"two\nlines"\n',
        "full name: Ann; note: two lines",
    ),
    "a name too long": (f"{'word ' * 60}last,b\n1,2\n", None),
}


@pytest.mark.parametrize(("text", "lines"), NAMES.values(), ids=NAMES)
def test_names_of_columns_are_said_with_the_values(text: str, lines: str | None) -> None:
    found = read(text)
    assert found == lines if lines is not None else found.startswith("word " * 60 + "last; b\n…")


VALUES = {
    "numbers": ("1,Ann\n2,Bob\n", "1; Ann\n2; Bob"),
    "addresses": ("Ann,ann@example.com\nBob,bob@example.com\n", "Ann; ann@example.com\nBob; bob@example.com"),
    "links": (
        "home,https://example.com/a\nnews,https://example.com/b\n",
        "home; https://example.com/a\nnews; https://example.com/b",
    ),
    "article numbers": ("QX-7781,rope\nQX-7782,sail\nQX-7783,oar\n", "QX-7781; rope\nQX-7782; sail\nQX-7783; oar"),
    "words that come again": (
        "rope,red\nsail,red\noar,red\nmast,blue\nrope,blue\n",
        "rope; red\nsail; red\noar; red\nmast; blue\nrope; blue",
    ),
    "numbers with exponents": ("5.18e-02,1E+5\n4.86e-02,-2E5\n", "5.18e-02; 1E+5\n4.86e-02; -2E5"),
    "decimal commas": ("1,5;2,5\n3,5;4,5\n", "1,5; 2,5\n3,5; 4,5"),
}


@pytest.mark.parametrize(("text", "lines"), VALUES.values(), ids=VALUES)
def test_values_in_the_first_row_name_no_column(text: str, lines: str) -> None:
    assert read(text) == lines


AGAIN = {
    "on each page": (
        "id,name\n1,Ann\nid,name\n2,Bob\n\nid,name\n3,Cy\n",
        "id: 1; name: Ann\nid: 2; name: Bob\nid: 3; name: Cy",
    ),
    "with a mark, from files put together": (
        "id,name\n1,Ann\n\ufeffid,name\n2,Bob\n",
        "id: 1; name: Ann\nid: 2; name: Bob",
    ),
    "with a column more": (
        "id,name\n1,Ann\nid,name,city\n2,Bob,Oslo\n",
        "id: 1; name: Ann\nid: 2; name: Bob; city: Oslo",
    ),
    "in another order": ("id,name\n1,Ann\nname,id\nBob,2\n", "id: 1; name: Ann\nname: Bob; id: 2"),
    "another table after an empty line": (
        "id,name\n1,Ann\n\nsku,price\nrope,5\n",
        "id: 1; name: Ann\nsku: rope; price: 5",
    ),
    "another table under a title": (
        "id,name,city\n1,Ann,Rome\n,,\nPrices,,\nsku,price,unit\nrope,5,m\n",
        "id: 1; name: Ann; city: Rome\nPrices\nsku: rope; price: 5; unit: m",
    ),
    "no other table": (
        "name,city\nAnn,Rome\n\nBob,Oslo\nCy,Bern\n",
        "name: Ann; city: Rome\nname: Bob; city: Oslo\nname: Cy; city: Bern",
    ),
    "a value that is a name": (
        "name,type\nrope,5\ntype,6\nname,7\n",
        "name: rope; type: 5\nname: type; type: 6\nname: name; type: 7",
    ),
}


@pytest.mark.parametrize(("text", "lines"), AGAIN.values(), ids=AGAIN)
def test_names_that_come_again_are_no_data_and_other_names_hold_from_there(text: str, lines: str) -> None:
    assert read(text) == lines


def test_rows_of_other_lengths_keep_their_values() -> None:
    rows = ["a,b,c", "1,2,3", "4", "5,6", "7,8,9,10,11", "12,13", "14,15,16,17"]
    assert read("\n".join(rows)) == (
        "a: 1; b: 2; c: 3\na: 4\na: 5; b: 6\na: 7; b: 8; c: 9; 10; 11\na: 12; b: 13\na: 14; b: 15; c: 16; 17"
    )


def test_a_quote_that_is_never_closed_costs_one_row_its_columns() -> None:
    text = 'id,note\n1,"open\n' + "".join(f"{n},x{n}\n" for n in range(2, 50_000))
    lines = read(text).split("\n")
    assert lines[:3] == ['id: 1; note: "open', "id: 2; note: x2", "id: 3; note: x3"]
    assert lines[-1] == "id: 49999; note: x49999"


def test_rows_of_many_empty_cells_and_many_empty_rows_are_harmless() -> None:
    rows = [["name", "price", *[""] * 16_382], *([[""] * 16_384] * 200), ["rope", "5", *[""] * 16_382]]
    assert list(rows_to_lines(rows, chars=100)) == ["name: rope; price: 5"]


SENTENCE = "Who signs this declares that all that is said above is true, and that nobody else has been told of it"
SHEETS = {
    "a column whose first word comes again": (
        "outer\ninner\nouter\ninner\nouter",
        "outer: inner\nouter: outer\nouter: inner\nouter: outer",
    ),
    "the same row again and again": ("yes|no|yes\n" * 3, "yes; no; yes\n" * 3),
    "a row of one word": (f"{'open|' * 9}\n{'open|' * 8}shut\n{'shut|' * 9}\n" * 2, None),
    "names with a colon": (
        "Part:|Price :\nrope|5\nsail|9",
        "Part: rope; Price: 5\nPart: sail; Price: 9",
    ),
    "a form": ("Borrower:|Ann\nAddress:|Main Street\nPurpose:|a boat\nSigned:|yes", None),
    "many titles": (
        "School\nof Boats\nReport\nof May\nPart|Price|Unit\nrope|5\nsail|9\noar|1\njib|7|p\nnet|8|m",
        "School\nof Boats\nReport\nof May\nPart: rope; Price: 5\nPart: sail; Price: 9\nPart: oar; Price: 1\n"
        "Part: jib; Price: 7; Unit: p\nPart: net; Price: 8; Unit: m",
    ),
    "names again above another table": (
        "x|Excel|Pass\n1|2\n\nMore\nx|Excel|Pass\n3|4",
        "x: 1; Excel: 2\nMore\nPass\nx: 3; Excel: 4\nPass",
    ),
    "names twice": (
        "Part|Price\nPart|Price\nrope|5\nsail|9",
        "Part; Price\nPart: rope; Price: 5\nPart: sail; Price: 9",
    ),
    "lines of prose": (
        "This spreadsheet holds what the test of the function reads\nEach row is a case\nThe last is the end",
        None,
    ),
    "a sentence among the rows": (
        f"Part|Price\nrope|5\n\n{SENTENCE}|Yes\n7|8\n9|10",
        f"Part: rope; Price: 5\nPart: {SENTENCE}; Price: Yes\nPart: 7; Price: 8\nPart: 9; Price: 10",
    ),
}


@pytest.mark.parametrize(("text", "lines"), SHEETS.values(), ids=SHEETS)
def test_rows_of_sheets_are_all_said_and_only_names_name_columns(text: str, lines: str | None) -> None:
    rows = [line.split("|") for line in text.rstrip("\n").split("\n")]
    wanted = ["; ".join(filter(None, row)) for row in rows] if lines is None else lines.rstrip("\n").split("\n")
    assert list(rows_to_lines(rows, chars=10_000)) == wanted
