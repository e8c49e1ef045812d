"""Grading of GSM8K answers: the released rule, and the one it should have been."""

import math
import re

_NUMBER = re.compile(r"(?:(?<!\d)-)?\$?\d[\d,]*(?:\.\d+)?")  # the 5 of 10-5 is not negative
_ANSWER_FIELD = re.compile(r'"answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^\n,}]*)')


def last_number(text: str) -> str | None:
    """The number after ``####``, else the last number of a text, in canonical form (``$1,200.50`` -> ``1200.5``).

    Returns
    -------
    str or None
        None when the text holds no number.
    """
    marked = _NUMBER.search(text.rsplit("####", 1)[1]) if "####" in text else None
    found = [marked.group()] if marked else _NUMBER.findall(text)
    if not found:
        return None
    digits = found[-1].replace("$", "").replace(",", "")
    value = float(digits)
    if not math.isfinite(value):  # hundreds of digits
        return digits
    return str(int(value)) if value == int(value) else repr(value)


def final_number(text: str) -> str | None:
    """The number that an answer ends in: of its last JSON field ``answer`` where it has one, else `last_number`.

    Many of ``gsm8k_models`` explain themselves after the field: the last number of the text alone reads one answer in
    nine of claude-3-5-haiku wrongly.
    """
    fields = _ANSWER_FIELD.findall(text)
    return (last_number(fields[-1]) if fields else None) or last_number(text)


def last_digits(text: str) -> str | None:
    """The last run of digits: what the released grader compares, so that ``$20.00`` becomes ``00``."""
    found = re.findall(r"\d+", text.replace(",", ""))
    return found[-1] if found else None
