"""The votes of the sample: its sets, who judges them, and the votes as another judge casts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed, nearest
from routellm_lab.preferences.battles import WINNERS, validate_battles
from routellm_lab.preferences.sample.draws import CHUNK, checked_size, draw, stream, text_column
from routellm_lab.preferences.sample.phrases import ARENA_DOMAINS, DOMAINS, LANGUAGES
from routellm_lab.preferences.sample.reading import read
from routellm_lab.preferences.sample.world import (
    SAMPLE_MODELS,
    SAMPLE_PAIR,
    STRENGTHS,
    model_numbers,
    sigmoid,
    vote_law,
)
from routellm_lab.preferences.sample.writing import simulate_prompts, unreserved

JUDGE_LAPSE = 0.1
"""Share of the votes of ``arena_rejudged`` that its judge casts at random, a third for each verdict."""
JUDGE_POSITION_BIAS = 0.8
"""What the judge of ``arena_rejudged`` adds to x, in logits, for the answer that is shown first (A).

Two draws from one law differ as well. `vote_chances` gives p and q, the chances of the three verdicts of people and of
this judge on every vote; the draws are independent, so that on average a share ``(p * q).sum(axis=1).mean()`` of the
verdicts is the same. With ``p`` in place of ``q`` it is the most that a second set of people reaches. The bias of
position to expect is the mean of ``(q - p)[model_a] - (q - p)[model_b]``."""
JUDGE_LENGTH_BIAS = 0.8
"""What the judge of ``arena_rejudged`` adds to x, in logits, per doubling of A's length against B's:
``JUDGE_LENGTH_BIAS * log2(chars_a / chars_b)``. People have no taste for length here; longer answers still win a
little more often with them, since strong models happen to be verbose. The bias to expect is the mean of
``sign(chars_a - chars_b) * ((q - p)[model_a] - (q - p)[model_b])``, p and q as in `JUDGE_POSITION_BIAS`."""
ANSWER_CHARS = 750.0
"""Median length of an answer, in characters, of a model of verbosity 1 to a prompt of difficulty 0."""
ANSWER_SPREAD = 0.5
"""Standard deviation of the log of an answer's length. It grows by 0.15 per logit of difficulty besides."""
MAX_SIZE = 1_000_000
"""Most votes that one call simulates."""


@dataclass(frozen=True)
class BattleSet:
    """One simulated set of votes.

    Attributes
    ----------
    size : int
        Votes when no size is asked for.
    judge : str
        Who votes.
    lapse : float
        Share of votes cast at random, whatever the answers: the law holds for the others.
    n_prompts : int or None
        Size of the pool that prompts are drawn from; None: every vote has a prompt of its own.
    baseline : str or None
        The model that is always A; None: all pairs.
    favourites : tuple of str
        Opponents of the baseline that meet it five times as often.
    ties : bool
        Without, the judge must choose: A is preferred with the win rate as probability.
    prompts : bool
        Whether the votes show their prompts.
    languages : mapping
        Share of each language.
    lengths : bool
        Whether the lengths of the answers are known (``chars_a``, ``chars_b``).
    again : str or None
        The set whose votes are judged once more: same prompts, models, sides and answers, fresh verdicts.
    position_bias : float
        Logits added to x for the answer shown first.
    length_bias : float
        Logits added to x per doubling of A's length against B's; needs ``lengths``.
    """

    size: int
    judge: str
    lapse: float = 0.0
    n_prompts: int | None = None
    baseline: str | None = None
    favourites: tuple[str, ...] = ()
    ties: bool = True
    prompts: bool = True
    languages: tuple[tuple[str, float], ...] = (("en", 0.88), ("es", 0.06), ("de", 0.06))
    lengths: bool = False
    again: str | None = None
    position_bias: float = 0.0
    length_bias: float = 0.0


_ENGLISH = (("en", 1.0),)
BATTLE_SETS = {
    "arena_human": BattleSet(size=20_000, judge="human", lengths=True),
    "arena_human_outcomes": BattleSet(size=20_000, judge="human", prompts=False),
    "elobench_judge": BattleSet(size=12_000, judge="sim-judge-small", lapse=0.1, n_prompts=3_000),
    "alpacaeval_judge": BattleSet(
        size=12_000, judge="sim-judge", n_prompts=805, baseline="sim-basalt", ties=False, languages=_ENGLISH
    ),
    "alpacaeval_rejudged": BattleSet(
        size=8_000,
        judge="sim-judge-large",
        n_prompts=805,
        baseline=SAMPLE_PAIR.strong,
        favourites=(SAMPLE_PAIR.weak,),
        languages=_ENGLISH,
    ),
    "arena_rejudged": BattleSet(
        size=2_000,
        judge="sim-judge-large",
        lapse=JUDGE_LAPSE,
        lengths=True,
        again="arena_human",
        position_bias=JUDGE_POSITION_BIAS,
        length_bias=JUDGE_LENGTH_BIAS,
    ),
}
"""The simulated sets, by the names of their counterparts in a data folder."""
_ID_OF_ORIGIN = "arena_battle_id"  # the name it has in the real set


def vote_chances(battles: pd.DataFrame, name: str) -> pd.DataFrame:
    """Planted chances of the three verdicts when the judge of a set sees these votes, lapses and biases included.

    Parameters
    ----------
    battles : DataFrame
        Votes of the sample with prompts, and with ``chars_a`` and ``chars_b`` where the judge has a taste for length.
    name : str
        The set whose judge votes, one of `BATTLE_SETS`; not necessarily the set of the votes.

    Returns
    -------
    DataFrame
        (n, 3), columns as `WINNERS`, indexed as the votes; rows sum to 1.

    Raises
    ------
    ParameterError
        When the set does not exist or a model is not one of the sample's.
    DataError
        When prompts, or the lengths that the judge looks at, are missing.
    """
    kind = _battle_set(name)
    needed = ["prompt", *(["chars_a", "chars_b"] if kind.length_bias else [])]
    missing = [column for column in needed if column not in battles or battles[column].isna().any()]
    if missing:
        raise DataError(f"vote_chances: {listed(missing)} missing in some votes; the judge of {name!r} looks at them")
    domain, _, difficulty = read(battles["prompt"].tolist())
    chance = [sigmoid(STRENGTHS[model_numbers(battles[side]), domain] - difficulty) for side in ("model_a", "model_b")]
    lengths = battles[["chars_a", "chars_b"]].to_numpy(float).T if kind.length_bias else None
    wins, ties = _verdicts(kind, chance, lengths)
    return pd.DataFrame(dict(zip(WINNERS, (wins, 1 - wins - ties, ties), strict=True)), index=battles.index)


def recast_votes(battles: pd.DataFrame, judge: str, share: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """The votes as another judge casts them, who sees the answers and not the votes.

    Parameters
    ----------
    battles, judge
        As `vote_chances` takes them; ``arena_human`` is another draw of people.
    share : float
        Share of the votes that are cast again, each by chance. With one seed, those of a smaller share are among those
        of a larger one.
    seed : int

    Returns
    -------
    DataFrame
        Battles with the new ``winner``; everything else as it was.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"share must be in [0, 1], got {share!r}")
    again, vote = stream(seed, judge, "recast").random((2, len(battles)))
    edges = vote_chances(battles, judge).to_numpy().cumsum(axis=1)[:, :2]
    cast = np.array(WINNERS)[(vote[:, None] >= edges).sum(axis=1)]
    winner = np.where(again < share, cast, battles["winner"].to_numpy(object))
    return validate_battles(battles.assign(winner=winner), where=f"votes recast by the judge of {judge}")


def sample_battles(name: str, size: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Simulate one set of votes.

    Parameters
    ----------
    name : str
        One of `BATTLE_SETS`.
    size : int, optional
        Votes, up to `MAX_SIZE`; the set's own size by default. A smaller set is the start of a larger one.
    seed : int
        Sets of different names are independent under one seed, but for ``arena_rejudged``: it is the start of
        ``arena_human`` of the same seed, judged again.

    Returns
    -------
    DataFrame
        Valid battles with ``battle_id``, ``judge``, ``source``, ``language``, ``domain`` and ``true_preference_a``, the
        planted P(A wins) + P(tie) / 2 (of the law, before a judge's lapses and biases; `vote_chances` has them). Where
        lengths are known also ``chars_a`` and ``chars_b``, characters of the answers; in ``arena_rejudged`` also
        ``arena_battle_id``, the ``battle_id`` of the same vote in ``arena_human``.

    Raises
    ------
    ParameterError
        When the set does not exist or size or seed cannot be used.
    """
    kind = _battle_set(name)
    size = checked_size(kind.size if size is None else size, MAX_SIZE)
    origin = kind.again or name
    prompts, domain, language, difficulty = _battle_prompts(name, kind.n_prompts or size, seed)
    drawn = _votes(kind, origin, size, seed)
    if kind.again:
        drawn["vote"] = _votes(kind, name, size, seed)["vote"]
    row = np.arange(size) if kind.n_prompts is None else (drawn["prompt"] * kind.n_prompts).astype(int)
    chance = [sigmoid(STRENGTHS[drawn[side], domain[row]] - difficulty[row]) for side in ("a", "b")]
    plain_wins, plain_ties = vote_law(chance[0], chance[1])
    lengths = _lengths(origin, [drawn["a"], drawn["b"]], difficulty[row], seed) if kind.lengths else None
    wins, ties = _verdicts(kind, chance, lengths)
    nothing = pd.DataFrame({"prompt": [None] * size, "prompt_key": [None] * size}, dtype="str")
    shown = prompts.take(row).reset_index(drop=True) if kind.prompts else nothing
    winner = np.where(drawn["vote"] < wins, 0, np.where(drawn["vote"] < wins + ties, 2, 1))
    battles = pd.DataFrame(
        {
            "prompt": shown["prompt"],
            "model_a": text_column(SAMPLE_MODELS.index, drawn["a"]),
            "model_b": text_column(SAMPLE_MODELS.index, drawn["b"]),
            "winner": text_column(WINNERS, winner),
            "judge": kind.judge,
            "source": f"simulated {name}",
            "language": text_column(LANGUAGES.values(), language[row]),
            "domain": text_column(DOMAINS, domain[row]),
            "true_preference_a": plain_wins + plain_ties / 2,
            "prompt_key": shown["prompt_key"],
            "battle_id": _ids(name, size),
        }
    )
    if lengths is not None:
        battles["chars_a"], battles["chars_b"] = lengths
    if kind.again:
        battles[_ID_OF_ORIGIN] = _ids(origin, size)
    return validate_battles(battles, where=f"sample {name}")


def _battle_set(name: str) -> BattleSet:
    if name not in BATTLE_SETS:
        raise ParameterError(f"no simulated battles {name!r}; nearest: {nearest(name, BATTLE_SETS)}")
    return BATTLE_SETS[name]


@lru_cache(maxsize=8)
def _battle_prompts(name: str, size: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    kind = _battle_set(name)
    return simulate_prompts(kind.again or name, size, seed, ARENA_DOMAINS, dict(kind.languages), unreserved)


def _ids(name: str, size: int) -> pd.Series:
    return pd.Series([f"{name}-{number:06d}" for number in range(size)], dtype="str")


def _verdicts(
    kind: BattleSet, chance: Sequence[np.ndarray], lengths: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """P(A wins) and P(tie) for a set's judge, from the competences (A, B) and the lengths (2, n) of the answers."""
    shift: np.ndarray | float = kind.position_bias
    if kind.length_bias and lengths is not None:
        shift = shift + kind.length_bias * np.log2(lengths[0] / lengths[1])
    wins, ties = vote_law(chance[0], chance[1], shift)
    if not kind.ties:
        wins, ties = wins + ties / 2, np.zeros_like(wins)
    random_win, random_tie = (1 / 3, 1 / 3) if kind.ties else (1 / 2, 0.0)
    return (1 - kind.lapse) * wins + kind.lapse * random_win, (1 - kind.lapse) * ties + kind.lapse * random_tie


def _lengths(origin: str, models: Sequence[np.ndarray], difficulty: np.ndarray, seed: int) -> np.ndarray:
    """Characters of both answers of every vote, (2, n) whole numbers of at least 1: log-normal, by verbosity.

    They have a stream of their own, so that prompts, models and verdicts are what they were without them.
    """
    size = len(difficulty)
    noise = [stream(seed, origin, "lengths", chunk).normal(size=(CHUNK, 2)) for chunk in range(-(-size // CHUNK))]
    verbosity = SAMPLE_MODELS["verbosity"].to_numpy()[np.stack(models)]
    spread = 0.15 * difficulty + ANSWER_SPREAD * np.concatenate(noise)[:size].T
    return np.maximum(np.rint(ANSWER_CHARS * verbosity * np.exp(spread)), 1).astype(int)


def _votes(kind: BattleSet, name: str, size: int, seed: int) -> dict[str, np.ndarray]:
    """Random numbers of a set's votes: the models, the prompt of a pool and the vote."""
    n = len(SAMPLE_MODELS)
    chunks = [stream(seed, name, "votes", chunk).random((CHUNK, 4)) for chunk in range(-(-size // CHUNK))]
    uniform = np.concatenate(chunks)[:size]
    if kind.baseline is None:
        popularity = SAMPLE_MODELS["popularity"].to_numpy()
        pairs = np.outer(popularity, popularity)
        np.fill_diagonal(pairs, 0)
        a, b = np.divmod(draw(pairs.ravel(), uniform[:, 0]), n)
    else:
        a = np.repeat(model_numbers([kind.baseline]), size)
        weight = np.ones(n)
        weight[model_numbers(kind.favourites)] = 5
        weight[a[0]] = 0
        b = draw(weight, uniform[:, 1])
    return {"a": a, "b": b, "prompt": uniform[:, 2], "vote": uniform[:, 3]}
