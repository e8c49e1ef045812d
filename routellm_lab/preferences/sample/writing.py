"""Prompts of the sample, written from phrases."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd

from routellm_lab.preferences.battles import prompt_key
from routellm_lab.preferences.sample.draws import CHUNK, draw, stream
from routellm_lab.preferences.sample.phrases import PHRASES, unmarked
from routellm_lab.preferences.sample.reading import read

_WITH_MANNER = 0.75  # share of prompts that ask for one
_WITH_SMALL_TALK = 0.4  # share of prompts that come with it

RESERVED = {"mmlu": (0, 1), "gsm8k": (2,), "mt_bench": (3,), "mmlu_pro": (2, 3)}
"""Classes of prompts (of `_CLASSES`, by key) kept for the benchmarks: no vote is ever on one of their prompts. A few
questions of mmlu_pro are in gsm8k and mt_bench as well, for decontamination to find."""

_CLASSES = 32


def simulate_prompts(
    name: str,
    size: int,
    seed: int,
    domains: dict[str, float],
    languages: dict[str, float],
    keep: Callable[[int], bool],
    unique: bool = False,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Simulated prompts with what the world reads in them.

    Parameters
    ----------
    name : str
        The set: prompts of different sets are independent.
    size : int
    seed : int
    domains, languages : dict
        How often each is drawn, relative to each other.
    keep : callable
        Takes the class of a prompt (see `RESERVED`), says whether the set may hold it.
    unique : bool
        No ``prompt_key`` twice.

    Returns
    -------
    prompts : DataFrame
        ``prompt`` and ``prompt_key``, (size,); fewer prompts are the start of more.
    domain, language : (size,) int arrays
    difficulty : (size,) array, logits
    """
    texts: list[str] = []
    keys: list[str] = []
    seen: set[str] = set()
    chunk = 0
    while len(texts) < size:
        for text in _write(stream(seed, name, "prompts", chunk), domains, languages):
            key = prompt_key(text)
            if keep(int(key, 16) % _CLASSES) and not (unique and key in seen):
                texts.append(text)
                keys.append(key)
                if unique:
                    seen.add(key)
        chunk += 1
    texts, keys = texts[:size], keys[:size]
    domain, language, difficulty = read(texts)
    frame = pd.DataFrame({"prompt": pd.Series(texts, dtype="str"), "prompt_key": pd.Series(keys, dtype="str")})
    return frame, domain, language, difficulty


def unreserved(number: int) -> bool:
    """Whether votes may be on a prompt of this class."""
    return not any(number in classes for classes in RESERVED.values())


def _write(rng: np.random.Generator, domains: dict[str, float], languages: dict[str, float]) -> list[str]:
    """Write one chunk of prompts."""
    banks, people, places = _banks(), PHRASES["names"], PHRASES["places"]
    names, codes = list(domains), list(languages)
    domain = draw(np.array(list(domains.values())), rng.random(CHUNK)).tolist()
    language = draw(np.array(list(languages.values())), rng.random(CHUNK)).tolist()
    picks = rng.random((CHUNK, 9)).tolist()
    lengths = rng.choice(np.arange(1, 6), size=CHUNK, p=[0.25, 0.3, 0.2, 0.15, 0.1])
    numbers = (rng.random((CHUNK, 3)) * 9 * 10.0 ** (lengths[:, None] - 1)).astype(int)
    numbers = (numbers + 10 ** (lengths[:, None] - 1)).astype(str).tolist()
    texts = []
    for subject, spoken, pick, values in zip(domain, language, picks, numbers, strict=True):
        topics, verbs, manners, small_talk = banks[names[subject], codes[spoken]]
        level = topics[int(pick[0] * 4)]
        text = verbs[int(pick[1] * len(verbs))].replace("@", level[int(pick[2] * len(level))])
        while "#" in text:
            text = text.replace("#", values.pop(), 1)
        manner = ""
        if pick[3] < _WITH_MANNER:
            phrases = manners[int(pick[3] / _WITH_MANNER * len(manners))]
            manner = " " + phrases[int(pick[8] * len(phrases))]
        text = f"{text}{manner}."
        if pick[4] < _WITH_SMALL_TALK:
            aside = small_talk[int(pick[4] / _WITH_SMALL_TALK * len(small_talk))]
            aside = aside.replace("~", people[int(pick[5] * len(people))])
            aside = aside.replace("%", places[int(pick[6] * len(places))])
            text = f"{aside} {text}" if pick[7] < 0.5 else f"{text} {aside}"
        texts.append(text)
    return texts


@lru_cache(maxsize=1)
def _banks() -> dict[tuple[str, str], tuple[list[list[str]], list[str], list[list[str]], list[str]]]:
    """Topics by level, verbs, manners and small talk of each domain and language, without the marks."""
    return {
        (name, code): (
            [unmarked(level) for level in levels.values()],
            unmarked(PHRASES["verbs"][code][domain["task"]]),
            [unmarked(manner["phrases"]) for manner in PHRASES["manners"][code]],
            PHRASES["small_talk"][code],
        )
        for name, domain in PHRASES["domains"].items()
        for code, levels in domain["topics"].items()
    }
