"""A semantic cache in front of a router: what was asked before is not asked again.

A request that is, but for case and white space, one already answered gets that answer for nothing (exact hit). One that
is near it, by the cosine of the encodings, and has the same numbers gets the answer rewritten by a cheap model (near
hit). Any other is routed (miss). A near hit on another question is a wrong one: `choose_threshold` bounds their share.

What an encoder hardly sees is compared by rules: numbers with their signs, operators and units; words in another order;
negations; indentation; and what the encoder's vocabulary lacks. Beyond the rules and left to the encoder are: numbers
in words, one word in place of another (a name, a unit that is not listed, "largest" and "smallest"), upper and lower
case, and order and negation in other languages than English.
"""

from routellm_lab.systems.cache.replay import CachedStream, caches_table, play_stream
from routellm_lab.systems.cache.semantic import Hit, SemanticCache
from routellm_lab.systems.cache.threshold import (
    THRESHOLDS,
    CacheThreshold,
    cache_sentences,
    choose_threshold,
    labelled_pairs,
    threshold_table,
)
from routellm_lab.systems.cache.traffic import NEAR, traffic_shares, zipf_stream

__all__ = [
    "NEAR",
    "THRESHOLDS",
    "CacheThreshold",
    "CachedStream",
    "Hit",
    "SemanticCache",
    "cache_sentences",
    "caches_table",
    "choose_threshold",
    "labelled_pairs",
    "play_stream",
    "threshold_table",
    "traffic_shares",
    "zipf_stream",
]
