"""Numbers as Office shows them in lists (ST_NumberFormat, ECMA-376-1 17.18.59)."""

from collections.abc import Callable

MAX_REPEATED = 20  # of one letter, as in "aaa" for 53
NO_BULLET = ("bullet", "none")


def format_number(number: int, form: str) -> str:
    """The number in a format such as "lowerRoman"; in figures if the format is unknown."""
    if form in NO_BULLET:
        return ""
    make = _FORMATS.get(form)
    return (make(number) if make is not None and number > 0 else "") or str(number)


def roman(number: int) -> str:
    """In capital letters; "" above 3999."""
    if number > 3999:
        return ""
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text


_ROMAN = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def _letters(alphabet: str) -> Callable[[int], str]:
    """A, B, …, Z, AA, BB, …"""

    def make(number: int) -> str:
        times, place = divmod(number - 1, len(alphabet))
        return alphabet[place] * (times + 1) if times < MAX_REPEATED else ""

    return make


def _figures(digits: str) -> Callable[[int], str]:
    """The digits of another script in place of ours."""
    table = str.maketrans("0123456789", digits)
    return lambda number: str(number).translate(table)


def _ordinal(number: int) -> str:
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _words(number: int) -> str:
    """In English words: "twenty-one"; "" above 999."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_UNITS[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" {_words(number % 100)}" if number % 100 else ""
        return f"{_UNITS[number // 100]} hundred{rest}"
    return ""


def _ordinal_words(number: int) -> str:
    text = _words(number)
    start, cut, last = text.rpartition("-") if "-" in text else text.rpartition(" ")
    ending = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{start}{cut}{ending}" if text else ""


_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def _chinese(digits: str, tens: str) -> Callable[[int], str]:
    """Chinese numerals up to 9999. ``tens``: ten, hundred and thousand."""

    def make(number: int) -> str:
        if number > 9999:
            return ""
        text, is_gap = "", False
        for power in (3, 2, 1, 0):
            digit = number // 10**power % 10
            if digit:
                text += (digits[0] if is_gap and text else "") + digits[digit] + (tens[power - 1] if power else "")
            is_gap = not digit
        one = digits[1] + tens[0]
        return text[1:] if 10 <= number < 20 and text.startswith(one) else text

    return make


def _enclosed(first: int, last: int) -> Callable[[int], str]:
    return lambda number: chr(first + number - 1) if number <= last else ""


def _hebrew(number: int) -> str:
    if number > 999:
        return ""
    text = ""
    for value, letter in _HEBREW:
        if number in (15, 16):
            return text + {15: "טו", 16: "טז"}[number]
        while number >= value:
            text += letter
            number -= value
    return text


_HEBREW = tuple(
    zip(
        (400, 300, 200, 100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1),
        "תשרקצפעסנמלכיטחזוהדגבא",
        strict=True,
    )
)
_IDEOGRAPHS = "〇一二三四五六七八九"
_CHINESE = _chinese(_IDEOGRAPHS, "十百千")
_LEGAL = _chinese("零壹贰叁肆伍陆柒捌玖", "拾佰仟")
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RUSSIAN = "АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЫЭЮЯ"
_FORMATS: dict[str, Callable[[int], str]] = {
    "decimal": str,
    "upperRoman": roman,
    "lowerRoman": lambda number: roman(number).lower(),
    "upperLetter": _letters(_CAPITALS),
    "lowerLetter": _letters(_CAPITALS.lower()),
    "ordinal": _ordinal,
    "cardinalText": lambda number: _words(number).capitalize(),
    "ordinalText": lambda number: _ordinal_words(number).capitalize(),
    "decimalZero": lambda number: f"{number:02}",
    "hex": lambda number: f"{number:X}",
    "chicago": _letters("*†‡§"),
    "numberInDash": lambda number: f"- {number} -",
    "decimalFullWidth": _figures("０１２３４５６７８９"),
    "decimalFullWidth2": _figures("０１２３４５６７８９"),
    "decimalEnclosedCircle": _enclosed(0x2460, 20),
    "decimalEnclosedCircleChinese": _enclosed(0x2460, 20),
    "decimalEnclosedParen": _enclosed(0x2474, 20),
    "decimalEnclosedFullstop": _enclosed(0x2488, 20),
    "ideographEnclosedCircle": _enclosed(0x3280, 10),
    "ideographDigital": _figures(_IDEOGRAPHS),
    "japaneseDigitalTenThousand": _figures(_IDEOGRAPHS),
    "taiwaneseDigital": _figures(_IDEOGRAPHS),
    "chineseCounting": _CHINESE,
    "chineseCountingThousand": _CHINESE,
    "japaneseCounting": _CHINESE,
    "taiwaneseCounting": _CHINESE,
    "taiwaneseCountingThousand": _CHINESE,
    "ideographLegalTraditional": _LEGAL,
    "chineseLegalSimplified": _LEGAL,
    "japaneseLegal": _LEGAL,
    "koreanDigital": _figures("영일이삼사오육칠팔구"),
    "koreanCounting": _chinese("영일이삼사오육칠팔구", "십백천"),
    "ganada": _letters("가나다라마바사아자차카타파하"),
    "chosung": _letters("ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"),
    "aiueo": _letters("ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜｦﾝ"),
    "aiueoFullWidth": _letters(
        "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
    ),
    "iroha": _letters("ｲﾛﾊﾆﾎﾍﾄﾁﾘﾇﾙｦﾜｶﾖﾀﾚｿﾂﾈﾅﾗﾑｳヰﾉｵｸﾔﾏｹﾌｺｴﾃｱｻｷﾕﾒﾐｼヱﾋﾓｾｽ"),
    "irohaFullWidth": _letters(
        "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセス"
    ),
    "ideographTraditional": _letters("甲乙丙丁戊己庚辛壬癸"),
    "ideographZodiac": _letters("子丑寅卯辰巳午未申酉戌亥"),
    "russianUpper": _letters(_RUSSIAN),
    "russianLower": _letters(_RUSSIAN.lower()),
    "hebrew1": _hebrew,
    "hebrew2": _letters("אבגדהוזחטיכלמנסעפצקרשת"),
    "arabicAlpha": _letters("أبتثجحخدذرزسشصضطظعغفقكلمنهوي"),
    "arabicAbjad": _letters("أبجدهوزحطيكلمنسعفصقرشتثخذضظغ"),
    "thaiNumbers": _figures("๐๑๒๓๔๕๖๗๘๙"),
    "thaiLetters": _letters("กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ"),
    "hindiNumbers": _figures("०१२३४५६७८९"),
}
