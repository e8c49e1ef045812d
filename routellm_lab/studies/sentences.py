"""Words in the sentences of conclusions."""

from collections.abc import Iterable

from routellm_lab.evaluation.verdict import Estimate


def joined(parts: Iterable[str], last: str = "and") -> str:
    """Words as a list in a sentence.

    Parameters
    ----------
    parts : iterable of str
    last : str
        The word before the last part.

    Examples
    --------
    >>> joined(["MMLU", "GSM8K", "MT Bench"])
    'MMLU, GSM8K and MT Bench'
    >>> joined(["MMLU", "GSM8K"], "or")
    'MMLU or GSM8K'
    """
    words = list(parts)
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def difference_words(difference: Estimate, p_value: float) -> str:
    """A difference with its sign, its interval and its p-value, as it stands in a sentence.

    Parameters
    ----------
    difference : Estimate
    p_value : float

    Examples
    --------
    >>> difference_words(Estimate(0.019, -0.0001, 0.039), 0.05)
    '+0.019 [0.000, +0.039], p = 0.050'
    """
    numbers = [f"{number:+.3f}" for number in difference]
    value, low, high = ("0.000" if number in ("+0.000", "-0.000") else number for number in numbers)
    return f"{value} [{low}, {high}], {p_value_words(p_value)}"


def p_value_words(p_value: float) -> str:
    """A p-value in a sentence.

    Examples
    --------
    >>> p_value_words(0.0421), p_value_words(0.00002)
    ('p = 0.042', 'p < 0.001')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
