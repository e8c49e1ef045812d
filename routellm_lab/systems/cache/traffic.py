"""Simulated requests: some questions come again and again, in other words or with another number."""

import numpy as np
import pandas as pd

from routellm_lab.columns import flag_column, require_columns
from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.studies.robustness import perturb
from routellm_lab.systems.cache.texts import DIGITS

NEAR = ("polite preface", "filler", "translated word")
"""A near repeat is one of these perturbations, or none, and typos of its own: few are asked twice in the same words."""

_SEEDS = 1_000
_MOST_REQUESTS = 100_000_000


def zipf_stream(
    prompts: pd.Series,
    n: int,
    exponent: float = 1.0,
    near_share: float = 0.3,
    random_state: int = 0,
    changed_share: float = 0.0,
) -> pd.DataFrame:
    """Requests in which some questions come again and again: the k-th most popular with weight k ^ -exponent.

    Parameters
    ----------
    prompts : Series of str
        Questions by id. Which are popular is drawn.
    n : int
        Requests.
    exponent : float
        From 0 (all alike).
    near_share, changed_share : float
        Shares of the repeats that are asked in other words (see `NEAR`) and with another number in them, together at
        most 1; the others are exact repeats. A text without a word to misspell or without a number may stay one.
    random_state : int

    Returns
    -------
    DataFrame
        One row per request: ``prompt_id`` (of the question), ``prompt`` (as asked), ``repeat`` (whether the question
        came before), ``near`` (whether it is asked in other words) and ``changed`` (with another number, which makes it
        another question).

    Raises
    ------
    ParameterError
        When prompts are no Series, or a number cannot be used.
    DataError
        When there are no prompts.
    """
    if not isinstance(prompts, pd.Series):
        raise ParameterError(
            f"zipf_stream: prompts must be a Series by prompt id, such as log.prompts, got {type(prompts).__name__}"
        )
    require_number("zipf_stream: n", n, 1, _MOST_REQUESTS, whole=True)
    require_number("zipf_stream: exponent", exponent, 0)
    require_shares("zipf_stream", near_share, changed_share)
    if not len(prompts):
        raise DataError("zipf_stream: no prompts")
    rng, texts = np.random.default_rng(random_state), as_texts(prompts)
    weight = np.arange(1, len(texts) + 1, dtype=float) ** -exponent
    source = rng.permutation(len(texts))[rng.choice(len(texts), n, p=weight / weight.sum())]
    repeat, manner = pd.Series(source).duplicated().to_numpy(), rng.random(n)
    near = repeat & (manner < near_share)
    changed = repeat & ~near & (manner < near_share + changed_share)
    asked = reworded([texts[at] for at in source], near, changed, rng)
    other = np.array([text != texts[at] for text, at in zip(asked, source, strict=True)])
    stream = pd.DataFrame({"prompt_id": prompts.index[source], "prompt": pd.array(asked, dtype="str")})
    return stream.assign(repeat=repeat, near=near & other, changed=changed & other)


def traffic_shares(stream: pd.DataFrame) -> dict[str, float]:
    """``near_share`` and ``changed_share`` of a stream's requests, for `labelled_pairs`.

    The rest, exact repeats included, counts as new: a new question that is wrongly hit is not kept, and every repeat of
    it is a wrong hit again. With the share of first requests in its place the promise of a threshold would break.
    """
    require_columns(stream, ("near", "changed"), "stream")
    if stream.empty:
        raise DataError("stream: no requests")
    return {f"{kind}_share": float(flag_column(stream[kind], "stream").mean()) for kind in ("near", "changed")}


def reworded(texts: list[str], near: np.ndarray, changed: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Some of the texts in other words (see `NEAR`), some with another number, where they have one."""
    manner, seed = rng.integers(len(NEAR) + 1, size=len(texts)), rng.integers(_SEEDS, size=len(texts))
    out = list(texts)
    for row in np.flatnonzero(near).tolist():
        for name in (*NEAR[manner[row] : manner[row] + 1], "typos"):
            (out[row],) = perturb([out[row]], name, int(seed[row]))
    for row in np.flatnonzero(changed).tolist():
        text, ends = texts[row], [found.end() for found in DIGITS.finditer(texts[row])]
        if ends:
            end = ends[seed[row] % len(ends)]
            digit = (int(text[end - 1]) + int(rng.integers(1, 10))) % 10
            out[row] = f"{text[: end - 1]}{digit}{text[end:]}"
    return out


def require_shares(where: str, *shares: float) -> None:
    """Refuse what are no shares of together at most 1 (ParameterError)."""
    numbers = all(isinstance(share, (int, float, np.number)) and not isinstance(share, bool) for share in shares)
    if not numbers or not all(0 <= share <= 1 for share in shares) or not sum(shares) <= 1:
        raise ParameterError(
            f"{where}: near_share and changed_share must be shares of together at most 1, got {listed(shares)}"
        )
