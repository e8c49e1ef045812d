"""Grading of GSM8K answers: the released rule, and the one it should have been."""

import re

_NUMBER = re.compile(r"(?:(?<!\d)-)?\$?\d[\d,]*(?:\.\d+)?")  # the 5 of 10-5 is not negative


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
    value = float(found[-1].replace("$", "").replace(",", ""))
    return str(int(value)) if value == int(value) else repr(value)


def last_digits(text: str) -> str | None:
    """The last run of digits: what the released grader compares, so that ``$20.00`` becomes ``00``."""
    found = re.findall(r"\d+", text.replace(",", ""))
    return found[-1] if found else None
