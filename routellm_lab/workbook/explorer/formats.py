"""Figures as the explorer's readers see them; the page's script rounds in the same way."""

import math
from decimal import ROUND_HALF_UP, Decimal


def fixed(value: float, digits: int) -> str:
    """A number with a fixed number of digits, halves away from zero, as ``toFixed`` of JavaScript has it."""
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0  # + 0: no minus before a zero
    return f"{rounded:,f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in per cent."""
    return fixed(share * 100, 1) + " %"


def money(dollars: float) -> str:
    """US dollars, with cents where they matter."""
    return ("−$" if dollars < 0 else "$") + fixed(abs(dollars), 0 if abs(dollars) >= 100 else 2)


def digits_for(span: float) -> int:
    """Digits after the point that tell a hundredth of a span apart."""
    return min(max(0, 2 - math.floor(math.log10(span))), 9) if span > 0 else 3
