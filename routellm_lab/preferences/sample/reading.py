"""What the simulated world reads in a text: its domain, its language and its difficulty, from marked words."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from routellm_lab.preferences.sample.phrases import DOMAINS, LANGUAGES, PHRASES, PUNCTUATION, marked

EFFECT_UNIT = 1.5
"""Logits of difficulty per unit of the effects below."""
BASE_DIFFICULTY = -1.9
"""Difficulty, in logits, of a text without any marked word."""
LEVEL_EFFECTS = (-1.1, -0.4, 0.3, 1.05)
"""Effect on difficulty of a topic's level: school, everyday, university, research."""
DIGIT_EFFECT = 0.3
"""Effect of one more digit in the numbers of a calculation, from two digits on."""
_RARE_LANGUAGE_EFFECT = 1.3  # Latin, Basque: a second marked word in the verb's phrase
# Difficulty of a language, and where a language meets a domain: the second planted interaction.
_LANGUAGE_EFFECT = {"en": 0.0, "es": 0.3, "de": 0.3}

_LANGUAGE_DOMAIN_EFFECT = {
    ("es", "law"): 0.6,
    ("de", "law"): 0.6,
    ("es", "coding"): 0.3,
    ("de", "coding"): 0.3,
    ("es", "translation"): -0.6,
    ("de", "history"): -0.6,
}

_NO_DOMAIN = len(DOMAINS)  # text of another world: no affinity, effects of words without a domain


@dataclass(frozen=True)
class Lexicon:
    """Marked words: number of each, its effect per domain, and the domain and language it stands for (-1: none)."""

    number: dict[str, int]
    effects: np.ndarray
    domain: np.ndarray
    language: np.ndarray


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """All marked words of the phrases."""
    entries: dict[str, dict] = {}

    def add(phrase: str, effect: float, domains: Iterable[int], **topic: int) -> None:
        head, *rest = marked(phrase)
        for word, value in [(head, effect), *((word, _RARE_LANGUAGE_EFFECT) for word in rest)]:
            entry = entries.setdefault(word, {"effects": {}, "domain": -1, "language": -1})
            for domain in domains:
                if entry["effects"].setdefault(domain, value) != value:
                    raise ValueError(f"sample: the word {word!r} has two meanings")
            entry.update(topic)

    everywhere = range(_NO_DOMAIN + 1)
    for number, domain in enumerate(PHRASES["domains"].values()):
        for language, (code, levels) in enumerate(domain["topics"].items()):
            for effect, phrases in zip(LEVEL_EFFECTS, levels.values(), strict=True):
                for phrase in phrases:
                    add(phrase, effect, everywhere, domain=number, language=language)
            for phrase, effect in PHRASES["verbs"][code][domain["task"]].items():
                add(phrase, effect, [number])
    for manner in itertools.chain(*PHRASES["manners"].values()):
        for phrase in manner["phrases"]:
            add(phrase, manner["effect"], everywhere)
    effects = np.zeros((len(entries) + 1, _NO_DOMAIN + 1))
    for row, entry in enumerate(entries.values()):
        for domain, effect in entry["effects"].items():
            effects[row, domain] = effect
    return Lexicon(
        number={word: row for row, word in enumerate(entries)},
        effects=effects,
        domain=np.array([entry["domain"] for entry in entries.values()] + [-1]),
        language=np.array([entry["language"] for entry in entries.values()] + [-1]),
    )


def read_prompts(prompts: Iterable[str]) -> pd.DataFrame:
    """What the simulated world reads in a text: all that decides how well a model answers it.

    Parameters
    ----------
    prompts : iterable of str
        Any text; only the sample's words mean something here.

    Returns
    -------
    DataFrame
        (n rows) ``domain`` and ``language`` (null where no word of the sample's topics occurs) and ``difficulty``, in
        logits.
    """
    texts = list(prompts)
    domain, language, difficulty = read(texts)
    return pd.DataFrame(
        {
            "domain": pd.Series(np.array([*DOMAINS, None], object)[domain], dtype="str"),
            "language": pd.Series(np.array([*LANGUAGES.values(), None], object)[language], dtype="str"),
            "difficulty": difficulty,
        }
    )


def read(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the domain and of the language (the last: none), and difficulty, of each text."""
    known = lexicon()
    rows: list[int] = []
    words: list[int] = []
    digit_rows: list[int] = []
    digits: list[int] = []
    for row, text in enumerate(texts):
        for raw in text.lower().split():
            word = raw.strip(PUNCTUATION)
            entry = known.number.get(word)
            if entry is not None:
                rows.append(row)
                words.append(entry)
            elif word.isdecimal():
                digit_rows.append(row)
                digits.append(len(word))
    n = len(texts)
    at, word_of = np.array(rows, int), np.array(words, int)
    domain, language = np.full(n, _NO_DOMAIN), np.full(n, len(LANGUAGES))
    topics = np.flatnonzero(known.domain[word_of] >= 0)[::-1]  # backwards: the first topic of a text is written last
    domain[at[topics]] = known.domain[word_of[topics]]
    language[at[topics]] = known.language[word_of[topics]]
    effects = known.effects[word_of, domain[at]]
    units = _domain_effects()[domain, language] + np.bincount(at, effects, minlength=n)
    largest = np.zeros(n, int)
    np.maximum.at(largest, np.array(digit_rows, int), np.array(digits, int))
    counts = np.isin(domain, [DOMAINS.index("arithmetic"), DOMAINS.index("algebra")]) & (largest > 0)
    units += np.where(counts, DIGIT_EFFECT * (np.minimum(largest, 6) - 2.0), 0.0)
    return domain, language, BASE_DIFFICULTY + EFFECT_UNIT * units


@lru_cache(maxsize=1)
def _domain_effects() -> np.ndarray:
    table = np.zeros((_NO_DOMAIN + 1, len(LANGUAGES) + 1))
    table[:-1] = np.array([domain["effect"] for domain in PHRASES["domains"].values()])[:, None]
    table[:-1, :-1] += np.array([_LANGUAGE_EFFECT[code] for code in LANGUAGES])
    for (code, name), effect in _LANGUAGE_DOMAIN_EFFECT.items():
        table[DOMAINS.index(name), list(LANGUAGES).index(code)] += effect
    return table
