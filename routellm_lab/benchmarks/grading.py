"""Reading the final number of an answer: for GSM8K's grading and for votes on answers."""

import re
from decimal import Decimal, localcontext

# the 5 of 10-5 is not negative, nor is the 3 of "step-3"; digits and commas are taken apart in `_canonical`
_NUMBER_PATTERN = r"(?:(?<![\w)\]])[-−])?\\?[$€£¥]?(?:\d[\d,]*+(?:\.\d++)?+|(?<!\w)\.\d++)(?:[eE][+-]?\d{1,3}(?!\w))?+"
_NUMBER = re.compile(_NUMBER_PATTERN)
_ANSWER_FIELD = re.compile(r'"answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^\n,}]*)')
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
_LATEX_COMMA = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!,|,\\!)(?=\d{3})")

_SAYS = r"(?:the\s+)?(?:final\s+)?answer(?:\s+is)?"
_FILLER = r"[\s:=*_`~(\[\\]*+(?:(?:about|approximately|exactly|therefore|thus|roughly|simply|usd|rs\.?)[\s:*]++)?+"
_CHAIN = rf"{_NUMBER_PATTERN}(?:\s*[-+*/×÷=]\s*{_NUMBER_PATTERN})*+"
_HASHES = re.compile(
    rf"(?<!#)####(?!#){_FILLER}(?:{_SAYS}{_FILLER})?({_NUMBER_PATTERN})(?![.):]\s+[^\W\d])", re.IGNORECASE
)
_STATED = re.compile(rf"\banswer(?:\s+is\b|\W{{0,3}}[:=]){_FILLER}({_CHAIN})", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*+\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*+\})*+\})*+)\}")
_LATEX_FRACTION = re.compile(r"(?<!\d)\\[dt]?frac\s*+\{([^{}]*+)\}\s*+\{([^{}]*+)\}")
_FRACTION = re.compile(rf"[\s$(]*+({_NUMBER_PATTERN})\s*+/\s*+({_NUMBER_PATTERN})[\s$).]*+")


def final_number(text: str) -> str | None:
    """The number that an answer ends in, in canonical form; None when it holds no number.

    The first of these that is there: the number in its last JSON field ``answer``; the last that is marked as the
    answer, by ``####``, by ``\\boxed{}`` or in words ("The answer is 10.", "Answer: **10**"); the last number. A
    mark around a fraction alone is its quotient: ``\\boxed{-3/4}`` and ``\\boxed{-\\frac{3}{4}}`` are ``-0.75``.

    ``####`` also begins a heading in Markdown: one that is followed by other words (``#### Step 1``), or by a number in
    front of them (``#### 1. Add``), marks no answer.

    Many of ``gsm8k_models`` explain themselves after the field: the last number of the text alone reads one answer in
    nine of claude-3-5-haiku wrongly.
    """
    fields = _ANSWER_FIELD.findall(text)
    return (_marked(fields[-1]) if fields else None) or _marked(text)


last_number = final_number
"""The name of `final_number` in version 0.1."""


def _marked(text: str) -> str | None:
    text = _LATEX_COMMA.sub(",", text)
    marks = [mark for pattern in (_HASHES, _STATED, _BOXED) for mark in pattern.finditer(text)]
    for mark in sorted(marks, key=lambda mark: mark.start(), reverse=True):
        number = _quotient(mark.group(1)) or _last(mark.group(1))
        if number is not None:
            return number
    return _last(text)


def _quotient(text: str) -> str | None:
    fraction = _FRACTION.fullmatch(_LATEX_FRACTION.sub(r"\1/\2", text))
    if fraction is None:
        return None
    over, under = (Decimal(_canonical(number)) for number in fraction.groups())
    with localcontext(prec=28):
        return _canonical(f"{over / under:f}") if under else None


def _last(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return _canonical(found[-1]) if found else None


def _canonical(number: str) -> str:
    """``-$1,200.50`` as ``-1200.5``; of numbers with commas between that are no thousands, the last."""
    number = re.sub(r"[\\$€£¥]", "", number).replace("−", "-").rstrip(",")
    whole, point, rest = number.partition(".")
    if "," in whole:
        grouped = _GROUPED.fullmatch(whole.removeprefix("-"))
        whole = whole.replace(",", "") if grouped else whole.rpartition(",")[2]
    value = f"{Decimal(whole + point + rest):f}"
    value = value.rstrip("0").rstrip(".") if "." in value else value
    negative = value.startswith("-")
    value = value.removeprefix("-").lstrip("0")
    value = f"0{value}" if not value or value.startswith(".") else value
    return f"-{value}" if negative and value != "0" else value
