"""What pair-only routers learn from: the votes between a strong and a weak side, as prompts, results and weights."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.battles import models_of, results_between, vote_weights
from routellm_lab.preferences.models import ModelPair, find_model, judges_of, known_judge, resolve_pair
from routellm_lab.preferences.ratings import Tiers, fit_tiers


@dataclass(frozen=True)
class PairVotes:
    """Turns votes into training prompts for one pair of models (section 4.1 of the paper).

    The parameters of `RidgeRouter` by the same names, which hand them over.

    Parameters
    ----------
    pair : ModelPair
    tiers : Tiers, optional
        By default fitted on the votes of one judge (see `tier_votes`).
    n_tiers : int
        Of the tiers that are fitted.
    strong_tiers : sequence of int, optional
        By default all tiers down to the strong model's.
    weak_tiers : sequence of int or "below", optional
        By default the weak model's tier; ``"below"``: that one and all below it.
    stand_ins : mapping, optional
        By default `routellm_lab.preferences.STAND_INS`.
    """

    pair: ModelPair
    tiers: Tiers | None = None
    n_tiers: int = 10
    strong_tiers: Sequence[int] | None = None
    weak_tiers: Sequence[int] | str | None = None
    stand_ins: Mapping[str, Iterable[str]] | None = None

    def resolve(self, battles: pd.DataFrame, used: ModelPair) -> tuple[Tiers, ModelPair]:
        """The tiers of all voted models, and the pair as the tiers know it (``used``: as the votes do)."""
        tiers = self.tiers
        if tiers is None:
            source, votes = tier_votes(battles, self.pair, self.stand_ins)
            known = resolve_pair(self.pair, models_of(votes), self.stand_ins)
            tiers = fit_tiers(votes, self.n_tiers, source=source, pair=known)
        tiers = tiers.including(models_of(battles), self.stand_ins)
        if any(name not in tiers.tier for name in (used.strong, used.weak)):
            used = resolve_pair(self.pair, tiers.tier, self.stand_ins)
        return tiers, used

    def sides(self, tiers: Tiers, used: ModelPair) -> tuple[list[str], list[str]]:
        """The models of the strong and of the weak side."""
        strong, weak = tiers.pair(used)
        known = set(tiers.tier.values())
        strong_tiers = range(strong + 1) if self.strong_tiers is None else tuple(self.strong_tiers)
        weak_tiers: Sequence[Any] = (weak,) if self.weak_tiers is None else tuple(self.weak_tiers)
        if isinstance(self.weak_tiers, str):
            if self.weak_tiers != "below":
                raise ParameterError(f"weak_tiers must be 'below', numbers of tiers or None, got {self.weak_tiers!r}")
            weak_tiers = tuple(tier for tier in known if tier >= weak)
        for name, chosen in (("strong_tiers", strong_tiers), ("weak_tiers", weak_tiers)):
            if not chosen or not set(chosen) <= known:
                raise ParameterError(f"{name}: the tiers of {tiers.source!r} are {sorted(known)}, got {chosen!r}")
        if max(strong_tiers) >= min(weak_tiers):
            raise ParameterError(
                f"strong_tiers {listed(strong_tiers)} must all be above (have lower numbers than) weak_tiers "
                f"{listed(weak_tiers)}"
            )
        strong_models = [model for model, tier in tiers.tier.items() if tier in strong_tiers]
        return strong_models, [model for model, tier in tiers.tier.items() if tier in weak_tiers]

    @staticmethod
    def table(
        battles: pd.DataFrame, strong: list[str], weak: list[str], source: str, within: Sequence[str] = ()
    ) -> tuple[pd.DataFrame, int, list[str]]:
        """The votes between two sides as one row per distinct prompt of each value of the columns ``within``.

        Returns
        -------
        table : DataFrame
            ``prompt_key``, ``prompt``, shares of the votes on it that are ``strong`` wins, ``tie`` and ``weak`` wins,
            and their total ``weight``.
        n_votes : int
        sources : list of str

        Raises
        ------
        DataError
            When there is no such vote; names the ``source`` of the tiers.
        """
        won = results_between(battles, strong, weak)
        rows = won.index
        if won.empty:
            raise DataError(
                f"no vote between the strong tiers ({listed(strong)}) and the weak tiers ({listed(weak)}) of "
                f"{source!r}; use other votes or tiers"
            )
        sources = sorted(battles.loc[rows, "source"].dropna().unique()) if "source" in battles else []
        weight = vote_weights(battles.loc[rows])
        votes = battles.loc[rows, [*within, "prompt_key", "prompt"]].assign(
            strong=weight * (won == 1), tie=weight * (won == 0.5), weak=weight * (won == 0), weight=weight
        )
        per_prompt = votes.groupby([*within, "prompt_key"], sort=False).agg(
            {"prompt": "first", "strong": "sum", "tie": "sum", "weak": "sum", "weight": "sum"}
        )
        results = ["strong", "tie", "weak"]
        per_prompt[results] = per_prompt[results].div(per_prompt["weight"], axis=0)
        return per_prompt.reset_index(), len(won), sources


def tier_votes(
    battles: pd.DataFrame, pair: ModelPair, stand_ins: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, pd.DataFrame]:
    """The votes of the one judge that tiers are read from when none are named: judges are never pooled.

    Of the judges who saw both models of the pair (or stand-ins), the one with more of the pair's own names, then with
    more models, then with more votes; a judge of only two models (gold labels) comes last. People are one judge,
    whatever the ids of the voters are, as are votes that do not name who judged (see `preferences.judges_of`). A
    warning names the judge where less than half of the votes are used and the judges may be people.

    Returns
    -------
    name : str
        The judge and its sources.
    votes : DataFrame

    Raises
    ------
    DataError
        When no judge saw both models.
    """
    if "judge" not in battles:
        return battles.attrs.get("name", "the votes given"), battles
    candidates = []
    judges = judges_of(battles)
    for judge, votes in battles.groupby(judges, sort=True):
        models = models_of(votes)
        try:
            used = {find_model(name, models, stand_ins) for name in (pair.strong, pair.weak)}
        except ParameterError:
            continue
        if len(used) == 2:
            own = len({pair.strong, pair.weak} & set(models))
            candidates.append(((len(models) > 2, own, len(models), len(votes)), str(judge), votes))
    if not candidates:
        raise DataError(
            f"no single judge saw both {pair.strong!r} and {pair.weak!r} (or stand-ins); pass tiers=fit_tiers(...) of "
            f"a set that did. Judges: {listed(sorted(judges.unique()))}"
        )
    _, judge, votes = max(candidates, key=lambda candidate: candidate[:2])
    by_name = judges[~judges.isin(models_of(battles)) & ~judges.map(known_judge)]
    if judge in by_name.values and len(votes) < len(by_name) / 2:
        warnings.warn(
            f"the tiers are read from the {len(votes):,} votes of judge {judge!r} alone, of {len(by_name):,} by "
            f"{by_name.nunique()} judges: {listed(sorted(by_name.unique()), 5)}. If they are people, set judge='human'",
            UserWarning,
            stacklevel=3,
        )
    sources = listed(sorted(votes["source"].dropna().astype(str).unique()), 3) if "source" in votes else ""
    return f"{judge} on {sources or 'all votes'}", votes
