"""What an encoder hardly sees of a request: numbers, units, negations, indentation, the order of words."""

import re
from collections import Counter

from routellm_lab.preferences.battles import prompt_key

DIGITS = re.compile(r"\d+")
_SIGNS = str.maketrans("−–×÷", "--*/")
_SIGN = r"[-+*/^=<>≤≥≠√~%$€£¥₹°]"
_NUMBER = re.compile(rf"(?:{_SIGN}\s*)*\d+(?:[.,]\d+)*(?:\s*{_SIGN})*")
_THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
_UNITS = {
    spelling: spellings.split()[0]
    for spellings in (
        "mm millimeter millimeters millimetre millimetres",
        "cm centimeter centimeters centimetre centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometre kilometres kms",
        "inch inches",
        "ft foot feet",
        "yd yard yards",
        "mile miles mi",
        "mg milligram milligrams",
        "g gram grams",
        "kg kilogram kilograms kilo kilos kgs",
        "oz ounce ounces",
        "lb lbs pound pounds",
        "ton tons tonne tonnes",
        "ml milliliter milliliters millilitre millilitres",
        "l liter liters litre litres",
        "gallon gallons gal",
        "pint pints",
        "cup cups",
        "ms millisecond milliseconds",
        "s second seconds sec secs",
        "min minute minutes mins",
        "h hour hours hr hrs",
        "day days",
        "week weeks",
        "month months",
        "year years yr yrs",
        "c celsius",
        "f fahrenheit",
        "k kelvin",
        "percent",
        "degree degrees",
        "radian radians",
        "cent cents",
        "dollar dollars usd",
        "euro euros eur",
        "gbp",
        "yen jpy",
        "kb kilobyte kilobytes",
        "mb megabyte megabytes",
        "gb gigabyte gigabytes",
        "tb terabyte terabytes",
        "am",
        "pm",
    )
    for spelling in spellings.split()
}
_WITH_UNIT = re.compile(r"\d\s*°?\s*([a-z]+)\b")
NEGATION = re.compile(r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|except|\w+n['’]t)\b")
_INDENTED = re.compile(r"\n([ \t]+)(?=\S)")
_WORD = re.compile(r"\w+")
_MOST_NEW = 0.2


def exact_key(text: str) -> str:
    """Equal for requests that are the same but for case and white space, the indentation of lines excepted."""
    indented = indents(text)
    return f"{prompt_key(text)} {indented}" if indented else prompt_key(text)


def indents(text: str) -> tuple[tuple[int, int], ...]:
    """Each indented line behind the first: its number among those with text, and its indentation."""
    if not _INDENTED.search(text):
        return ()
    lines = [line.expandtabs() for line in text.strip().splitlines() if line.strip()]
    widths = [len(line) - len(line.lstrip()) for line in lines]
    return tuple((number, width) for number, width in enumerate(widths) if width and number)


def numbers(text: str) -> tuple[str, ...]:
    """The numbers of a text with the signs and operators beside them, without white space and thousands separators."""
    return tuple(_THOUSANDS.sub("", "".join(found[0].split())) for found in _NUMBER.finditer(text.translate(_SIGNS)))


def other_units(text: str, other: str) -> bool:
    """Whether a number has a unit in one text and another one in the other; both have the same numbers."""
    units = [[_UNITS.get(word) for word in _after_numbers(each.lower())] for each in (text, other)]
    return any(one != two and one and two for one, two in zip(*units, strict=False))


def _after_numbers(text: str) -> list[str]:
    """The word behind each number, empty where there is none."""
    return [word[1] if (word := _WITH_UNIT.match(text, number.end() - 1)) else "" for number in DIGITS.finditer(text)]


def exchanged(text: str, other: str) -> bool:
    """Whether nearly all words of one text are in the other, in another order."""
    one, two = _WORD.findall(text.lower()), _WORD.findall(other.lower())
    counts, others = Counter(one), Counter(two)
    if (counts & others).total() < (1 - _MOST_NEW) * min(len(one), len(two)):
        return False
    once = {word for word, count in counts.items() if count == others[word] == 1}
    return [word for word in one if word in once] != [word for word in two if word in once]
