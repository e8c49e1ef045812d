"""The router to start with: its recipe, which notebook 09 examines, its votes, its cache and its card."""

import contextlib
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.benchmarks import Outcomes, default_pair, load_outcomes, outcome_names
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, escape_markdown
from routellm_lab.files import data_folder
from routellm_lab.preferences import decontaminate, gold_split, pool_battles, sample_questions
from routellm_lab.preferences.difficulty import battles_from_difficulty
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.kernel import KernelRouter
from routellm_lab.settings import settings

RECIPE: dict[str, Any] = {"sets": {"gold": 1.0, "difficulty": 1.0}, "topic_share": 0.5, "length": 0.15}
"""The recipe of `recommended_router`: weights of the vote sets, how much of the difference between topics the
difficulty labels keep (see `battles_from_difficulty`), and the weight of the length of the question in the kernel."""

GOLD, DIFFICULTY = "mmlu", "mmlu_pro"
EVALUATED = ("mt_bench", "gsm8k", "mmlu")


def recommended_sets(
    pair: ModelPair,
    data: str | None = None,
    *,
    gold_questions: int = 1500,
    topic_share: float = RECIPE["topic_share"],
    encoder: Any = "minilm",
    random_state: int = 0,
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The votes of the recommended router, without any prompt of the benchmarks that it may be evaluated on.

    Parameters
    ----------
    pair : ModelPair
    data : str, optional
        A data root; the one of the settings by default.
    gold_questions : int
        Questions of MMLU whose grades serve as labels (the set "gold"; `gold_prompt_ids` names them), where the root
        has grades of both models; 0 for none. They must not be evaluated on.
    topic_share : float
        See `battles_from_difficulty`: the set "difficulty", from all models' answers to MMLU-Pro.
    encoder : str or Encoder
        Whose cosine of .95 or more counts as the same prompt.
    random_state : int
        Of the choice of gold questions.

    Returns
    -------
    sets : dict of str to DataFrame
    dropped : DataFrame
        What decontamination took out (see `decontaminate`), with a column ``set``.

    Raises
    ------
    DataError
        When the data root has neither of the two.
    """
    names = outcome_names(data)
    benchmarks = {name: load_outcomes(name, data=data) for name in EVALUATED if name in names}
    clean: dict[str, pd.DataFrame] = {}
    dropped: list[pd.DataFrame] = []
    graded = set(benchmarks[GOLD].models) if GOLD in benchmarks else set()
    if gold_questions and {pair.strong, pair.weak} <= graded:
        ids = gold_prompt_ids(benchmarks[GOLD], gold_questions, random_state)
        others = (outcomes for name, outcomes in benchmarks.items() if name != GOLD)
        split = gold_split(benchmarks[GOLD], pair, ids, *others, encoder=make_encoder(encoder))
        clean["gold"] = split.votes
        dropped.append(split.dropped.assign(set="gold"))
    if DIFFICULTY in names:  # clean of the gold questions as well, whichever are drawn
        hard = _without_overlap(load_outcomes(DIFFICULTY, data=data), *benchmarks.values())
        votes = battles_from_difficulty(hard, pair, topic_share=topic_share)
        clean["difficulty"], gone = decontaminate(votes, *benchmarks.values(), encoder=make_encoder(encoder))
        if len(gone):  # what is left out shall not shape the labels of the rest either
            hard = hard.select(hard.keys.isin(set(clean["difficulty"]["prompt_key"])).to_numpy())
            clean["difficulty"] = battles_from_difficulty(hard, pair, topic_share=topic_share)
        dropped.append(gone.assign(set="difficulty"))
    if not clean:
        raise DataError(
            f"recommended_router: no labels: of {GOLD}, {gold_questions} grades of {pair} were asked for"
            f"{' and it has none' if gold_questions else ''}, and there are no outcomes of {DIFFICULTY}; use "
            "gold_questions=1500, data='sample' or a folder, or train a router on votes of your own"
        )
    return clean, pd.concat(dropped, ignore_index=True)


def gold_prompt_ids(outcomes: Outcomes, questions: int, random_state: int = 0) -> pd.Index:
    """Prompt ids of the gold questions of a benchmark: at most half of it, stratified by group."""
    if questions < 0:
        raise ParameterError(f"gold_questions must be 0 or more, got {questions!r}")
    return sample_questions(outcomes, min(questions, len(outcomes) // 2), random_state=random_state)


def _without_overlap(outcomes: Outcomes, *evaluated: Outcomes) -> Outcomes:
    """The questions that their source does not mark as another benchmark's: marked ones shall not shape the labels."""
    marks = [f"overlaps_{other.name}" for other in evaluated]
    if outcomes.details is None:
        return outcomes
    marked = outcomes.details[[mark for mark in marks if mark in outcomes.details]]
    return outcomes.select(~marked.any(axis=1).to_numpy(bool))


def recommended_router(
    pair: ModelPair | None = None,
    data: str | None = None,
    *,
    gold_questions: int = 1500,
    encoder: Any = "minilm",
    random_state: int = 0,
    fresh: bool = False,
) -> KernelRouter:
    """The documented default: trained on what a data root has for it, or read from the cache.

    A `KernelRouter` on two sets of labels (`RECIPE`): grades of the pair on some MMLU questions, and how hard those of
    MMLU-Pro are to many models. The recipe is the middle of a family; notebook 09 compares it with others on sources
    held out of the labels. What that comparison cannot say: it has few sources, and many recipes lie within its noise;
    the family itself was found while figures on the reported benchmarks were seen, so that new benchmarks are the
    fairer test; and MMLU-Pro and MMLU are of one kind, multiple choice in English. The effect of another draw of the
    gold questions is not in any interval over prompts.

    Parameters
    ----------
    pair : ModelPair, optional
        The data root's own pair by default. For a pair without grades the difficulty labels alone serve.
    data : str, optional
        ``sample`` or a folder; the one of the settings by default.
    gold_questions : int
        See `recommended_sets`; these questions must not be evaluated on. 0: a router that never saw MMLU.
    encoder : str or Encoder
    random_state : int
    fresh : bool
        Train again, whatever the cache holds.

    Returns
    -------
    KernelRouter
        Fitted. `router_card` describes it.

    Raises
    ------
    DataError
        When the data root has neither kind of label for the pair.

    Warns
    -----
    UserWarning
        When gold questions are asked for and a model of the pair has no grades on MMLU: difficulty labels alone serve.
        When the router cannot be kept in the cache folder, as with an encoder that has no name.
    """
    data = str(settings().data if data is None else data)
    pair = default_pair(data) if pair is None else pair
    _check_asked(pair, gold_questions)
    asked = [str(pair), gold_questions, make_encoder(encoder).fingerprint, random_state, RECIPE]
    folder = settings().cache_dir / "recommended" / _identity(data, asked)
    if not fresh and (folder / "config.json").is_file():
        with contextlib.suppress(DataError):  # damaged, or the encoder cannot be built again from its name
            return KernelRouter.load(folder, encoder)
    sets, _ = recommended_sets(pair, data, gold_questions=gold_questions, encoder=encoder, random_state=random_state)
    if gold_questions and "gold" not in sets:
        warnings.warn(
            f"recommended_router: {GOLD} has no grades of both {pair.strong!r} and {pair.weak!r}; the router is "
            "trained on difficulty labels alone, which know nothing of the pair",
            UserWarning,
            stacklevel=2,
        )
    router = KernelRouter(
        pair,
        encoder=encoder,
        sets={name: RECIPE["sets"][name] for name in sets},
        length=RECIPE["length"],
        tiers=Tiers({pair.strong: 0, pair.weak: 1}, source=f"{pair}, as given"),
    ).fit(pool_battles(sets, balance=False))
    try:
        router.save(folder)
    except RoutellmLabError as error:  # the next call has to train again, and that is all
        warnings.warn(f"recommended_router: not kept for the next time: {error}", UserWarning, stacklevel=2)
    return router


def router_card(router: KernelRouter) -> str:
    """What a recommended router is, in Markdown: its pair, labels, parameters, and what it must not be used for."""
    labels = {
        "gold": f"grades of both models on questions of {GOLD}, which must not be evaluated on",
        "difficulty": f"how hard questions of {DIFFICULTY} are to many models (item response theory)",
    }
    rows = [
        f"| {escape_markdown(name)} | {labels.get(name, 'votes')} | {count:,} | {router.weights_[name]:g} |"
        for name, count in router.prompts_.items()
    ]
    unseen = f" It never saw {GOLD}." if set(router.prompts_) == {"difficulty"} else ""
    return "\n".join(
        [
            f"# Router for {escape_markdown(router.pair.strong)} and {escape_markdown(router.pair.weak)}",
            "",
            f"A `KernelRouter` on `{make_encoder(router.encoder).spec}`: per set of labels a kernel regression "
            f"(width {router.width:g}, noise {router.noise:g}, weight of the length of the question "
            f"{router.length:g}).{unseen}",
            "",
            "| set | labels | prompts | weight |",
            "|---|---|---|---|",
            *rows,
            "",
            "**Use.** `router.win_rate(prompts)` ranks prompts by how much the strong model is needed; choose a "
            "threshold for a share of calls on your own traffic. `router.familiarity(prompts)` says how close they "
            "are to the training prompts.",
            "",
            "**Limits.** English questions, first turn only, as far as the encoder reads. The win rate is a ranking, "
            "not a calibrated probability. Words appended to a prompt can cause a call to the strong model: notebook "
            "11 shows how often. Answer options are recognised by capital letters; in lower case they are read as part "
            "of the question.",
            "",
            "**How the recipe was chosen.** By validation on a few held-out label sources, where many recipes could "
            "not be distinguished. The family of recipes was found while results on MMLU, GSM8K and MT Bench were "
            "seen: new benchmarks are the fairer test. The labels are multiple choice in English, as MMLU is. Another "
            "draw of the gold questions gives another router; an interval over prompts does not show that.",
            "",
        ]
    )


def _check_asked(pair: Any, gold_questions: Any) -> None:
    if not isinstance(pair, ModelPair):
        raise ParameterError(f"pair must be a ModelPair(strong=..., weak=...), got {pair!r}")
    if isinstance(gold_questions, bool) or not isinstance(gold_questions, int) or gold_questions < 0:
        raise ParameterError(f"gold_questions must be a whole number of 0 or more, got {gold_questions!r}")


def _identity(data: str, asked: list[Any]) -> str:
    """Changes whenever the fitted router would: with what was asked for, the data's files and the package's sources."""
    digest = hashlib.sha256(json.dumps([data in ("sample", "hub") and data, asked]).encode())
    files = list(Path(__file__).parent.parent.rglob("*.py"))
    if data not in ("sample", "hub"):
        folder = data_folder(data, "outcomes")
        files += [file for name in (*EVALUATED, DIFFICULTY) for file in folder.glob(f"{name}.*") if file.is_file()]
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
