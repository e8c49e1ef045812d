"""Language models of a few thousand random weights, made in a second without network, and votes to teach them."""

import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest

from routellm_lab import ModelPair, load_battles
from routellm_lab.encoders import quiet_transformers
from routellm_lab.preferences import Tiers, validate_battles
from routellm_lab.routers.transformers.training import seeded
from routellm_lab.settings import settings

WIDTH = 32
MAX_POSITIONS = 512


@lru_cache
def texts():
    return load_battles("arena_human", data="sample", size=300)["prompt"].tolist()


@lru_cache
def tiny(kind="encoder"):
    """The folder of a model that tests share: an ``encoder`` or a ``decoder``."""
    folder = settings().cache_dir / f"tiny-{kind}-{os.getpid()}"
    return make_encoder(folder) if kind == "encoder" else make_decoder(folder)


def make_encoder(folder, seed=0, **special):
    """A BERT of two layers; ``pad_token=None`` leaves its tokenizer without one."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    letters = [chr(code) for code in range(33, 127)]
    words = [word for word, _ in Counter(" ".join(texts()).lower().split()).most_common(200)]
    pieces = dict.fromkeys([*names.values(), *letters, *("##" + letter for letter in letters), *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}  # training one is not reproducible
    pieces = BertWordPieceTokenizer(vocabulary)._tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **_given(names | special))
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return _save(folder, seed, tokenizer, BertModel, BertConfig, max_position_embeddings=MAX_POSITIONS, **config)


def make_decoder(folder, seed=0, absolute=False, extra=(), **special):
    """A Llama of two layers, or a GPT-2, which counts positions from the first token (``absolute``).

    ``extra`` texts become tokens of their own; ``pad_token=None`` and ``eos_token=None`` leave these out.
    """
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    pairs = ByteLevelBPETokenizer(add_prefix_space=True)
    pairs.train_from_iterator(texts(), vocab_size=500, special_tokens=["<pad>", "<eos>"], show_progress=False)
    names = _given({"pad_token": "<pad>", "eos_token": "<eos>"} | special)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, **names)
    tokenizer.add_tokens(list(extra))
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    if absolute:
        size = {"n_layer": 2, "n_head": 2, "n_positions": MAX_POSITIONS}
        return _save(folder, seed, tokenizer, transformers.GPT2LMHeadModel, transformers.GPT2Config, **size, **ends)
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return _save(folder, seed, tokenizer, transformers.LlamaForCausalLM, transformers.LlamaConfig, **size, **ends)


def _given(names):
    return {name: value for name, value in names.items() if value is not None}


def _save(folder, seed, tokenizer, model, config, **options):
    with seeded(seed), quiet_transformers():
        options |= {"vocab_size": len(tokenizer), "hidden_size": WIDTH, "initializer_range": 0.1}
        model(config(**options)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(Path(folder))


PAIR = ModelPair("strong", "weak")
TIERS = Tiers({"s1": 0, "strong": 1, "mid": 2, "weak": 3, "w1": 3, "last": 4}, "toy")


def votes(*rows):
    return validate_battles(pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"]))


def separable():
    """40 votes that follow from their text: the strong model wins proofs, the weak one greetings."""
    proofs = [(f"Prove theorem number {row}, rigorously", "strong", "weak", "model_a") for row in range(24)]
    return votes(*proofs, *[(f"Say hello to friend {row}", "strong", "weak", "model_b") for row in range(16)])


def prepared(router, battles):
    """What a router would learn from: one row per distinct prompt, and the targets of each."""
    kept = []
    with pytest.MonkeyPatch.context() as instead:
        instead.setattr(type(router), "learn_votes", lambda self, votes: kept.append(votes))
        router.fit(battles)
    return kept[0], router._targets(kept[0]).tolist()
