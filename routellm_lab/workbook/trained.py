"""Transformer routers, trained once on a data root's training sets and kept in ``data/routers`` for the notebooks."""

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from routellm_lab.benchmarks import default_pair
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, require_number
from routellm_lab.files import disk_errors, inside, read_json, replacing, require_real
from routellm_lab.preferences import vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.routers import BertRouter, CausalLMRouter, Router, Training, load_router
from routellm_lab.routers.transformers.causal import SHORT_INSTRUCTION, pretrain_decoder
from routellm_lab.routers.transformers.training import is_main_process, wait_for_all
from routellm_lab.settings import settings
from routellm_lab.studies.training_sets import paper_training_sets
from routellm_lab.workbook.hashing import hash_json, trained_index
from routellm_lab.workbook.runs import checked, locked


def hash_votes(battles: pd.DataFrame) -> str:
    """Hash of what a router learns from: prompts, models, winners and weights."""
    from pandas.util import hash_pandas_object

    frame = battles[["prompt", "model_a", "model_b", "winner"]].assign(weight=vote_weights(battles))
    return hash_json(hash_pandas_object(frame, index=False).tolist())


KINDS = ("bert", "causal_llm")
"""The routers of the tables: trained on every set."""
THREE_CLASSES = "bert_three_classes"
"""The BERT router with the released head, for the ablations: trained on ``arena+gold`` alone."""


def transformer_routers(pair: ModelPair, decoder: str | Path, seed: int) -> dict[str, Router]:
    """The routers that are trained: MiniLM as the BERT router, a very small decoder as the causal one."""
    shared: dict[str, Any] = {"weak_tiers": "below", "random_state": seed}
    return {
        "bert": BertRouter(pair, training=BERT_TRAINING, **shared),
        "causal_llm": CausalLMRouter(
            pair, str(decoder), instruction=SHORT_INSTRUCTION, training=CAUSAL_TRAINING, **shared
        ),
        THREE_CLASSES: BertRouter(pair, head="three_classes", tie_share=0.0, training=BERT_TRAINING, **shared),
    }


class _Trained(BaseModel):
    """What the index says of a router or of the decoder; ``votes_hash`` and ``votes`` of routers only."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    hash: str
    seconds: float
    prompts: int
    held_out_loss: float
    votes_hash: str = ""
    votes: int = 0


BERT_TRAINING = Training(epochs=3)
CAUSAL_TRAINING = Training(epochs=3, learning_rate=3e-4)
_DECODER_STEPS = 600
FITS = 3
"""How often each router is fitted."""


def train_routers(
    data: str, gold_questions: int = 1500, seed: int = 0, fresh: bool = False, fits: int = FITS
) -> Iterator[dict[str, Any]]:
    """Fit the transformer routers on the three training sets of a data root into ``data/routers``.

    Each recipe is fitted several times, to see how much its results vary: fit k (from 0) has the seed ``seed + k`` and,
    of ``arena+gold``, draw k of the gold questions.

    What is there already, of the same votes and parameters, stays; an interrupted training goes on where it was. Under
    ``torchrun`` or ``accelerate launch`` all processes train each router together, and only the first one writes. A
    second training on the same data root waits for the first one.

    Parameters
    ----------
    data : str
        ``sample``, ``hub`` or a folder.
    gold_questions : int
        In the set ``arena+gold``.
    seed : int
        Of the gold questions, the pretraining and the routers.
    fresh : bool
        Train again whatever is there.
    fits : int
        How often each recipe is fitted.

    Yields
    ------
    dict
        One router at a time, when it is there: ``name`` (training set / router / number of the fit), ``trained`` (now,
        or earlier), ``seconds``, ``votes``, ``prompts``, ``held_out_loss``.

    Raises
    ------
    RoutellmLabError
        When the index is damaged, or there is a link or special file among the routers.
    """
    require_number("fits", fits, 1, whole=True)
    path, pair = trained_index(settings().root, data), default_pair(data)
    with ExitStack() as stack:
        if is_main_process():
            stack.enter_context(locked(path.parent, wait=True))
            require_real(path.parent)
        wait_for_all()
        yield from _train(path, data, pair, gold_questions, seed, fresh, fits)


def _train(
    path: Path, data: str, pair: ModelPair, gold_questions: int, seed: int, fresh: bool, fits: int
) -> Iterator[dict[str, Any]]:
    folder, index = path.parent, {} if fresh else _read_index(path)
    sets = paper_training_sets(data, pair, gold_questions, random_state=seed, n_draws=fits)
    # without the gold questions, most of which are evaluated after another draw
    texts = pd.concat([votes["prompt"] for name, votes in sets.clean.items() if name != "arena+gold"]).dropna().unique()
    decoder = folder / "decoder"
    made_of = hash_json([sorted(texts), _DECODER_STEPS, seed])
    if is_main_process() and (index.get("decoder", {}).get("hash") != made_of or not decoder.is_dir()):
        start = time.perf_counter()
        history = pretrain_decoder(texts, decoder, steps=_DECODER_STEPS, batch_tokens=1024, random_state=seed)
        loss = float(history["held_out_loss"].iloc[-1])
        seconds = round(time.perf_counter() - start, 1)
        index = _write_index(
            path, "decoder", {"hash": made_of, "seconds": seconds, "prompts": len(texts), "held_out_loss": loss}
        )
        yield {"name": "decoder", "trained": True, **index["decoder"]}
    wait_for_all()
    for fit, training in itertools.product(range(fits), sets.clean):
        draws = sets.draws(training)
        votes = draws[fit % len(draws)]
        for kind, router in transformer_routers(pair, decoder, seed + fit).items():
            if kind not in KINDS and training != "arena+gold":
                continue
            name = f"{training}/{kind}/{fit}"
            parameters = {key: str(value) for key, value in router.get_params(deep=False).items()}
            made_from = hash_json([hash_votes(votes), parameters | {"model": made_of}])
            there = index.get(name, {}).get("hash") == made_from and (folder / name / "config.json").is_file()
            trained = fresh or not there
            if trained:
                start = time.perf_counter()
                router.fit(votes).save(folder / name)
                entry = {
                    "hash": made_from,
                    "votes_hash": hash_votes(votes),
                    "seconds": round(time.perf_counter() - start, 1),
                    "votes": router.n_votes_,  # type: ignore[attr-defined]
                    "prompts": router.n_train_ + router.n_held_out_,  # type: ignore[attr-defined]
                    "held_out_loss": float(router.history_["held_out_loss"].min()),  # type: ignore[attr-defined]
                }
                index = _write_index(path, name, entry) if is_main_process() else index | {name: entry}
            yield {"name": name, "trained": trained, **index[name]}


def trained_routers(
    data: str,
    draws: Mapping[str, Sequence[pd.DataFrame]],
    kinds: Iterable[str] = KINDS,
    pair: ModelPair | None = None,
) -> tuple[dict[tuple[str, str], list[list[Router]]], dict[tuple[str, str], str]]:
    """The routers that `train_routers` made of exactly these votes.

    Parameters
    ----------
    data : str
    draws : dict of str to list of DataFrame
        Training sets by name, a frame per draw of the gold questions.
    kinds : iterable of str
        Which of them (see `transformer_routers`).
    pair : ModelPair, optional
        Routers of another pair are left out; they were trained for the pair of the data root.

    Returns
    -------
    fits : dict of (training, router) to list of list of Router
        As `routellm_lab.evaluation.fit_again` gives them: a row per draw, up to the first without a router, or one row
        with a column per seed.
    missing : dict of (training, router) to str
        Why a router is not among them, in words.
    """
    path = trained_index(settings().root, data)
    found: dict[tuple[str, str], list[list[Router]]] = {}
    missing: dict[tuple[str, str], str] = {}
    folder, index = path.parent, _read_index(path)
    for (training, frames), kind in itertools.product(draws.items(), kinds):
        hashes, routers = [hash_votes(votes) for votes in frames], []
        for fit in itertools.count():
            entry = index.get(f"{training}/{kind}/{fit}")
            if entry is None or (len(frames) > 1 and fit == len(frames)):
                reason = "not trained yet"
            elif entry.get("votes_hash") != hashes[fit % len(frames)]:
                reason = "trained on other votes"
            else:
                try:
                    saved = inside(inside(inside(folder, training), kind), str(fit))
                    require_real(saved)
                    loaded = load_router(saved)
                    if pair is None or loaded.pair == pair:
                        routers.append(loaded)
                        continue
                    reason = f"trained for another pair, {loaded.pair}"
                except (DataError, ParameterError) as error:
                    reason = f"cannot be loaded: {error}"
            break
        if routers:
            found[training, kind] = [[router] for router in routers] if len(frames) > 1 else [routers]
        else:
            missing[training, kind] = reason
    return found, missing


def three_classes_changes(
    data: str, draws: Sequence[pd.DataFrame], pair: ModelPair | None = None
) -> tuple[dict[Router, dict[str, Any]], dict[Router, Any]]:
    """The BERT router with the released head (three classes) against the one here, for `routellm_lab.studies.ablation`.

    Parameters
    ----------
    data : str
    draws : list of DataFrame
        ``arena+gold``, a frame per draw of the gold questions.
    pair : ModelPair, optional
        See `trained_routers`.

    Returns
    -------
    changes : dict of Router to dict of str to fits
        With a tie as half a win, and with a tie as a win of the weak model, as released. Empty where the routers are
        not trained yet.
    references : dict of Router to fits
        The BERT router as it is here.
    """
    sets, kinds = {"arena+gold": draws}, ("bert", THREE_CLASSES)
    found = trained_routers(data, sets, kinds, pair)[0]
    here, released = (found.get(("arena+gold", kind)) for kind in kinds)
    half = trained_routers(data, sets, (THREE_CLASSES,), pair)[0].get(("arena+gold", THREE_CLASSES))
    if here is None or released is None or half is None:
        return {}, {}
    for router in (router for row in half for router in row):
        router.set_params(tie_share=0.5)
    bert = here[0][0]
    named = {"three classes, tie = 1/2": half, "three classes, tie = weak wins (released)": released}
    return {bert: named}, {bert: here}


def _read_index(path: Path) -> dict[str, Any]:
    """The index, checked; empty where there is none."""
    try:
        require_real(path.parent, deep=False)
        return checked(read_json(path), dict[str, _Trained], path) if path.exists() else {}
    except DataError as error:
        raise RoutellmLabError(f"{path}: damaged; remove it to train anew ({error})") from error


def _write_index(path: Path, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    index = _read_index(path) | {name: entry}
    with disk_errors(path), replacing(path) as aside:
        aside.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", "utf-8")
    return index
