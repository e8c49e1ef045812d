"""Copies of evaluated questions among the votes, and how close votes are to what is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes, outcome_names
from routellm_lab.encoders import make_encoder
from routellm_lab.evaluation import Comparison, RoutingCurve, apgr_by_group, evaluate, paper_other_tables
from routellm_lab.preferences import ModelPair, battles_from_outcomes, decontaminate, largest_cosine
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies.training_sets import TrainingSets

PRO, PRO_STRONG = "mmlu_pro", "gpt-4o-2024-05-13"
LARGEST_SD = 0.15
"""Spread of a random router from which on the APGR of a domain says nothing."""


def dropped_table(sets: TrainingSets) -> pd.DataFrame:
    """Votes that decontamination left out: one row per ``training`` set and benchmark (``evaluation``), a column per
    rule."""
    dropped = pd.concat(sets.dropped, names=["training"]).reset_index(level=0)
    counts = dropped.groupby(["training", "evaluation", "rule"])["votes"].sum()
    table = counts.unstack("rule", fill_value=0).reset_index()
    return table.rename_axis(columns=None)


@dataclass(frozen=True)
class CopiesEffect:
    """What near copies of evaluated questions do for a router. Made by `copies_effect`.

    Attributes
    ----------
    curves : dict of str to RoutingCurve
        With all gold labels (``all labels``), without the copies (``without near copies``), and without the same
        number of labels that are no copies (``without as many other labels``).
    difference : Comparison
        APGR without other labels minus that without the near copies.
    copies : int
        Gold labels on near copies.
    by_subject : DataFrame
        ``subject``, ``copies``, most first.
    """

    curves: dict[str, RoutingCurve]
    difference: Comparison
    copies: int
    by_subject: pd.DataFrame

    def to_frame(self, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
        """One row per fit: ``trained on``, ``apgr``, ``low``, ``high``."""
        rows = [(name, curve.apgr, *curve.interval("apgr", bootstrap)) for name, curve in self.curves.items()]
        return pd.DataFrame(rows, columns=["trained on", "apgr", "low", "high"])


def copies_effect(
    sets: TrainingSets, router: Any, pair: ModelPair, bootstrap: Bootstrap = Bootstrap(), random_state: int = 0
) -> CopiesEffect:
    """The same router with and without gold labels on near copies of evaluated MMLU questions.

    Fewer labels alone could lower the result. So a third fit leaves out as many other gold labels, drawn at random.

    Parameters
    ----------
    sets : TrainingSets
    router : Router
        Not fitted; it is fitted three times.
    pair : ModelPair
    bootstrap : Bootstrap
        Of the evaluated questions.
    random_state : int
        Of the other labels.
    """
    mmlu, evaluated = sets.benchmarks["mmlu"], sets.evaluations["mmlu"]
    given, kept = sets.given["arena+gold"], set(sets.clean["arena+gold"]["prompt_key"])
    gold, clean = given["judge"] == "gold", given["prompt_key"].isin(kept)
    copies, others = given[gold & ~clean], given[gold & clean]
    others = others.sample(min(len(copies), len(others)), random_state=random_state)
    votes = {
        "all labels": given,
        "without as many other labels": given.drop(others.index),
        "without near copies": given.drop(copies.index),
    }
    curves = {name: evaluate(router.fit(part), evaluated, pair) for name, part in votes.items()}
    difference = curves["without as many other labels"].compare(curves["without near copies"], bootstrap=bootstrap)
    subject = pd.Series(mmlu.groups.to_numpy(), mmlu.keys).groupby(level=0).first()
    counts = copies["prompt_key"].map(subject).value_counts().rename("copies").rename_axis("subject").reset_index()
    return CopiesEffect(curves, difference, len(copies), counts)


def second_benchmark(
    data: str, sets: TrainingSets, pair: ModelPair
) -> tuple[Outcomes, ModelPair, pd.DataFrame, pd.DataFrame]:
    """MMLU-Pro without the questions that MMLU asks too; where a data root has none, GSM8K.

    Parameters
    ----------
    data : str
    sets : TrainingSets
    pair : ModelPair

    Returns
    -------
    outcomes : Outcomes
    models : ModelPair
        Of the benchmark: GPT-4o and the weak model, or the pair itself.
    overlap : DataFrame
        Questions of MMLU-Pro that `decontaminate` finds in MMLU, by ``rule``; no rows for GSM8K.
    counts : DataFrame
        One row: ``benchmark``, ``questions``, ``left_out``.
    """
    models, empty = ModelPair(PRO_STRONG, pair.weak), pd.DataFrame({"rule": [], "questions": []})
    gsm8k = sets.evaluations["gsm8k"]
    neither = gsm8k, pair, empty, pd.DataFrame({"benchmark": [gsm8k.name], "questions": [len(gsm8k)], "left_out": [0]})
    if PRO not in outcome_names(data) or data == "sample":
        return neither
    pro = load_outcomes(PRO, data=data)
    if not {models.strong, models.weak} <= set(pro.models) or pro.details is None:
        return neither
    votes = battles_from_outcomes(pro, models)
    clean, dropped = decontaminate(votes, sets.benchmarks["mmlu"])
    assert not clean["overlaps_mmlu"].any(), "a question of MMLU is left"
    overlap = dropped.groupby("rule")["votes"].sum().rename("questions").reset_index()
    counts = pd.DataFrame({"benchmark": [PRO], "questions": [len(votes)], "left_out": [len(votes) - len(clean)]})
    return pro.select(~pro.details["overlaps_mmlu"].to_numpy(bool)), models, overlap, counts


def similarity_table(sets: TrainingSets, encoder: str = "static") -> pd.DataFrame:
    """How close the votes of each training set are to each benchmark: the paper's Table 5.

    Returns
    -------
    DataFrame
        ``training``, ``benchmark``, ``similarity`` (mean over the benchmark's prompts of the cosine to the closest
        training prompt) and ``paper`` (the printed value, of another encoder).
    """
    embed = make_encoder(encoder)
    printed = paper_other_tables().query("table == '5 similarity'").set_index(["column", "row"])["value"]
    rows = []
    for training, votes in sets.clean.items():
        for name, outcomes in sets.evaluations.items():
            cosine = largest_cosine(outcomes.prompts, votes["prompt"].dropna(), embed).mean()
            paper = float(printed.get((training, name), float("nan")))
            rows.append({"training": training, "benchmark": name, "similarity": cosine, "paper": paper})
    return pd.DataFrame(rows)


def domain_similarity(
    router: Any, votes: pd.DataFrame, benchmarks: Sequence[tuple[Outcomes, ModelPair]], encoder: str = "static"
) -> pd.DataFrame:
    """Per domain of some benchmarks: how close its questions are to the votes, and how well the router does.

    Parameters
    ----------
    router : Router
        Fitted.
    votes : DataFrame
        That it was trained on.
    benchmarks : list of (Outcomes, ModelPair)
    encoder : str

    Returns
    -------
    DataFrame
        One row per ``group`` of at least a hundred questions on which a random router spreads less than `LARGEST_SD`:
        as `apgr_by_group`, with ``similarity`` and ``benchmark``.
    """
    embed, frames = make_encoder(encoder), []
    for outcomes, pair in benchmarks:
        domains = apgr_by_group(evaluate(router, outcomes, pair), outcomes.groups).set_index("group")
        closest = largest_cosine(outcomes.prompts, votes["prompt"], embed)
        domains["similarity"] = pd.Series(closest, outcomes.prompts.index).groupby(outcomes.groups).mean()
        frames.append(domains.reset_index().assign(benchmark=outcomes.name))
    return pd.concat(frames, ignore_index=True).query("random_sd < @LARGEST_SD")


def similarity_title(correlation: Any) -> str:
    """The finding of a figure of domains: whether a router does better where its votes are closer."""
    ends = f"{correlation.rho:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"
    if correlation.low > 0:
        return f"The router does better in domains close to its votes: correlation {ends}"
    if correlation.high < 0:
        return f"The router does worse in domains close to its votes: correlation {ends}"
    return f"APGR has no clear relation to similarity: rank correlation {ends}"
