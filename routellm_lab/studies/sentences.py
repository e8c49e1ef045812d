"""Words in the sentences of conclusions."""

from collections.abc import Iterable


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
