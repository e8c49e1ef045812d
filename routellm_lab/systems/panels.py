"""Panels of models that all answer: the majority's answer, and what panels drawn at random gain by their size.

Wang et al. 2024 (arXiv 2406.04692) let several models propose, layer by layer, and one aggregate. Parts of that are
here and beside: on logged answers with a number at their end `majority`, `panel_gains` and, choosing the architecture
per question, `routellm_lab.systems.panel_router`; on votes `routellm_lab.systems.best_of_n`; with live models the
layers themselves, `routellm_lab.systems.mixture`.
"""

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.grading import final_number
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.tokens import PER
from routellm_lab.errors import ParameterError, listed, require_number
from routellm_lab.resampling import Bootstrap
from routellm_lab.systems.base import Replay

LARGEST_PANEL = 7
"""Most proposers of a panel."""

Panel = tuple[str, ...]


def majority(log: AnswerLog, panel: Iterable[str], train: AnswerLog | None = None) -> Replay:
    """Ask all models of a panel and give the answer that most of them give.

    Answers are the same when `final_number` reads the same number; one without a number has no vote. The quality is the
    score that the log holds of a member with the majority's answer, the first in rank.

    Parameters
    ----------
    log : AnswerLog
        With ``responses``.
    panel : iterable of str
        1 to 7 different models of the log.
    train : AnswerLog, optional
        Ranks the panel, by mean score there: of answers with equally many votes counts that of the best model. Without,
        the panel's own order is the rank.

    Returns
    -------
    Replay
        Every member is paid; the calls are side by side, one round.

    Raises
    ------
    ParameterError
        When the panel is empty, too large, names a model twice or one that is not in the log.
    DataError
        When answers are not known, of any model (MMLU-Pro keeps scores only) or of some questions.
    """
    members = checked_panel(panel, log)
    members = members if train is None else ranked_panel(checked_panel(members, train), train)
    return panel_vote(log, members, answer_codes(log, [members]))


def sample_panels(
    log: AnswerLog, sizes: Iterable[int] = (1, 3, 5, 7), n: int = 20, random_state: int = 0
) -> list[Panel]:
    """Panels of models drawn at random, without looking at their scores.

    Parameters
    ----------
    log : AnswerLog
        Whose models are drawn from; `AnswerLog.only` narrows them.
    sizes : iterable of int
        From 1 to 7.
    n : int
        Different panels per size; all of them where there are no more.
    random_state : int

    Returns
    -------
    list of tuple of str
        By size; members in the log's order, cheapest first.

    Raises
    ------
    ParameterError
        When a size is not from 1 to 7, or larger than the number of models.
    """
    most = min(LARGEST_PANEL, len(log.models))
    require_number("sample_panels: n", n, 1, whole=True)
    rng, models, panels = np.random.default_rng(random_state), log.models, []
    for size in sizes:
        require_number("sample_panels: each of sizes", size, 1, most, whole=True)
        if math.comb(len(models), size) <= n:
            panels += list(combinations(models, size))
            continue
        drawn: set[tuple[int, ...]] = set()
        while len(drawn) < n:
            drawn.add(tuple(sorted(rng.choice(len(models), size, replace=False).tolist())))
        panels += [tuple(models[number] for number in numbers) for numbers in sorted(drawn)]
    return panels


def panel_gains(
    log: AnswerLog,
    train: AnswerLog,
    sizes: Iterable[int] = (1, 3, 5, 7),
    n: int = 50,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int = 0,
) -> pd.DataFrame:
    """What the majority of panels drawn at random gains, by their size.

    Parameters
    ----------
    log : AnswerLog
        With ``responses``; its models are drawn from (`AnswerLog.only` narrows them).
    train : AnswerLog
        Says which member is the best, as somebody without the panel would choose it, and ranks for `majority`.
    sizes, n
        As in `sample_panels`.
    bootstrap : Bootstrap
        Of panels and questions at once.
    random_state : int
        Of the panels.

    Returns
    -------
    DataFrame
        One row per size: ``size``, ``panels``, ``quality`` and ``dollars`` (means over the panels; USD per 1,000
        questions), ``best_dollars`` (of their best members alone), ``over_mean`` and ``over_best`` (mean score less
        that of the panel's mean and best member), each with ``_low`` and ``_high``, and ``ahead`` (share of the panels
        that are better than their best member).

    Raises
    ------
    ParameterError, DataError
        As `sample_panels` and `majority`.
    """
    panels = [ranked_panel(checked_panel(panel, train), train) for panel in sample_panels(log, sizes, n, random_state)]
    codes, rows = answer_codes(log, panels), []
    for size in sorted({len(panel) for panel in panels}):
        drawn = [panel for panel in panels if len(panel) == size]
        played = [panel_vote(log, panel, codes) for panel in drawn]
        quality = np.stack([one.quality for one in played])
        members = np.stack([log.outcomes.scores[list(panel)].to_numpy(float) for panel in drawn])  # (panels, n, size)
        over = {"over_mean": quality - members.mean(axis=2), "over_best": quality - members[:, :, 0]}
        row: dict[str, float] = {"size": size, "panels": len(drawn), "quality": float(quality.mean())}
        row["dollars"] = PER * float(np.mean([one.dollars.mean() for one in played]))
        row["best_dollars"] = PER * float(np.mean([log.dollars[panel[0]].mean() for panel in drawn]))
        for name, gains in over.items():
            low, high = bootstrap.interval(bootstrap.crossed_means(gains))
            row |= {name: float(gains.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"ahead": float((over["over_best"].mean(axis=1) > 0).mean())})
    return pd.DataFrame(rows)


def panel_gain_rows(sampled: pd.DataFrame) -> pd.DataFrame:
    """The gains of random panels, a row per size and member, for a plot.

    Parameters
    ----------
    sampled : DataFrame
        As of `panel_gains`.

    Returns
    -------
    DataFrame
        ``panel`` (such as "panel of 3"), ``compared with`` ("its mean member" or "its best member"), ``value``, ``low``
        and ``high``. Panels of one model are left out: they gain nothing over themselves.
    """
    several, parts = sampled[sampled["size"] > 1], []
    for name, member in (("over_mean", "its mean member"), ("over_best", "its best member")):
        ends = {"value": several[name], "low": several[f"{name}_low"], "high": several[f"{name}_high"]}
        named = {"panel": [f"panel of {size:.0f}" for size in several["size"]], "compared with": member}
        parts.append(pd.DataFrame(ends).assign(**named))
    return pd.concat(parts, ignore_index=True)


def distinct_models(panel: Iterable[str]) -> Panel:
    """The models of a panel: 1 to 7, none twice (ParameterError)."""
    if isinstance(panel, str):
        raise ParameterError(f"a panel is a list of models, got one bare string; wrap it in a list: [{panel!r}]")
    members = tuple(panel)
    if not 1 <= len(members) <= LARGEST_PANEL:
        raise ParameterError(f"a panel has 1 to {LARGEST_PANEL} models, got {len(members)}: {listed(members)}")
    if len(set(members)) < len(members):
        raise ParameterError(f"panel {listed(members)}: a model is named twice, and would give the same answer twice")
    return members


def checked_panel(panel: Iterable[str], log: AnswerLog) -> Panel:
    """The models of a panel, all of them in the log (ParameterError)."""
    members = distinct_models(panel)
    if unknown := [model for model in members if model not in log.dollars]:
        why = [f"{model} ({log.excluded[model]})" if model in log.excluded else model for model in unknown]
        raise ParameterError(f"log of {log.outcomes.name}: no model {listed(why)}; it has {listed(log.models)}")
    return members


def ranked_panel(members: Panel, train: AnswerLog) -> Panel:
    """Best first, by the mean score of the training part; ties by the panel's order."""
    return tuple(train.outcomes.scores[list(members)].mean().sort_values(ascending=False, kind="stable").index)


def answer_codes(log: AnswerLog, panels: Iterable[Panel]) -> pd.DataFrame:
    """(n, models) numbers that are equal where final answers are, -1 where there is none; of panels of several only."""
    members = sorted({model for panel in panels if len(panel) > 1 for model in panel})
    if not members:
        return pd.DataFrame(index=log.prompts.index)
    texts = log.only(members).answers("a majority")
    answers = [final_number(text) for text in texts.to_numpy().ravel()]
    return pd.DataFrame(pd.factorize(np.array(answers, object))[0].reshape(texts.shape), texts.index, texts.columns)


def panel_vote(log: AnswerLog, members: Panel, codes: pd.DataFrame) -> Replay:
    """The majority's answers of a panel, best member first, from the codes of `answer_codes`."""
    names, n = list(members), len(log)
    scores, costs = log.outcomes.scores[names].to_numpy(float), log.dollars[names].to_numpy(float).sum(axis=1)
    name = members[0] if len(members) == 1 else f"panel of {len(members)}: {listed(members)}"
    if len(members) == 1:
        return Replay(name, log.prompts.index, scores[:, 0], costs, np.ones(n), np.ones(n))
    given = codes[names].to_numpy()
    votes = ((given[:, :, None] == given[:, None, :]) & (given >= 0)[:, :, None]).sum(axis=2)
    first = votes.argmax(axis=1)  # the first of those with most votes: the best in rank
    return Replay(name, log.prompts.index, scores[np.arange(n), first], costs, np.full(n, len(members)), np.ones(n))
