"""Robustness: how often a change that keeps a prompt's meaning flips a decision, and which words buy the strong model.

A prompt may end in options (``A. ...``) and in a closing ``Answer:``; what is appended comes before both.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, nearest, require_number
from routellm_lab.preferences.battles import split_options
from routellm_lab.settings import settings

if TYPE_CHECKING:
    from routellm_lab.routers import Router

SUFFIX_WORDS: tuple[str, ...] = tuple(
    "proof theorem lemma rigorous integral derivative matrix eigenvalue topology probability algorithm recursion "
    "python javascript regex compiler database kernel quantum entropy photon molecule enzyme genome neuron diagnosis "
    "vaccine contract statute treaty constitution philosophy ethics metaphor poem sonnet novel essay grammar translate "
    "history empire economy inflation market strategy detailed creative simple short hello thanks weather recipe "
    "football holiday joke story colour animal music travel".split()
)
"""Words of many domains, hard and easy, that `adversarial_suffix` makes suffixes of."""

_PREFACES = (
    "Hello! Could you please help me with the following?",
    "Good morning, I would be grateful for your help with this.",
    "Hi there, please take a look at this for me.",
    "I hope you are doing well. Please help me with this:",
)
_FILLERS = (
    "It is a quiet afternoon here.",
    "The weather has been pleasant all week.",
    "This was typed on a phone during a train ride.",
    "There is a cup of coffee on the desk.",
)
_TRANSLATIONS = {  # German and Spanish, in forms that differ from the English word
    "what": ("was", "qué"),
    "which": ("welche", "cuál"),
    "who": ("wer", "quién"),
    "why": ("warum", "por qué"),
    "how": ("wie", "cómo"),
    "answer": ("beantworte", "responde"),
    "calculate": ("berechne", "calcula"),
    "choose": ("wähle", "elige"),
    "compare": ("vergleiche", "compara"),
    "compute": ("berechne", "calcula"),
    "create": ("erstelle", "crea"),
    "define": ("definiere", "defina"),
    "describe": ("beschreibe", "describa"),
    "determine": ("bestimme", "determina"),
    "evaluate": ("bewerte", "evalúa"),
    "explain": ("erkläre", "explica"),
    "find": ("finde", "encuentra"),
    "give": ("gib", "proporciona"),
    "identify": ("identifiziere", "identifica"),
    "prove": ("beweise", "demuestra"),
    "solve": ("löse", "resuelve"),
    "suggest": ("empfiehl", "sugiere"),
    "summarize": ("resümiere", "resume"),
    "translate": ("übersetze", "traduce"),
    "write": ("schreibe", "escribe"),
}
_SPELLINGS = [spelling for word in _TRANSLATIONS for spelling in (word, word.capitalize(), word.upper())]
_ASKING = re.compile(rf"\b({'|'.join(_SPELLINGS)})\b(?!['’])")
_WORD = re.compile(r"[^\W\d_]+")

_TIED = 1e-6
"""Win rates closer than this part of their range are tied: in another batch a sum differs in its last digits."""


def _typos(text: str, rng: np.random.Generator) -> str:
    """Swap two neighbouring letters, never the first, in one word in ten of four letters or more, at least in one."""
    question, form = _question_and_form(text)
    letters, words = list(question), list(_WORD.finditer(question))
    swaps = [
        [at for at in range(word.start() + 1, word.end() - 1) if letters[at] != letters[at + 1]]
        for word in words
        if len(word[0]) >= 4
    ]
    swaps = [places for places in swaps if places]
    wanted = min(max(1, round(len(words) / 10)), len(swaps))
    for chosen in rng.choice(len(swaps), wanted, replace=False) if swaps else ():
        at = rng.choice(swaps[chosen])
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters) + form


def _translated_word(text: str, rng: np.random.Generator) -> str:
    """Say the first word that asks or instructs in German or in Spanish."""
    question, form = _question_and_form(text)

    def translated(found: re.Match[str]) -> str:
        word = str(rng.choice(_TRANSLATIONS[found[0].lower()]))
        if found[0].isupper():
            return word.upper()
        return word[0].upper() + word[1:] if found[0][0].isupper() else word

    return _ASKING.sub(translated, question, count=1) + form


def _question_and_form(text: str) -> tuple[str, str]:
    """A prompt up to its options or its closing ``Answer:``, and these."""
    question = split_options(text)[0]
    return question, text[len(question) :]


def _append(text: str, words: str) -> str:
    """Words at the end of a question, before its options and a closing ``Answer:``: a router may read no further."""
    question, form = _question_and_form(text)
    asked = question.rstrip()
    return f"{asked} {words}{question[len(asked) :]}{form}"


PERTURBATIONS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "typos": _typos,
    "upper case": lambda text, rng: text.upper(),
    "lower case": lambda text, rng: text.lower(),
    "polite preface": lambda text, rng: f"{rng.choice(_PREFACES)} {text}",
    "filler": lambda text, rng: _append(text, str(rng.choice(_FILLERS))),
    "translated word": _translated_word,
}
"""Changes that keep what a prompt asks, by name. All but those of case leave options and a closing ``Answer:`` as they
are. A preface and a filler are English, whatever the prompt's language. Functions added here are used by name."""


@dataclass(frozen=True)
class AdversarialSuffix:
    """Words that make a router call the strong model, and what they do to prompts they were not searched on.

    Attributes
    ----------
    suffix : str
    before, after : float
        Share of strong calls on the held-out prompts, as they are and with the suffix.
    random : float
        The same with random suffixes of as many words, averaged over their draws.
    random_range : (float, float)
        Smallest and largest share of a single random suffix.
    n : int
        Held-out prompts.
    threshold : float
        The strong model is called from this win rate on.
    confidence_level : float
        Of the intervals.
    """

    suffix: str
    before: float
    after: float
    random: float
    random_range: tuple[float, float]
    n: int
    threshold: float
    confidence_level: float = 0.95

    @property
    def before_interval(self) -> tuple[float, float]:
        """Wilson's interval of ``before``."""
        return _wilson(round(self.before * self.n), self.n, self.confidence_level)

    @property
    def after_interval(self) -> tuple[float, float]:
        """Wilson's interval of ``after``."""
        return _wilson(round(self.after * self.n), self.n, self.confidence_level)


def perturb(prompts: Iterable[str], name: str, random_state: int = 0) -> list[str]:
    """Change prompts without changing what they ask.

    Parameters
    ----------
    prompts : iterable of str, (n,)
    name : str
        One of `PERTURBATIONS`.
    random_state : int
        Seeds each prompt together with its text: what becomes of a prompt does not depend on the others.

    Returns
    -------
    list of str, (n,)
        A prompt in which there is nothing to change is returned as it is.
    """
    if name not in PERTURBATIONS:
        raise ParameterError(f"no perturbation {name!r}; nearest: {nearest(name, PERTURBATIONS)}")
    changed = []
    for text in as_texts(prompts):
        digest = hashlib.sha256(f"{random_state}\0{name}\0{text}".encode()).digest()
        changed.append(PERTURBATIONS[name](text, np.random.default_rng(int.from_bytes(digest[:8], "big"))))
    return changed


def flip_rates(
    routers: "Mapping[str, Router]",
    prompts: Iterable[str],
    names: Iterable[str] | None = None,
    share: float = 0.5,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """How often each perturbation flips a router's decision.

    Parameters
    ----------
    routers : dict of str to Router
        Fitted.
    prompts : iterable of str, (n,)
    names : iterable of str, optional
        Of `PERTURBATIONS`; all by default.
    share : float
        Of the prompts, as they are, that go to the strong model, in (0, 1). The threshold lies halfway between two win
        rates, where the share comes nearest: prompts with tied win rates go the same way.
    confidence_level : float
        Of the intervals.
    random_state : int
        Of the perturbations.

    Returns
    -------
    DataFrame
        One row per router and perturbation: ``router``, ``perturbation``, ``prompts``, ``changed`` (share of them whose
        text changed), ``flips`` (share whose decision changed) with Wilson's interval ``low``, ``high``, ``to_strong``
        and ``to_weak`` (its two parts), ``call_share_before`` and ``call_share`` (strong calls before and after),
        ``rank_correlation`` (Spearman, win rates before and after; NaN where all are tied after), ``threshold``.
        Decisions that have nothing in common flip at 2 share (1 - share) of the changed prompts.

    Raises
    ------
    ParameterError
        When there is no router, no such perturbation, or a router's win rates are all the same.
    DataError
        When there are no prompts or a win rate is not a finite number.
    """
    from tqdm.auto import tqdm

    names = list(PERTURBATIONS) if names is None else list(names)
    _require_fractions(share=share, confidence_level=confidence_level)
    if not routers or not names:
        raise ParameterError(f"flip_rates: needs {'perturbations' if routers else 'routers'}, got none")
    texts = as_texts(prompts)
    perturbed = {name: perturb(texts, name, random_state) for name in names}
    rows = []
    with tqdm(total=len(routers) * len(names), desc="flips", disable=not settings().progress, leave=False) as progress:
        for router_name, router in routers.items():
            before = _win_rates(router, texts, router_name)
            threshold = _threshold(before, share, router_name)
            for name, others in perturbed.items():
                changed = np.array([text != other for text, other in zip(texts, others, strict=True)])
                after = before.copy()  # a prompt that is the same keeps its win rate
                after[changed] = _win_rates(router, [others[row] for row in np.flatnonzero(changed)], router_name)
                to_strong = (before < threshold) & (after >= threshold)
                to_weak = (before >= threshold) & (after < threshold)
                low, high = _wilson(int((to_strong | to_weak).sum()), len(texts), confidence_level)
                rows.append(
                    {
                        "router": router_name,
                        "perturbation": name,
                        "prompts": len(texts),
                        "changed": changed.mean(),
                        "flips": (to_strong | to_weak).mean(),
                        "low": low,
                        "high": high,
                        "to_strong": to_strong.mean(),
                        "to_weak": to_weak.mean(),
                        "call_share_before": (before >= threshold).mean(),
                        "call_share": (after >= threshold).mean(),
                        "rank_correlation": pd.DataFrame({0: before, 1: after}).corr("spearman").loc[0, 1],
                        "threshold": threshold,
                    }
                )
                progress.update()
    return pd.DataFrame(rows)


def worst_flips(table: pd.DataFrame) -> pd.Series:
    """The largest of the flip rates of each router, over the perturbations of `flip_rates`."""
    return table.groupby("router", sort=False)["flips"].max()


def adversarial_suffix(
    router: "Router",
    prompts: Iterable[str],
    words: Sequence[str] | None = None,
    length: int = 3,
    share: float = 0.5,
    random_state: int = 0,
    held_out: float = 0.5,
    confidence_level: float = 0.95,
    n_random: int = 20,
) -> AdversarialSuffix:
    """Search for words that, appended to a prompt, buy the strong model.

    Greedy: the word that raises the mean win rate most, over the search prompts that go to the weak model, then the
    next. Each step asks the router for ``len(words)`` times as many prompts, and a cache of encodings keeps them all:
    a few hundred prompts are enough.

    Parameters
    ----------
    router : Router
        Fitted.
    prompts : iterable of str
        Those that repeat count once.
    words : sequence of str, optional
        To choose from, with repetition; `SUFFIX_WORDS` by default.
    length : int
        Words of the suffix. It stands at the end of the question, before options and a closing ``Answer:``.
    share : float
        Of the search prompts, as they are, that go to the strong model, in (0, 1).
    random_state : int
        Of the split and of the random suffixes.
    held_out : float
        Share of the prompts that the suffix is tried on, in (0, 1); it is searched on the others.
    confidence_level : float
        Of the intervals.
    n_random : int
        Random suffixes, from the same words.

    Returns
    -------
    AdversarialSuffix

    Raises
    ------
    ParameterError
        When there is no word, or the win rates of the search prompts are all the same.
    DataError
        When there are fewer than three different prompts or a win rate is not a finite number.
    """
    from tqdm.auto import tqdm

    _require_fractions(share=share, held_out=held_out, confidence_level=confidence_level)
    for name, value in (("length", length), ("n_random", n_random)):
        require_number(name, value, 1, whole=True)
    if isinstance(words, str):
        raise ParameterError("words must be a list of words, got one bare string; wrap it in a list")
    vocabulary = list(dict.fromkeys(SUFFIX_WORDS if words is None else as_texts(words)))
    if not vocabulary:
        raise ParameterError("adversarial_suffix: needs words to choose from, got none")
    texts = list(dict.fromkeys(as_texts(prompts)))
    if len(texts) < 3:
        raise DataError(f"adversarial_suffix: needs three different prompts or more, got {len(texts)}")

    rng = np.random.default_rng(random_state)
    order = rng.permutation(len(texts))
    n_held = min(max(1, round(held_out * len(texts))), len(texts) - 2)
    held, search = [texts[row] for row in order[:n_held]], [texts[row] for row in order[n_held:]]
    who = router.name
    plain = _win_rates(router, search, who)
    threshold = _threshold(plain, share, who)
    weak = [text for text, win_rate in zip(search, plain, strict=True) if win_rate < threshold]

    suffix = ""
    for _ in tqdm(range(length), desc="suffix", disable=not settings().progress, leave=False):
        longer = [f"{suffix} {word}".strip() for word in vocabulary]
        asked = [_append(text, candidate) for candidate in longer for text in weak]
        suffix = longer[int(_win_rates(router, asked, who).reshape(len(longer), -1).mean(axis=1).argmax())]

    drawn = [
        " ".join(vocabulary[place] for place in row) for row in rng.integers(len(vocabulary), size=(n_random, length))
    ]
    asked = held + [_append(text, candidate) for candidate in (suffix, *drawn) for text in held]
    calls = (_win_rates(router, asked, who) >= threshold).reshape(2 + n_random, -1).mean(axis=1)
    before, after, *others = calls.tolist()
    return AdversarialSuffix(
        suffix,
        before,
        after,
        float(np.mean(others)),
        (min(others), max(others)),
        len(held),
        threshold,
        confidence_level,
    )


def _win_rates(router: "Router", texts: list[str], name: str) -> np.ndarray:
    values = np.asarray(router.win_rate(texts), float)
    if values.shape != (len(texts),) or not np.isfinite(values).all():
        raise DataError(
            f"{name}: win_rate must give one finite number per prompt, got shape {values.shape} for {len(texts)} "
            f"prompts, {np.isnan(values).sum()} of them NaN"
        )
    return values


def _threshold(win_rate: np.ndarray, share: float, name: str) -> float:
    """Halfway between two win rates that differ, where the share at or above comes nearest to the wanted one."""
    if not len(win_rate):
        raise DataError("no prompts given; robustness needs prompts to route")
    ranked = np.sort(win_rate)[::-1]
    cuts = np.flatnonzero(ranked[:-1] - ranked[1:] > max(_TIED * np.ptp(ranked), 1e-12)) + 1
    if not len(cuts):
        raise ParameterError(
            f"{name}: the win rate of all {len(win_rate)} prompts is {ranked[0]:.3g}, so that any threshold sends all "
            "or none of them to the strong model and no decision can flip; leave this router out"
        )
    cut = cuts[np.abs(cuts / len(ranked) - share).argmin()]
    return float((ranked[cut - 1] + ranked[cut]) / 2)


def _wilson(count: int, n: int, confidence_level: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(confidence_level, method="wilson")
    return float(interval.low), float(interval.high)


def _require_fractions(**values: float) -> None:
    for name, value in values.items():
        require_number(name, value, 0, 1, inside=True)
