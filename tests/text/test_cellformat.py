"""Number formats show what a spreadsheet program shows, and the value where they hide a part of it."""

import pytest

from airweave_server.text.celldate import serial_of
from airweave_server.text.cellformat import BUILT_IN, CellFormat, formats, plain_number

ACCOUNTING = '_(* #,##0.00_);_(* (#,##0.00);_(* "-"??_);_(@_)'


@pytest.mark.parametrize(
    ("code", "raw", "shown"),
    [
        ("General", "0.1", "0.1"),
        ("General", "1234567890123456", "1234567890123456"),
        ("General", "0.30000000000000004", "0.3"),
        ("0", "1.234567890123456E+15", "1234567890123456"),
        ("0", "12345678901234567890", "12345678901234567890"),
        ("0.00%", "0.1225", "12.25% (0.1225)"),
        ("0%", "1", "100% (1)"),
        ("00000", "1067", "01067 (1067)"),
        ('"ID-"000000', "42", "ID-000042 (42)"),
        ("000-00-0000", "123456789", "123-45-6789 (123456789)"),
        ("(###) ###-####", "5551234567", "(555) 123-4567 (5551234567)"),
        ("0.00", "3", "3.00"),
        ("0.00", "2.675", "2.68 (2.675)"),
        ("0.0", "2.25", "2.3 (2.25)"),
        ("0", "-0.2", "0 (-0.2)"),
        ("0.###", "5", "5."),
        (".00", "12.5", "12.50"),
        ("#,##0", "1234567", "1,234,567 (1234567)"),
        ("#,##0", "12", "12"),
        ("0,000.0", "7", "0,007.0 (7)"),
        ('0.0,,"M"', "12345678", "12.3M (12345678)"),
        ("#,##0.00 [$€-407]", "1234.5", "1,234.50 € (1234.5)"),
        ('"$"#,##0.00_);[Red]("$"#,##0.00)', "-1234.5", "($1,234.50) (-1234.5)"),
        ("$#,##0.00;-$#,##0.00", "-7.5", "-$7.50"),
        (ACCOUNTING, "0", "- (0)"),
        (ACCOUNTING, "-12", "(12.00)"),
        ("0.00E+00", "1234567", "1.23E+06 (1234567)"),
        ("0.00E+00", "0.000999999", "1.00E-03 (0.000999999)"),
        ("##0.0E+0", "12345", "12.3E+3 (12345)"),
        ("# ?/?", "2.75", "2 3/4 (2.75)"),
        ("# ?/?", "3", "3"),
        ("??/8", "0.375", "3/8 (0.375)"),
        ("[<1]0.0%;0", "0.5", "50.0% (0.5)"),
        ('[>=1000]0,"K";0', "12000", "12K (12000)"),
        ('[=1]"yes";[=0]"no";General', "1", "yes (1)"),
        ('0;-0;"none"', "0", "none (0)"),
        (";;;", "5", "5"),
        ("@", "42", "42"),
        ('General" kg"', "12.5", "12.5 kg"),
        ("0" * 300, "5", "5"),
        ("0.00", "not a number", "not a number"),
        ("0.00", "NaN", "NAN"),
    ],
)
def test_numbers(code: str, raw: str, shown: str) -> None:
    assert CellFormat(code).show(raw) == shown


@pytest.mark.parametrize(
    ("code", "raw", "shown"),
    [
        ("yyyy-mm-dd", "46353", "2026-11-27"),
        ("dd.mm.yyyy", "46353", "27.11.2026"),
        ("d mmmm yyyy", "46353", "27 November 2026"),
        ('yyyy"年"m"月"d"日"', "46353", "2026年11月27日"),
        ("m/d/yy", "46353.5", "11/27/26 (2026-11-27 12:00)"),
        ("dd/mm/yyyy", "46115", "03/04/2026 (2026-04-03)"),
        ("mmm-yy", "46353", "Nov-26 (2026-11-27)"),
        ("[$-407]d. mmmm yyyy", "46100", "19. March 2026 (2026-03-19)"),
        ("[$-409]dddd, mmmm d, yyyy", "46353", "Friday, November 27, 2026"),
        ("yyyy-mm-dd hh:mm:ss", "46353.999999999", "2026-11-28 00:00:00"),
        ("d/m/yyyy", "60", "29/2/1900 (1900-02-29)"),
        ("yyyy-mm-dd", "59", "1900-02-28"),
        ("h:mm", "0.604166666666667", "14:30"),
        ("h:mm AM/PM", "0.604166666666667", "2:30 PM"),
        ("h:mm", "0.6045", "14:30 (14:30:29)"),
        ("h:mm", "46353.5", "12:00 (2026-11-27 12:00)"),
        ("mm:ss.0", "0.00012345", "00:10.7"),
        ("[h]:mm", "1.0625", "25:30"),
        ("[h]:mm:ss", "1.0625", "25:30:00"),
        ("[h]:mm", "1.06267", "25:30 (25:30:15)"),
        ("[mm]:ss", "0.0521", "75:01"),
        ("[h]:mm", "-1.0625", "-25:30"),
        ("[h]:mm", "-1e300", "-1E+300"),
        ("yyyy-mm-dd", "-1", "-1"),
        ("yyyy-mm-dd", "1e300", "1E+300"),
        ("yyyy-mm-dd", "2958465", "9999-12-31"),
    ],
)
def test_dates_and_times(code: str, raw: str, shown: str) -> None:
    assert CellFormat(code).show(raw) == shown


def test_a_workbook_may_count_from_1904() -> None:
    assert CellFormat("yyyy-mm-dd").show("0", is_1904=True) == "1904-01-01"
    assert CellFormat("yyyy-mm-dd").show("44891", is_1904=True) == "2026-11-27"
    assert serial_of("2026-11-27T12:00:00", is_1904=True) == "44891.5"
    assert serial_of("2026-11-27") == "46353.0"
    assert serial_of("tomorrow") == "tomorrow"


def test_texts_have_a_section_of_their_own() -> None:
    assert CellFormat('"ID-"@').show_text("x") == "ID-x"
    assert CellFormat('0;0;0;"text: "@').show_text("x") == "text: x"
    assert CellFormat(";;;").show_text("x") == "x"
    assert CellFormat("0.00").show_text("x") == "x"


def test_formats_of_the_file_go_before_those_that_are_built_in() -> None:
    styles = formats({164: "0.0", 9: '0" percent"'}, [0, 164, 9, 10, 14, 999])
    assert [style.show("0.5") for style in styles] == [
        "0.5",
        "0.5",
        "1 percent (0.5)",
        "50.00% (0.5)",
        "1900-01-00 (1900-01-00 12:00)",
        "0.5",
    ]


@pytest.mark.parametrize("code", BUILT_IN.values())
@pytest.mark.parametrize("raw", ["0", "-1", "1.5", "46353.75", "1E+308", "-1E-300"])
def test_every_built_in_format_shows_something(code: str, raw: str) -> None:
    assert CellFormat(code).show(raw)


def test_numbers_keep_their_digits() -> None:
    assert plain_number("1E-7") == "0.0000001"
    assert plain_number("-1.2345E-5") == "-0.000012345"
    assert plain_number("1.23456789E-5") == "1.23456789E-05"
    assert plain_number("1E-10") == "1E-10"
    assert plain_number("1.5E+3") == "1500"
    assert plain_number(" 5 ") == "5"
    assert plain_number("1234567890123.25") == "1234567890123.25"
