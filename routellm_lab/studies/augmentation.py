"""What can replace people's votes, in sentences: the conclusion of notebook 02."""

import pandas as pd

from routellm_lab.evaluation import Correlation, Estimate, share_interval
from routellm_lab.judging import Agreement
from routellm_lab.studies.contamination import CopiesEffect
from routellm_lab.studies.judge_noise import JUDGE, PEOPLE

FEW_COPIES = 10
"""Near copies below which their effect on a router is not reported as a finding."""
MOST_LOST = 0.5
"""Share of the achievable gain: votes that may lose more are no replacement."""


def tie_estimate(gold: pd.DataFrame) -> Estimate:
    """Share of gold labels that are ties, with Clopper and Pearson's interval."""
    ties = int((gold["winner"] == "tie").sum())
    return Estimate(ties / len(gold), *share_interval(ties, len(gold)))


def augmentation_sentences(
    gold: pd.DataFrame,
    judge: Agreement,
    biases: pd.DataFrame,
    lost: pd.DataFrame,
    effect: CopiesEffect,
    related: Correlation,
) -> list[str]:
    """What replaces people's votes, how well, and what to check.

    Parameters
    ----------
    gold : DataFrame
        The gold labels, as battles.
    judge : Agreement
        Of people and the judge.
    biases : DataFrame
        Made by `bias_table`.
    lost : DataFrame
        Made by `votes_lost`.
    effect : CopiesEffect
    related : Correlation
        Of similarity and APGR over domains.

    Returns
    -------
    list of str
        Five; the first is the decision.
    """
    worst, same = _worst(lost, JUDGE), _worst(lost, PEOPLE)
    loss, noise = (Estimate(row["lost"], row["low"], row["high"]) for row in (worst, same))
    elsewhere = "a judge's votes" if loss.high < MOST_LOST else "do not replace people's votes by a judge's"
    agree, kappa = (
        Estimate(judge.share, judge.low, judge.high),
        Estimate(judge.kappa, judge.kappa_low, judge.kappa_high),
    )
    ties = tie_estimate(gold)
    return [
        f"Use grades where answers can be graded, and {elsewhere} elsewhere. With a simulated judge's votes a router "
        f"lost up to {loss:.0%} of the achievable gain ({_words(worst)}), with other people's votes up to "
        f"{noise:.0%}.",
        f"Label many questions: {ties:.0%} of {len(gold):,} labels from grades are ties, which say little about which "
        "model a question needs.",
        f"The judge agrees with people on {agree:.0%} of {judge.n:,} votes, kappa {kappa:.2f} (0 is chance). "
        + _bias_sentence(biases),
        _copies_sentence(effect),
        _similarity_sentence(related),
    ]


def _worst(lost: pd.DataFrame, who: str) -> dict:
    rows = lost[lost["who"] == who].sort_values("lost")
    return rows.to_dict("records")[-1]


def _words(row: dict) -> str:
    return str(row["router"]).replace("_", " ")


def _bias_sentence(biases: pd.DataFrame) -> str:
    parts = []
    for row in biases.to_dict("records"):
        more = Estimate(row["difference"], row["low"], row["high"])
        sure = "not significantly" if row["low"] <= 0 <= row["high"] else "significantly"
        answer = row["preference"].removeprefix("for ")
        parts.append(f"{answer} {sure} {'less' if row['difference'] < 0 else 'more'} than people do ({more:+.2f})")
    return f"It prefers {' and '.join(parts)}; tests uncorrected."


def _copies_sentence(effect: CopiesEffect) -> str:
    if effect.copies < FEW_COPIES:
        return (
            f"Always decontaminate. Here only {effect.copies} gold labels are near copies of evaluated questions, too "
            "few to measure their effect."
        )
    difference = effect.difference
    change = Estimate(difference.difference, difference.low, difference.high)
    sure = "significantly" if not difference.low <= 0 <= difference.high else "not significantly"
    return (
        f"Always decontaminate: {effect.copies} gold labels on near copies of evaluated questions change APGR on MMLU "
        f"by {change:+.3f}, compared with as many other labels ({sure} different from 0)."
    )


def _similarity_sentence(related: Correlation) -> str:
    rho = Estimate(related.rho, related.low, related.high)
    if related.low <= 0 <= related.high:
        verdict = "Do not choose votes by similarity alone: over domains it has no clear relation to APGR"
    elif related.rho > 0:
        verdict = "Choose votes that are close to your prompts: closeness to the votes predicts a higher APGR"
    else:
        verdict = "Do not choose votes by similarity alone: closeness to the votes predicts a lower APGR here"
    return f"{verdict} (rank correlation {rho:.2f}, {related.n} domains)."
