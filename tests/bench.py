"""How fast the package is beside slow, literal versions of the same: ``python tests/bench.py [--only NAME]``.

Every part runs in a process of its own, so that its peak memory is its own. Rates are per second, the best of several
rounds; ratios compare two rates of the same run. They say nothing but what this machine did at that moment. The table
goes to the screen and, whole or not at all, to ``data/bench/latest.json``, the picture to ``figures/bench.png``.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import reference
import torch

from routellm_lab import RoutingCurve, evaluate, load_battles, load_outcomes
from routellm_lab.encoders import make_encoder, model_path, quiet_transformers
from routellm_lab.evaluation import Bootstrap, paper_other_tables
from routellm_lab.files import replacing
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import (
    BertRouter,
    CausalLMRouter,
    KernelRouter,
    KNNRouter,
    MatrixFactorizationRouter,
    PromptLengthRouter,
    RandomRouter,
    RidgeRouter,
    Router,
    SimilarityWeightedRouter,
    Training,
)
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.transformers.causal import SHORT_INSTRUCTION, pretrain_decoder
from routellm_lab.routers.transformers.training import device
from routellm_lab.settings import settings

VOTES = 55_000
GROWTH = (10_000, 55_000, 200_000, 1_000_000)
USD_PER_HOUR = 0.39
"""Of a virtual machine with 8 processors, as in the paper's overhead table."""
Row = dict[str, str | float | None]


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the best round; one more round before warms up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def per_second(work: Callable[[], object], units: int, rounds: int = 5) -> float:
    """Units of work per second in the best round."""
    return units / seconds(work, rounds)


def best_of(works: dict[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Seconds of the best round of each, in turns, so that what else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in taken.items()}


def row(name: str, ours: float, other: float | None, unit: str, detail: str) -> Row:
    ratio = None if other is None else ours / other
    return {"name": name, "ours": ours, "reference": other, "ratio": ratio, "unit": unit, "detail": detail}


def _questions(n: int = 1024) -> np.ndarray:
    return make_encoder("static").transform(load_outcomes("mmlu", data="sample", size=2 * n).prompts)[:n]


def similarity_weighted() -> Iterator[Row]:
    battles, queries = load_battles("arena_human", data="sample", size=VOTES), _questions()
    router = SimilarityWeightedRouter(SAMPLE_PAIR).fit(battles)
    trained, size = torch.from_numpy(router.votes_.vectors), router.batch_size
    space = torch.empty(len(trained), size)
    batches = [torch.from_numpy(queries[start : start + size]) for start in range(0, len(queries), size)]
    product = per_second(lambda: [torch.mm(trained, batch.T, out=space) for batch in batches], len(queries), 10)
    ours = per_second(lambda: router._tier_ratings(queries), len(queries), 10)

    vectors, votes = reference.vote_frame(router, battles)
    pair = router.tiers_.pair(SAMPLE_PAIR)
    few = queries[:3].astype(float)
    literal = per_second(
        lambda: [reference.released_win_rate(query, vectors, votes, *pair) for query in few], len(few), rounds=2
    )
    told = f"{VOTES:,} votes, {len(trained):,} prompts, {vectors.shape[1]} dimensions, {router.tiers_.n_tiers} tiers"
    yield row("similarity_weighted_exact", ours, literal, "prompts/s", f"{told}; beside the released procedure")
    yield row("similarity_weighted_product", ours, product, "prompts/s", f"{told}; beside its matrix product alone")


def similarity_weighted_growth() -> Iterator[Row]:
    queries, static = _questions(), make_encoder("static")
    static.cached = False  # vectors of a million prompts are not worth keeping
    for votes in GROWTH:
        battles = load_battles("arena_human", data="sample", size=votes)
        exact = SimilarityWeightedRouter(SAMPLE_PAIR).fit(battles)
        close = SimilarityWeightedRouter(SAMPLE_PAIR, method="approximate").fit(battles)
        rounds = 5 if votes <= VOTES else 2
        slow, fast = (per_second(lambda r=r: r._tier_ratings(queries), len(queries), rounds) for r in (exact, close))
        strong, weak = exact.tiers_.pair(SAMPLE_PAIR)
        rates, others = (
            sigmoid(ratings[:, strong] - ratings[:, weak])
            for ratings in (exact._tier_ratings(queries), close._tier_ratings(queries))
        )
        error = np.abs(rates - others)
        detail = (
            f"{votes:,} votes; beside the exact method; win rates are off by {error.mean():.5f} on average, "
            f"{np.quantile(error, 0.95):.5f} at the 95th percentile, {error.max():.5f} at most (standard deviation of "
            f"the exact ones {rates.std():.5f}); the router itself says {close.approximation_error_['p95']:.5f} at the "
            f"95th percentile; {_peak():.0f} MiB so far"
        )
        suffix = "" if votes == VOTES else f"_{votes}"
        yield row(f"similarity_weighted_approximate{suffix}", fast, slow, "prompts/s", detail)


def matrix_factorization() -> Iterator[Row]:
    battles = load_battles("arena_human", data="sample", size=VOTES)
    make_encoder("static").transform(battles["prompt"])  # both learn from vectors that are there
    router, trained = MatrixFactorizationRouter(SAMPLE_PAIR), []
    train = router._train

    def timed(*given: object) -> dict[str, torch.Tensor]:
        start = time.perf_counter()
        weights = train(*given)
        trained.append(time.perf_counter() - start)
        return weights

    router._train = timed  # type: ignore[method-assign]
    whole = seconds(lambda: router.fit(battles), rounds=1)
    ours = trained[-1]  # one training that counts on either side
    losses, literal = reference.paper_factorization(battles, epochs=100)
    best = router.history_["held_out_loss"].min()
    detail = (
        f"{VOTES:,} votes, trained in {ours:.1f} s ({whole:.1f} s with checks and cached vectors), held-out loss "
        f"{best:.4f}; beside the paper's recipe, 100 epochs of "
        f"batches of 64 in {literal:.0f} s, held-out loss {losses[-1]:.4f} at the end, {min(losses):.4f} at its best"
    )
    yield row("matrix_factorization_fit", 1 / ours, 1 / literal, "fits/s", detail)
    vectors = np.tile(_questions(1000), (100, 1))
    taken = seconds(lambda: router._scores(vectors, [SAMPLE_PAIR.strong, SAMPLE_PAIR.weak]))
    detail = f"{len(vectors):,} encoded prompts scored for both models in {taken:.3f} s"
    yield row("matrix_factorization_score", len(vectors) / taken, None, "prompts/s", detail)


def encoders() -> Iterator[Row]:
    from sentence_transformers import SentenceTransformer

    outcomes = load_outcomes("mmlu", data="sample")
    texts = outcomes.prompts.drop_duplicates().tolist()
    few = texts[:: len(texts) // 256]
    static, minilm, short = (make_encoder(name) for name in ("static", "minilm", "minilm:bfloat16"))
    with quiet_transformers():
        unmodified = SentenceTransformer(model_path("minilm"), device="cpu")
    taken = best_of(
        {
            "reference": lambda: unmodified.encode(few, show_progress_bar=False),
            "static": lambda: static._unit(texts),
            "minilm": lambda: minilm._unit(few),
            "bfloat16": lambda: short._unit(few),
        }
    )
    other = len(few) / taken["reference"]
    size = f"{np.mean([len(text) for text in texts]):.0f} characters on average, all cores, no cache"
    beside = f"{size}; beside unmodified sentence-transformers MiniLM"
    yield row("encode_static", len(texts) / taken["static"], other, "texts/s", beside)
    yield row("encode_minilm", len(few) / taken["minilm"], other, "texts/s", beside)

    battles = load_battles("arena_human", data="sample")
    full, half = (
        evaluate(RidgeRouter(SAMPLE_PAIR, encoder=encoder).fit(battles), outcomes).apgr for encoder in (minilm, short)
    )
    cosine = (minilm._unit(few) * short._unit(few)).sum(axis=1).min()
    detail = (
        f"{beside}; ridge's APGR {half:.4f} against {full:.4f} with 32 bits, cosines of the two at least {cosine:.4f}"
    )
    yield row("encode_minilm_bfloat16", len(few) / taken["bfloat16"], other, "texts/s", detail)

    for encoder, asked in ((minilm, few), (static, texts)):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["ROUTELLM_LAB_CACHE"] = folder
            settings.cache_clear()
            times, rates = [], []
            for _ in range(4):
                encoder.hits = encoder.misses = 0
                start = time.perf_counter()
                encoder.transform(asked)
                times.append(time.perf_counter() - start)
                rates.append(encoder.hit_rate)
        first, again = times[0], min(times[1:])
        detail = (
            f"{encoder.spec}, {len(asked)} texts: {first:.2f} s and hit rate {rates[0]:.0%} in the first run, "
            f"{again:.3f} s and {rates[-1]:.0%} in the second; beside the first run"
        )
        yield row(f"encode_cached_{encoder.spec}", len(asked) / again, len(asked) / first, "texts/s", detail)


def bootstrap() -> Iterator[Row]:
    outcomes = load_outcomes("mmlu", data="sample", size=14_037)
    rates = np.random.default_rng(0).random(len(outcomes))
    strong, weak = (outcomes.of(model).to_numpy() for model in (SAMPLE_PAIR.strong, SAMPLE_PAIR.weak))
    n, resamples, fewer = len(outcomes), 2_000, 100
    names = ["apgr", "cpt50", "cpt80"]

    def ours() -> None:
        RoutingCurve.from_win_rates(rates, outcomes, SAMPLE_PAIR).intervals(names, Bootstrap(n_resamples=resamples))

    def plain_loop() -> None:
        rng = np.random.default_rng(0)
        values = []
        for _ in range(fewer):
            drawn = rng.integers(0, n, n)
            curve = RoutingCurve(rates[drawn], strong[drawn], weak[drawn], pd.RangeIndex(n), SAMPLE_PAIR)
            values.append([curve.value(name) for name in names])
        np.quantile(values, [0.025, 0.975], axis=0)

    taken = seconds(ours, rounds=3)
    other = per_second(plain_loop, fewer, rounds=2)
    detail = f"{n:,} prompts, {resamples:,} resamples of APGR and both CPTs in {taken:.2f} s; beside one curve for each"
    yield row("evaluate_bootstrap", resamples / taken, other, "resamples/s", detail)


def _route(router: Router, prompts: list[str], name: str, detail: str, rounds: int = 3, single: int = 300) -> Row:
    """Texts in, names out: at once, and the first ones alone, each for the first time."""
    paper = paper_other_tables().query("table == '7 overhead' and column == 'requests per second'")
    published = paper.set_index("row")["value"].get(router.name)
    rate = per_second(lambda: router.route(prompts), len(prompts), rounds)
    alone = []
    for text in prompts[:single]:
        start = time.perf_counter()
        router.route([text])
        alone.append(1e3 * (time.perf_counter() - start))
    text = (
        f"texts in, names out, {len(prompts):,} new prompts at once; one alone: p50 {np.quantile(alone, 0.5):.2f} ms, "
        f"p99 {np.quantile(alone, 0.99):.2f} ms; {USD_PER_HOUR / 3600 / rate * 1e6:.4f} USD per million at "
        f"{USD_PER_HOUR} USD/h{detail}"
    )
    if published is not None:
        text += f"; the paper's table of overheads has {published:g} requests/s, on machines of its own: no ratio"
    return row(f"route_{name}", rate, None, "decisions/s", text)


def routes() -> Iterator[Row]:
    battles = load_battles("arena_human", data="sample")
    prompts = load_outcomes("mmlu", data="sample").prompts.drop_duplicates().tolist()
    encoder = make_encoder("static")
    kinds: list[type[Router]] = [
        RandomRouter,
        PromptLengthRouter,
        RidgeRouter,
        KNNRouter,
        KernelRouter,
        SimilarityWeightedRouter,
        MatrixFactorizationRouter,
    ]
    for kind in kinds:
        options = {"encoder": encoder} if "encoder" in kind._get_param_names() else {}
        router = kind(SAMPLE_PAIR, **options).fit(battles)
        encoder.cached = False  # what a new prompt costs, not one seen before
        try:
            yield _route(router, prompts, router.name, f"; trained on {len(battles):,} votes")
        finally:
            encoder.cached = True


def transformers() -> Iterator[Row]:
    """Speed does not depend on what was learned: a few steps of training serve, but for what 8 bits cost in APGR."""
    battles = load_battles("arena_human", data="sample")
    outcomes = load_outcomes("mmlu", data="sample")
    prompts = outcomes.prompts.drop_duplicates().tolist()[:1000]
    with tempfile.TemporaryDirectory() as folder:
        pretrain_decoder(battles["prompt"].head(2_000), folder, steps=20)
        few = Training(max_steps=2)
        bert = BertRouter(SAMPLE_PAIR, weak_tiers="below", training=few).fit(battles)
        causal = CausalLMRouter(
            SAMPLE_PAIR, folder, instruction=SHORT_INSTRUCTION, weak_tiers="below", training=few
        ).fit(battles)
    yield _route(bert, prompts, "bert", "; MiniLM", rounds=2, single=100)
    yield _route(causal, prompts, "causal_llm", "; a very small decoder", rounds=2, single=100)
    if device().type != "cpu":
        return  # 8 bits are for the CPU
    apgr, small = evaluate(bert, outcomes).apgr, bert.quantize()
    detail = f"; 8 bits: APGR {evaluate(small, outcomes).apgr:.4f} against {apgr:.4f} with 32"
    yield _route(small, prompts, "bert_int8", detail, rounds=2, single=100)


def past_one_machine() -> Iterator[Row]:
    """What handing work to Ray costs, where all of it runs on this one machine."""
    from routellm_lab.engine import engine, parallel

    prompts = load_battles("arena_human", data="sample", size=200_000)["prompt"].drop_duplicates().tolist()[:100_000]
    with engine("local") as here:
        alone = seconds(lambda: here.encode(prompts, "static"), rounds=1)
    start = time.perf_counter()
    with engine("ray") as there:
        began = time.perf_counter() - start
        shared = seconds(lambda: there.encode(prompts, "static"), rounds=1)
        tasks = 200
        each = seconds(lambda: parallel(abs, ((-number,) for number in range(tasks)), "nothing", tasks)) / tasks
        cores = there.cores
    detail = (
        f"{len(prompts):,} prompts, static encoder: {alone:.1f} s here, {shared:.1f} s through Ray on {cores} cores of "
        f"this machine; Ray takes {began:.1f} s to start; beside this process alone"
    )
    yield row("engine_encode", len(prompts) / shared, len(prompts) / alone, "prompts/s", detail)
    detail = f"{1e3 * each:.1f} ms for a task that does nothing, handed over by joblib and Ray"
    yield row("engine_tasks", 1 / each, None, "tasks/s", detail)


def start_up() -> Iterator[Row]:
    """How long until the package is imported, and until the command line has said what it can do."""
    commands = {
        "import_package": [sys.executable, "-c", "import routellm_lab"],
        "cli_help": [sys.executable, "-m", "routellm_lab", "--help"],
    }
    for name, command in commands.items():
        taken = seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True))
        yield row(name, 1 / taken, None, "starts/s", f"{taken:.2f} s, the start of Python included")


PARTS = {
    part.__name__: part
    for part in (
        start_up,
        similarity_weighted,
        similarity_weighted_growth,
        matrix_factorization,
        encoders,
        bootstrap,
        routes,
        transformers,
        past_one_machine,
    )
}


def _peak() -> float:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str) -> tuple[list[Row], float]:
    """The rows of a part, and the peak memory in MiB of the process that it had to itself."""
    return list(PARTS[name]()), _peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    chosen = parser.parse_args().only or list(PARTS)
    machine = f"{os.cpu_count()} cores, torch threads: {torch.get_num_threads()}"
    target: Path = settings().root / "data" / "bench" / "latest.json"
    rows = {row["name"]: row for row in json.loads(target.read_text("utf-8"))} if target.is_file() else {}
    if set(chosen) == set(PARTS):
        rows = {}
    for name in chosen:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            made, peak = process.submit(measure, name).result()
        for result in made:
            result["detail"] = f"{result['detail']} ({machine}; peak memory of `{name}` {peak:,.0f} MiB)"
            rows[result["name"]] = result
            print(pd.DataFrame([result]).drop(columns="detail").to_string(index=False, header=False), flush=True)
    with replacing(target) as aside:
        aside.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
    frame = pd.DataFrame(list(rows.values()))
    if frame["reference"].notna().any():
        draw(frame, machine)
    print(frame.drop(columns="detail").to_string(index=False, float_format=lambda value: f"{value:,.1f}", na_rep="-"))
    print("\n".join(f"{name}: {detail}" for name, detail in zip(frame["name"], frame["detail"], strict=True)))
    print(f"\nwritten to {target}")


def draw(frame: pd.DataFrame, machine: str) -> None:
    """The picture and its sidecar in ``figures/``."""
    from routellm_lab.plots import benchmark_ratios

    target = settings().root / "figures" / "bench.png"
    figure = benchmark_ratios(frame, detail=machine)
    with replacing(target) as aside:
        figure.savefig(aside, format="png")
    told = {"title": figure.get_suptitle(), "source": "make bench", "data": "sample", "simulated": True}
    with replacing(target.with_suffix(".json")) as aside:
        aside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
