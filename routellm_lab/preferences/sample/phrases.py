"""The words of the sample's prompts and what they mean, read from phrases.json.

``domains``
    Of each its kind of ``task``, its ``effect`` on difficulty, the ``slope`` with which ability shows in it, and its
    ``topics`` by language and level. ``*`` marks the word that carries the topic, ``#`` stands for a number.
``verbs``
    By language and kind of task: phrases with their effects; ``@`` is the topic. The same verb has another effect in
    another kind of task: the interaction that a purely additive reading of the words misses.
``manners``
    How the answer should be, in every kind of task: an effect, and phrases of that effect. Many ways to say the same:
    an encoder that knows which words mean alike needs fewer votes.
``small_talk``
    Around the task: no effect, any length, so that length says little. ``~`` is one of the ``names``, ``%`` one of the
    ``places``.
"""

import json
from pathlib import Path
from typing import Any

PHRASES: dict[str, Any] = json.loads(Path(__file__).with_name("phrases.json").read_text("utf-8"))
DOMAINS = tuple(PHRASES["domains"])
LANGUAGES = {"en": "English", "es": "Spanish", "de": "German"}

PUNCTUATION = ".,;:!?¿¡\"'()"
"""What may stand around a word."""

ARENA_DOMAINS = {name: 2.0 if name in ("arithmetic", "algebra") else 1.0 for name in DOMAINS}
"""How often each domain is asked about in the votes, relative to each other."""


def marked(phrase: str) -> list[str]:
    """The marked words of a phrase, as `PUNCTUATION` and case leave them."""
    return [word[1:].strip(PUNCTUATION).lower() for word in phrase.replace("'*", "*").split() if word.startswith("*")]


def unmarked(phrases: "list[str] | dict[str, float]") -> list[str]:
    """Phrases as they are written, without the marks."""
    return [phrase.replace("*", "") for phrase in phrases]
