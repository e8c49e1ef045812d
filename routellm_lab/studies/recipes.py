"""Recipes for a router: label sets of several kinds, the attempts made with them, and sources to validate them on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from routellm_lab.benchmarks import Outcomes, list_outcomes, load_prompts
from routellm_lab.preferences import (
    battle_names,
    battles_from_difficulty,
    battles_from_outcomes,
    decontaminate,
    length_controlled,
    load_battles,
    models_of,
    pool_battles,
    with_answer_lengths,
)
from routellm_lab.routers import RECIPE, KernelRouter, PromptLengthRouter, RidgeRouter
from routellm_lab.studies.label_draws import LabelDraws
from routellm_lab.studies.transfer import pairs_by_gap
from routellm_lab.studies.validation import ValidationSource, outcomes_from_battles, random_groups, validate_router

if TYPE_CHECKING:
    from routellm_lab.routers import Router

VOTES, UNUSED_VOTES = "alpacaeval_rejudged", "elobench_judge"
WORD_PROBLEMS, MOST_WORD_PROBLEMS = "gsm8k_train", 2000
TOPIC_SHARES = (0.0, 0.5, 1.0)
LENGTH = RECIPE["length"]
RECIPE_NAME = f"kernel: gold + difficulty {RECIPE['topic_share']:g}, length {LENGTH:g}"
"""The name of the recommended router's recipe among the attempts."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """A router to fit and the votes that it is fitted on. Made by `recipe_attempts`.

    Attributes
    ----------
    router : Router
        Not fitted.
    sets : tuple of str
        Label sets.
    votes : list of DataFrame
        One frame per draw of the gold questions; one frame where they are not among the sets.
    """

    router: "Router"
    sets: tuple[str, ...]
    votes: list[pd.DataFrame] = field(repr=False)


def label_sets(labels: LabelDraws) -> dict[str, pd.DataFrame]:
    """Label sets of several kinds, clean of the benchmarks, by name.

    Returns
    -------
    dict of str to DataFrame
        ``gold`` (the first draw); ``difficulty 0``, ``0.5`` and ``1`` (the number: ``topic_share`` of
        `battles_from_difficulty`); ``another pair`` (grades of `LabelDraws.other_pair` on the same
        questions, under the names of the pair). Where the data root has votes of a judge on the pair: ``votes``, and,
        where it has the answers' lengths, ``votes, length-controlled``.
    """
    hard, pair = labels.difficulty_questions, labels.pair
    sets = {"gold": labels.sets[0]["gold"]}
    for share in TOPIC_SHARES:
        sets[f"difficulty {share:g}"] = battles_from_difficulty(hard, pair, topic_share=share)
    other = battles_from_outcomes(hard, labels.other_pair)
    sets["another pair"] = other.assign(model_a=pair.strong, model_b=pair.weak)
    if VOTES not in battle_names(labels.data):
        return sets
    votes, _ = decontaminate(load_battles(VOTES, data=labels.data), *labels.benchmarks.values())
    on_pair = votes[["model_a", "model_b"]].isin([pair.strong, pair.weak]).all(axis=1)
    if on_pair.any():
        sets["votes"] = votes[on_pair].reset_index(drop=True)
        if "variant_a" in votes:
            sets["votes, length-controlled"] = length_controlled(with_answer_lengths(sets["votes"], labels.data))
    return sets


def describe_label_sets(labels: LabelDraws, sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What is in each label set: ``label set``, ``what its labels are``, ``prompts``."""
    graded = f"grades of the pair on questions of {labels.gold[0].name}"
    hard = f"difficulty of questions of {labels.difficulty_questions.name} for many models; share of the topic kept:"
    said = {
        "gold": graded,
        "another pair": f"grades of {labels.other_pair} on the same questions",
        "votes": "votes of a judge on the pair's answers in conversation",
        "votes, length-controlled": "the same, corrected for the length of the answers",
    }
    said |= {f"difficulty {share:g}": f"{hard} {share:g}" for share in TOPIC_SHARES}
    rows = [(name, said.get(name, "votes"), votes["prompt_key"].nunique()) for name, votes in sets.items()]
    return pd.DataFrame(rows, columns=["label set", "what its labels are", "prompts"])


def recipe_attempts(
    labels: LabelDraws, sets: Mapping[str, pd.DataFrame], *, thorough: bool = False
) -> dict[str, Attempt]:
    """All recipes that are compared, by name: baselines, one set at a time, mixtures, and other parameters.

    Parameters
    ----------
    labels : LabelDraws
    sets : dict of str to DataFrame
        As `label_sets` makes them.
    thorough : bool
        Also other weights of the prompt's length, widths, noise levels and another encoder.

    Returns
    -------
    dict of str to Attempt
        Among them "prompt length", "ridge: gold" (the tuned ridge regression) and `RECIPE_NAME`.
    """
    pair, options = labels.pair, labels.router_options
    mixed = [name for name in ("gold", "difficulty 0.5", "another pair", "votes") if name in sets]
    ridge = RidgeRouter(pair, **options)
    wanted: dict[str, tuple[Router, list[str]]] = {
        "prompt length": (PromptLengthRouter(pair), ["gold"]),
        "ridge: gold": (ridge, ["gold"]),
        "ridge: all pooled": (ridge, mixed),
        "ridge: gold + difficulty 0.5": (ridge, mixed[:2]),
    }
    lengths = (0.0, LENGTH, 2 * LENGTH) if thorough else (LENGTH,)
    chosen = [([name], LENGTH) for name in sets] + [(["gold", "another pair"], LENGTH), (mixed, LENGTH)]
    chosen += [(["gold", f"difficulty {share:g}"], length) for share in TOPIC_SHARES for length in lengths]
    for names, length in chosen:
        router = KernelRouter(pair, sets=dict.fromkeys(names, 1.0), length=length, **options)
        wanted[f"kernel: {' + '.join(names)}, length {length:g}"] = (router, names)
    changes: tuple[dict[str, Any], ...] = (
        {"width": 0.5},
        {"width": 2.0},
        {"noise": 2.0},
        {"noise": 8.0},
        {"encoder": "static"},
    )
    for change in changes if thorough else ():
        changed = options | {"sets": dict.fromkeys(mixed[:2], 1.0), "length": LENGTH} | change
        name = RECIPE_NAME + "".join(f", {key} {value}" for key, value in change.items())
        wanted[name] = (KernelRouter(pair, **changed), mixed[:2])
    pools = [pool_battles({**sets, "gold": drawn["gold"]}, balance=False) for drawn in labels.sets]
    return {name: Attempt(router, tuple(used), _votes_of(used, pools)) for name, (router, used) in wanted.items()}


def _votes_of(sets: list[str], pools: list[pd.DataFrame]) -> list[pd.DataFrame]:
    drawn = pools if "gold" in sets else pools[:1]
    return [pool[pool["set"].isin(sets)].reset_index(drop=True) for pool in drawn]


def compared_routers(labels: LabelDraws) -> "dict[str, Router]":
    """The recommended router and two rivals, fitted on the first draw: "ridge" (tuned, on the gold labels) and "prompt
    length". They are the same as the attempts "ridge: gold" and "prompt length"."""
    from sklearn.base import clone

    attempts = recipe_attempts(labels, label_sets(labels))
    rivals = {"ridge": attempts["ridge: gold"], "prompt length": attempts["prompt length"]}
    fitted = {name: clone(one.router).fit(one.votes[0]) for name, one in rivals.items()}
    return {"recommended": labels.recommended(), **fitted}


def mmlu_attempt(labels: LabelDraws, sets: Mapping[str, pd.DataFrame]) -> Attempt:
    """A router for MMLU alone: it reads the options as well, with a narrower kernel, beside difficulty within topics.

    This form was found while results on MMLU were seen.
    """
    used = ["gold", "difficulty 0"]
    pools = [pool_battles({**sets, "gold": drawn["gold"]}, balance=False) for drawn in labels.sets]
    sets_used = dict.fromkeys(used, 1.0)
    router = KernelRouter(labels.pair, sets=sets_used, width=2.0, whole_prompt=True, **labels.router_options)
    return Attempt(router, tuple(used), _votes_of(used, pools))


def validation_sources(labels: LabelDraws, sets: Mapping[str, pd.DataFrame]) -> dict[str, ValidationSource]:
    """Sources of labels to validate recipes on, of up to four kinds; no question that is evaluated is among them.

    Parameters
    ----------
    labels : LabelDraws
    sets : dict of str to DataFrame
        As `label_sets` makes them.

    Returns
    -------
    dict of str to ValidationSource
        Of the kind ``exam`` "exam" and "exam, in folds" (the gold questions of the first draw, held out whole, and in
        folds of prompts). ``many models``: the difficulty questions for pairs with small and large gaps, ranked within
        their subject. ``conversation``: "votes" on the pair, and "judge", a source of votes that no recipe is trained
        on, the strong model against all others. ``word problems``: training questions of GSM8K with the number of steps
        in the reference solution as the gap. The last three where the data root has them.
    """
    pair, hard, gold = labels.pair, labels.difficulty_questions, labels.gold[0]
    found = {
        "exam": ValidationSource(gold, (pair,), kind="exam"),
        "exam, in folds": ValidationSource(gold, (pair,), random_groups(gold, 3, labels.random_state), kind="exam"),
        "many models": ValidationSource(hard, tuple(pairs_by_gap(hard)), within=hard.groups, kind="many models"),
    }
    if "votes" in sets:
        talk = outcomes_from_battles(sets["votes"], pair, [pair.strong], [pair.weak], name="votes")
        found["votes"] = ValidationSource(talk, (pair,), kind="conversation")
    judged = _unused_votes(labels)
    if judged is not None:
        found["judge"] = ValidationSource(judged, (pair,), kind="conversation")
    if WORD_PROBLEMS in set(list_outcomes(labels.data)["name"]):
        found["word problems"] = ValidationSource(_word_problems(labels), (pair,), kind="word problems")
    return found


def _unused_votes(labels: LabelDraws) -> Outcomes | None:
    """Votes on the strong model, or else gpt-4-turbo, against all others, in a source that nobody trains on."""
    if UNUSED_VOTES not in battle_names(labels.data):
        return None
    votes, _ = decontaminate(load_battles(UNUSED_VOTES, data=labels.data), *labels.evaluations.values())
    models = models_of(votes)
    strongest = [name for name in (labels.pair.strong, "gpt-4-turbo") if name in models][:1]
    others = [name for name in models if name not in strongest]
    return outcomes_from_battles(votes, labels.pair, strongest, others, name="judge") if strongest else None


def _word_problems(labels: LabelDraws) -> Outcomes:
    """Training questions of GSM8K; the strong model's score is the number of steps in the reference solution."""
    words = load_prompts(WORD_PROBLEMS, data=labels.data).dropna(subset="answer").head(MOST_WORD_PROBLEMS)
    steps = words["answer"].str.count("<<").clip(1, 8).astype(float)
    gap = pd.DataFrame({labels.pair.strong: steps, labels.pair.weak: 0.0 * steps})
    return Outcomes("word problems", words["prompt"], gap, words["group"], words["prompt_key"], "steps")


def validate_attempts(attempts: Mapping[str, Attempt], sources: Mapping[str, ValidationSource]) -> pd.DataFrame:
    """Validate every attempt on every source (see `validate_router`), with the votes of the first draw.

    Returns
    -------
    DataFrame
        One row per attempt and source: ``attempt``, ``source``, ``kind``, ``apgr``, ``se``, ``random_sd``, ``prompts``.
    """
    frames = [
        validate_router(attempt.router, attempt.votes[0], sources).assign(attempt=name)
        for name, attempt in attempts.items()
    ]
    checks = pd.concat(frames, ignore_index=True)
    checks["kind"] = checks["source"].map({name: source.kind or name for name, source in sources.items()})
    return checks[["attempt", "source", "kind", "apgr", "se", "random_sd", "prompts"]]


def compare_with_leaders(ranking: pd.DataFrame, recipe: str = RECIPE_NAME) -> pd.DataFrame:
    """The recipe beside the first attempt of all and the first of its family (gold and difficulty labels alone).

    Parameters
    ----------
    ranking : DataFrame
        As `validation_ranking` makes it.
    recipe : str

    Returns
    -------
    DataFrame
        One row per attempt, best first: ``role``, ``attempt``, ``place``, ``mean``, ``low``, ``high``, ``ahead`` (of
        the recipe, by the mean).
    """
    family = [name for name in ranking.index if name.startswith("kernel: gold + difficulty") and "another" not in name]
    roles: dict[str, list[str]] = {}
    for role, name in (
        ("first of all", ranking["mean"].idxmax()),
        ("first of its family", ranking.loc[family, "mean"].idxmax()),
        ("recommended recipe", recipe),
    ):
        roles.setdefault(str(name), []).append(role)
    rows = ranking.loc[list(roles), ["place", "mean", "low", "high"]].rename_axis("attempt").reset_index()
    ahead = rows["mean"] - ranking["mean"][recipe]
    return rows.assign(role=[" and ".join(names) for names in roles.values()], ahead=ahead)


def validation_advice(ranking: pd.DataFrame, recipe: str = RECIPE_NAME) -> str:
    """What the validation says about the recipe, in two sentences of plain text.

    Parameters
    ----------
    ranking : DataFrame
        As `validation_ranking` makes it.
    recipe : str
    """
    row, first = ranking.loc[recipe].to_dict(), ranking.iloc[0]
    close = int(ranking["close"].sum())
    rest = (
        "No other attempt is within one standard error of the first."
        if close == 1
        else f"{close} attempts are within one standard error of the first, the first included."
    )
    if int(row["place"]) == 1:
        return f"The recommended recipe is first of {len(ranking)} attempts in the validation. {rest}"
    within = f"{'within' if row['close'] else 'not within'} one standard error ({first['se']:.4f})"
    distance = f"{first['mean'] - row['mean']:.4f} behind the first, {within}"
    place = f"number {int(row['place'])} of {len(ranking)} attempts"
    return f"In the validation the recommended recipe is {place}, {distance}. {rest}"


def labels_and_places(checks: pd.DataFrame, table: pd.DataFrame, sets: Mapping[str, Any]) -> pd.DataFrame:
    """APGR of routers that learned from one kind of labels, and of the recipe: on each held-out source and benchmark.

    Parameters
    ----------
    checks : DataFrame
        As `validate_attempts` makes it.
    table : DataFrame
        ``router``, ``benchmark``, ``apgr``, ``random_sd``: the same attempts on the benchmarks.
    sets : mapping
        Its keys name the label sets.

    Returns
    -------
    DataFrame
        ``trained_on``, ``tested_on``, ``apgr``, ``random_sd``, for `routellm_lab.plots.heat_map`.
    """
    names = {f"kernel: {name}, length {LENGTH:g}": name for name in sets} | {RECIPE_NAME: "recommended recipe"}
    inside = checks.rename(columns={"attempt": "router"}).assign(tested_on="held out: " + checks["source"])
    places = pd.concat([inside, table.assign(tested_on=table["benchmark"])], ignore_index=True)
    places = places[places["router"].isin(names)].assign(trained_on=lambda frame: frame["router"].map(names))
    return places[["trained_on", "tested_on", "apgr", "random_sd"]].reset_index(drop=True)
