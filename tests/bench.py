"""How fast the package is beside slow, literal versions of the same: ``python tests/bench.py [--only NAME]``.

Rates are per second, the best of several rounds, and say nothing but what this machine did at that moment. The table
goes to the screen and, whole or not at all, to ``data/bench/latest.json``.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import reference
import torch

from routellm_lab import RoutingCurve, evaluate, load_battles, load_outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.evaluation import paper_other_tables
from routellm_lab.files import replacing
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import (
    BertRouter,
    CausalLMRouter,
    KNNRouter,
    MatrixFactorizationRouter,
    PromptLengthRouter,
    RandomRouter,
    RidgeRouter,
    Router,
    SimilarityWeightedRouter,
    Training,
)
from routellm_lab.routers.causal import SHORT_INSTRUCTION, pretrain_decoder
from routellm_lab.settings import settings

VOTES = 55_000
BATCH = 256
Row = dict[str, str | float | None]


def per_second(work: Callable[[], object], units: int, rounds: int = 5) -> float:
    """Units of work per second, the best round; one more round before warms up."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return units / min(seconds[1:])


def row(name: str, ours: float, other: float | None, unit: str, detail: str) -> Row:
    ratio = None if other is None else ours / other
    return {"name": name, "ours": ours, "reference": other, "ratio": ratio, "unit": unit, "detail": detail}


def similarity_weighted() -> Iterator[Row]:
    battles = load_battles("arena_human", data="sample", size=VOTES)
    router = SimilarityWeightedRouter(SAMPLE_PAIR, batch_size=BATCH).fit(battles)
    prompts = load_outcomes("mmlu", data="sample", size=4 * BATCH).prompts.head(4 * BATCH)
    queries = make_encoder("static").transform(prompts)
    batches = [queries[start : start + BATCH] for start in range(0, len(queries), BATCH)]
    ours = per_second(lambda: [router._tier_ratings(batch) for batch in batches], len(queries), 10)

    trained = torch.from_numpy(router.vectors_)
    product = per_second(lambda: [trained @ torch.from_numpy(batch).T for batch in batches], len(queries), 10)

    vectors, votes = reference.vote_frame(router, battles)
    pair = router.tiers_.pair(SAMPLE_PAIR)
    few = queries[:3].astype(float)
    literal = per_second(
        lambda: [reference.released_win_rate(query, vectors, votes, *pair) for query in few], len(few), rounds=2
    )
    size = (
        f"{VOTES} votes, {len(router.vectors_)} prompts, {vectors.shape[1]} dimensions, {router.tiers_.n_tiers} tiers"
    )
    yield row(
        "similarity_weighted_exact", ours, literal, "prompts/s", f"{size}, batches of {BATCH}; released procedure"
    )
    yield row("similarity_weighted_product", ours, product, "prompts/s", f"{size}; beside its cosines alone")


def encoders() -> Iterator[Row]:
    texts = load_outcomes("mmlu", data="sample").prompts.tolist()
    static, minilm = make_encoder("static"), make_encoder("minilm")
    static.transform(texts[:2]), minilm.transform(texts[:2])
    ours = per_second(lambda: static._unit(texts), len(texts))
    other = per_second(lambda: minilm._unit(texts[:64]), 64, rounds=2)
    detail = f"{np.mean([len(text) for text in texts]):.0f} characters on average, no cache; beside MiniLM"
    yield row("encode_static", ours, other, "texts/s", detail)
    yield row("encode_minilm", other, None, "texts/s", detail.removesuffix("; beside MiniLM"))


def bootstrap() -> Iterator[Row]:
    outcomes = load_outcomes("mmlu", data="sample")
    rates = np.random.default_rng(0).random(len(outcomes))
    strong, weak = (outcomes.of(model).to_numpy() for model in (SAMPLE_PAIR.strong, SAMPLE_PAIR.weak))
    n, resamples, fewer = len(outcomes), 2_000, 100

    def ours() -> None:
        curve = RoutingCurve.from_win_rates(rates, outcomes, SAMPLE_PAIR)
        curve.interval("apgr", n_resamples=resamples, random_state=0)

    def plain_loop() -> None:
        rng = np.random.default_rng(0)
        areas = []
        for _ in range(fewer):
            drawn = rng.integers(0, n, n)
            areas.append(RoutingCurve(rates[drawn], strong[drawn], weak[drawn], pd.RangeIndex(n), SAMPLE_PAIR).apgr)
        np.quantile(areas, [0.025, 0.975])

    detail = f"{n} prompts, {resamples} resamples; beside one curve for each of {fewer}"
    other = per_second(plain_loop, fewer, rounds=2)
    yield row("evaluate_bootstrap", per_second(ours, resamples, rounds=2), other, "resamples/s", detail)


def routes() -> Iterator[Row]:
    battles = load_battles("arena_human", data="sample")
    prompts = load_outcomes("mmlu", data="sample").prompts.tolist()
    kinds: list[type[Router]] = [
        RandomRouter,
        PromptLengthRouter,
        RidgeRouter,
        KNNRouter,
        SimilarityWeightedRouter,
        MatrixFactorizationRouter,
    ]
    encoder = make_encoder("static")
    for kind in kinds:
        options = {"encoder": encoder} if "encoder" in kind._get_param_names() else {}
        router = kind(SAMPLE_PAIR, **options).fit(battles)
        encoder.cached = False  # what a new prompt costs, not one seen before
        try:
            rate = per_second(lambda router=router: router.route(prompts), len(prompts), rounds=3)
        finally:
            encoder.cached = True
        detail = f"texts in, names out, {len(prompts)} new prompts at once; trained on {len(battles)} votes"
        yield row(f"route_{router.name}", rate, None, "decisions/s", detail)


def transformers() -> Iterator[Row]:
    """Speed does not depend on what was learned: a few steps of training serve, but for what 8 bits cost in APGR."""
    battles = load_battles("arena_human", data="sample")
    outcomes = load_outcomes("mmlu", data="sample")
    prompts = outcomes.prompts.tolist()
    paper = paper_other_tables().query("table == '7 overhead' and column == 'requests per second'")
    published = paper.set_index("row")["value"]
    with tempfile.TemporaryDirectory() as folder:
        pretrain_decoder(battles["prompt"].head(2_000), folder, steps=20)
        few = Training(max_steps=2)
        bert = BertRouter(SAMPLE_PAIR, weak_tiers="below", training=few).fit(battles)
        causal = CausalLMRouter(
            SAMPLE_PAIR, folder, instruction=SHORT_INSTRUCTION, weak_tiers="below", training=few
        ).fit(battles)
    rates = {}
    for router, name in ((bert, "bert"), (causal, "causal_llm"), (bert, "bert_int8")):
        what = f"published: {published[router.name]:g} requests/s on one L4 GPU"
        if name == "bert_int8":
            apgr = evaluate(bert, outcomes).apgr
            what = f"APGR {evaluate(bert.quantize(), outcomes).apgr:.4f} against {apgr:.4f} with 32 bits"
        rates[name] = per_second(lambda router=router: router.win_rate(prompts), len(prompts), rounds=2)
        single = [
            1e3 / per_second(lambda router=router, text=text: router.win_rate([text]), 1, rounds=1)
            for text in prompts[:200]
        ]
        detail = (
            f"{len(prompts)} new prompts at once; one alone: p50 {np.quantile(single, 0.5):.1f} ms, p99 "
            f"{np.quantile(single, 0.99):.1f} ms; peak memory of the process "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB; {what}"
        )
        reference_rate = rates["bert"] if name == "bert_int8" else None
        yield row(f"route_{name}", rates[name], reference_rate, "decisions/s", detail)


def main() -> None:
    parts = {part.__name__: part for part in (similarity_weighted, encoders, bootstrap, routes, transformers)}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=parts, action="append", help="one part; may be given again")
    chosen = parser.parse_args().only or list(parts)
    machine = f"{os.cpu_count()} cores, torch threads: {torch.get_num_threads()}"
    rows = []
    for name in chosen:
        for result in parts[name]():
            result["detail"] = f"{result['detail']} ({machine})"
            rows.append(result)
    target: Path = settings().root / "data" / "bench" / "latest.json"
    with replacing(target) as aside:
        aside.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    shown = pd.DataFrame(rows).drop(columns="detail").set_index("name")
    print(shown.to_string(float_format=lambda value: f"{value:,.1f}", na_rep="-"))
    print(f"\n{machine}; written to {target}")


if __name__ == "__main__":
    main()
