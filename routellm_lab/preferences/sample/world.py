"""The planted truth: the simulated models, how well they answer, and the law of votes."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from routellm_lab.errors import ParameterError, listed, nearest
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.sample.phrases import DOMAINS, PHRASES
from routellm_lab.preferences.sample.reading import read

VOTE_SHARPNESS = 9.0
"""beta: how strongly a difference in competence shows in a vote."""
TIE_RATE = 0.8
"""nu: weight of a tie; two equal models tie with probability nu / (2 + nu)."""
SAMPLE_PAIR = ModelPair(strong="sim-granite", weak="sim-pebble")
"""The pair that the sample is about."""

_TIERS = (  # ability in logits, members
    (5.00, "sim-everest"),
    (2.35, "sim-granite sim-basalt sim-marble"),
    (1.45, "sim-slate sim-quartz"),
    (0.70, "sim-boulder sim-onyx"),
    (0.00, "sim-pebble sim-cobble sim-shale sim-flint"),
    (-0.75, "sim-gravel sim-chalk sim-pumice"),
    (-1.45, "sim-sandstone sim-gypsum"),
    (-2.15, "sim-clay sim-marl"),
    (-2.90, "sim-sand sim-loam"),
    (-3.80, "sim-silt sim-dust"),
)

_POPULAR = {0: 1.25, 1: 1.25, 4: 1.25}  # tiers whose models are asked more often: the pair's
_WITHIN_TIER = 0.03  # half the range of abilities inside a tier
_AFFINITY_SD = 0.25


def _sample_models() -> pd.DataFrame:
    rng = np.random.default_rng(20240626)
    rows = []
    for tier, (ability, members) in enumerate(_TIERS):
        names = members.split()
        inside = np.linspace(_WITHIN_TIER, -_WITHIN_TIER, len(names)) if len(names) > 1 else [0.0]
        rows += [
            {"model": name, "tier": tier, "ability": ability + shift, "popularity": _POPULAR.get(tier, 1.0)}
            for name, shift in zip(names, inside, strict=True)
        ]
    models = pd.DataFrame(rows)
    centre = models["ability"].mean()
    own = rng.normal(0, _AFFINITY_SD, (len(models), len(DOMAINS)))
    own -= own.mean(axis=1, keepdims=True)  # strengths and weaknesses even out: the tier is in the ability alone
    for number, (name, domain) in enumerate(PHRASES["domains"].items()):
        models[f"affinity_{name}"] = (domain["slope"] - 1) * (models["ability"] - centre) + own[:, number]
    models["verbosity"] = np.exp(rng.normal(0, 0.25, len(models)))
    return models.set_index("model")


SAMPLE_MODELS = _sample_models()
"""The simulated models, strongest first: ``tier`` (0 is the strongest), ``ability`` and ``affinity_<domain>`` in
logits, ``popularity`` (how often it is asked), ``verbosity`` (factor on the length of its answers)."""

STRENGTHS = np.column_stack(
    [*(SAMPLE_MODELS["ability"] + SAMPLE_MODELS[f"affinity_{name}"] for name in DOMAINS), SAMPLE_MODELS["ability"]]
)
"""Ability and affinity of every model, (models, domains + 1), in logits; the last column is for text of no domain."""


def competence(prompts: Iterable[str], models: Sequence[str] | None = None) -> pd.DataFrame:
    """Planted probability that a model answers a prompt well, from the text alone.

    Parameters
    ----------
    prompts : iterable of str
    models : sequence of str, optional
        Names of `SAMPLE_MODELS`; all by default.

    Returns
    -------
    DataFrame
        (n, models), indexed as ``prompts`` if that is a Series.

    Raises
    ------
    ParameterError
        When a model is not one of the sample's.
    """
    names = list(SAMPLE_MODELS.index) if models is None else list(models)
    rows = model_numbers(names)
    index = prompts.index if isinstance(prompts, pd.Series) else None
    domain, _, difficulty = read(list(prompts))
    return pd.DataFrame(sigmoid(STRENGTHS[rows][:, domain].T - difficulty[:, None]), index=index, columns=names)


def true_win_rate(prompts: Iterable[str], pair: ModelPair = SAMPLE_PAIR) -> np.ndarray:
    """Planted P(strong wins) + P(tie) / 2 of each prompt, (n,): the best possible router.

    Raises
    ------
    ParameterError
        When a model is not one of the sample's.
    """
    chance = competence(prompts, [pair.strong, pair.weak]).to_numpy()
    wins, ties = vote_law(chance[:, 0], chance[:, 1])
    return wins + ties / 2


def vote_law(
    competence_a: np.ndarray, competence_b: np.ndarray, shift: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """P(A wins) and P(tie): Bradley-Terry with ties (Davidson 1970) on ``exp(VOTE_SHARPNESS * competence)``.

    Parameters
    ----------
    competence_a, competence_b : (n,) arrays in [0, 1]
    shift : float or (n,) array
        What a judge's biases add to x, in logits.

    Returns
    -------
    wins, ties : (n,) arrays
    """
    half = (VOTE_SHARPNESS * (np.asarray(competence_a) - np.asarray(competence_b)) + shift) / 2
    win, loss = np.exp(half), np.exp(-half)
    total = win + loss + TIE_RATE
    return win / total, TIE_RATE / total


def model_numbers(names: Iterable[str]) -> np.ndarray:
    """Rows of those models in `SAMPLE_MODELS`.

    Raises
    ------
    ParameterError
        When a model is not one of the sample's.
    """
    names = list(names)
    unknown = [name for name in names if name not in SAMPLE_MODELS.index]
    if unknown:
        raise ParameterError(
            f"not a simulated model: {listed(unknown)}; nearest: {nearest(str(unknown[0]), SAMPLE_MODELS.index)}"
        )
    return SAMPLE_MODELS.index.get_indexer(pd.Index(names))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return 1 / (1 + np.exp(-logits))
