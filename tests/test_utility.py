"""Score routers: one contract for all, formulas against literal ones, planted truth, models that come and go."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from routellm_lab import load_outcomes
from routellm_lab.benchmarks import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import ModelPair, prompt_key
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.routers import (
    ClusterScores,
    ConstantScores,
    IRTScores,
    KNNScores,
    LogisticScores,
    MatrixFactorizationRouter,
    RidgeScores,
    Router,
    ScoreRouter,
    SimilarityWeightedRouter,
    VotesScores,
    load_router,
    random_battles,
)
from routellm_lab.routers.scores.fitting import logistic, one_more

ENCODER = "hashing:64"
ANY_PAIR = ModelPair("one", "another")
ROUTERS = {
    "constant": ConstantScores(),
    "ridge": RidgeScores(ENCODER),
    "logistic": LogisticScores(ENCODER, penalties=(1.0, 10.0)),
    "nearest": KNNScores(ENCODER, n_neighbors=(5, 20)),
    "clusters": ClusterScores(ENCODER, clusters=(2, 5)),
    "response_theory": IRTScores(ENCODER),
    "matrix_factorization": VotesScores(MatrixFactorizationRouter(ANY_PAIR, ENCODER, dimensions=8, epochs=5)),
    "similarity_weighted": VotesScores(SimilarityWeightedRouter(ANY_PAIR, ENCODER, n_tiers=4)),
}
ADDING = [name for name, router in ROUTERS.items() if not isinstance(router, VotesScores)]
NEEDS_TWO_MODELS = {"response_theory", "matrix_factorization", "similarity_weighted"}
FOLDED = ["logistic", "nearest", "clusters", "response_theory"]
WORDS = "river stone proof tax cloud verb heart engine market poem atom law".split()

all_routers = pytest.mark.parametrize("name", ROUTERS)
adding_routers = pytest.mark.parametrize("name", ADDING)


def make_outcomes(seed=0, size=120, models=5, missing=0.0, low=0.0, high=1.0):
    """Models that are the better the later, on prompts that are the harder the more they speak of proofs."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 8))) for _ in range(size)]
    index = pd.Index([f"q{number}" for number in range(size)], name="prompt_id")
    hard = np.array([text.count("proof") + text.count("law") for text in texts])
    chance = 1 / (1 + np.exp(2 * hard[:, None] - np.linspace(-0.5, 2, models)))
    scores = np.where(rng.random(chance.shape) < chance, high, low)
    scores[rng.random(chance.shape) < missing] = np.nan
    prompts = pd.Series(texts, index)
    columns = [f"m{number}" for number in range(models)]
    return Outcomes("toy", prompts, pd.DataFrame(scores, index, columns), prompts.map(len), prompts.map(prompt_key))


@pytest.fixture(scope="module")
def toy():
    return make_outcomes()


@pytest.fixture(scope="module")
def fitted(toy):
    return {name: clone(router).fit(toy) for name, router in ROUTERS.items()}


@pytest.fixture(scope="module")
def halves():
    """The simulated benchmark of many models: two thirds and the rest."""
    sample = load_outcomes("mmlu_pro", data="sample")
    parts = split_by_prompt(pd.DataFrame({"prompt_key": sample.keys}), 0.33, 0)
    return tuple(sample.select(sample.prompts.index[part].to_numpy()) for part in parts)


def brier(utilities, outcomes):
    return float(((utilities - outcomes.scores) ** 2).to_numpy().mean())


# the contract


@all_routers
def test_utilities_are_one_score_per_prompt_and_model(fitted, toy, name):
    utilities = fitted[name].expected_scores(toy.prompts)
    assert list(utilities.columns) == toy.models
    assert utilities.index.equals(toy.prompts.index)
    assert ((utilities >= 0) & (utilities <= 1)).all(axis=None)
    assert list(fitted[name].expected_scores(["a proof", "tax"]).index) == [0, 1]
    assert fitted[name].expected_scores([]).shape == (0, 5)
    assert fitted[name].name == name


@all_routers
def test_a_batch_is_its_prompts_one_by_one(fitted, name):
    prompts = ["a proof of the law", "tax", "", "😀", "river stone cloud", "word " * 2_000]
    batch = fitted[name].expected_scores(prompts).to_numpy()
    single = np.concatenate([fitted[name].expected_scores([prompt]).to_numpy() for prompt in prompts])
    np.testing.assert_allclose(batch, single, atol=1e-6 if name == "similarity_weighted" else 1e-9)


@all_routers
def test_the_same_seed_gives_the_same_numbers(fitted, toy, name):
    again = clone(ROUTERS[name]).fit(toy)
    pd.testing.assert_frame_equal(again.expected_scores(toy.prompts), fitted[name].expected_scores(toy.prompts))


@all_routers
def test_missing_scores_are_left_out(name):
    whole, outcomes = make_outcomes(1, 200), make_outcomes(1, 200, missing=0.3)
    outcomes.scores.iloc[:3] = np.nan
    router = clone(ROUTERS[name]).fit(outcomes)
    utilities = router.expected_scores(whole.prompts)
    assert utilities.notna().all(axis=None)
    assert abs(utilities.mean() - outcomes.scores.mean()).max() < 0.08
    assert brier(utilities, whole) < brier(whole.scores.mean() * 0 + 0.5, whole)


@all_routers
def test_scores_in_another_unit(fitted, toy, name):
    judged = replace(toy, scores=1 + 9 * toy.scores)
    utilities = clone(ROUTERS[name]).fit(judged).expected_scores(toy.prompts)
    np.testing.assert_allclose(utilities, 1 + 9 * fitted[name].expected_scores(toy.prompts), atol=1e-3)


@all_routers
def test_one_model_only(toy, name):
    outcomes = replace(toy, scores=toy.scores[["m2"]])
    router = clone(ROUTERS[name])
    if name in NEEDS_TWO_MODELS:
        with pytest.raises(DataError, match=f"at least {3 if name == 'response_theory' else 2} models"):
            router.fit(outcomes)
        return
    assert list(router.fit(outcomes).expected_scores(toy.prompts).columns) == ["m2"]
    with pytest.raises(ParameterError, match="only model left"):
        router.drop_model("m2")
    assert router.add_model("new", toy.scores["m4"], toy.prompts).expected_scores(["tax"]).notna().all(axis=None)


@all_routers
def test_all_scores_equal(toy, name):
    router, outcomes = clone(ROUTERS[name]), replace(toy, scores=toy.scores * 0 + 1)
    if name == "response_theory":
        with pytest.raises(DataError, match="equally hard"):
            router.fit(outcomes)
        return
    np.testing.assert_allclose(router.fit(outcomes).expected_scores(toy.prompts), 1)


@pytest.mark.parametrize("name", FOLDED)
def test_fewer_prompts_than_folds(toy, name):
    few = toy.select(toy.prompts.drop_duplicates().index[:2].to_numpy())
    with pytest.raises(DataError, match=r"2 distinct prompts with scores for folds=.*fewer folds"):
        clone(ROUTERS[name]).fit(few)
    with pytest.raises(ParameterError, match="folds must be a whole number from 2"):
        clone(ROUTERS[name]).set_params(folds=1).fit(toy)


def test_what_cannot_be_fitted_says_so(toy):
    with pytest.raises(ParameterError, match="must be Outcomes"):
        RidgeScores(ENCODER).fit(toy.scores)
    with pytest.raises(DataError, match="no score of model m1"):
        RidgeScores(ENCODER).fit(replace(toy, scores=toy.scores.assign(m1=np.nan)))
    single = toy.scores.assign(m1=toy.scores["m1"].where(np.arange(len(toy)) == 0))
    with pytest.raises(DataError, match="'m1' has a single score"):
        RidgeScores(ENCODER).fit(replace(toy, scores=single))
    wrong = [
        (RidgeScores, {"alphas": ()}),
        (RidgeScores, {"alphas": 3}),
        (KNNScores, {"n_neighbors": (0,)}),
        (KNNScores, {"n_neighbors": (1.5,)}),
        (ClusterScores, {"clusters": (-1,)}),
        (LogisticScores, {"penalties": ("a",)}),
    ]
    for kind, options in wrong:
        with pytest.raises(ParameterError, match=f"{kind.__name__}: {next(iter(options))} must be"):
            kind(ENCODER, **options).fit(toy)
    with pytest.raises(ParameterError, match="shrinkage must be"):
        ClusterScores(ENCODER, shrinkage=0).fit(toy)
    with pytest.raises(ParameterError, match="pairs_per_prompt must be"):
        clone(ROUTERS["matrix_factorization"]).set_params(pairs_per_prompt=0).fit(toy)
    with pytest.raises(NotFittedError):
        RidgeScores(ENCODER).expected_scores(["tax"])
    with pytest.raises(DataError, match="bare string"):
        ConstantScores().fit(toy).expected_scores("tax")
    with pytest.raises(TypeError, match="abstract"):
        ScoreRouter()


# saved routers


@all_routers
def test_a_saved_router_gives_the_same_utilities(name, tmp_path, monkeypatch):
    """With missing scores in another unit, after a model was dropped, and when one comes or goes later."""

    def refuse(*_, **__):
        raise AssertionError("loading must not unpickle")

    outcomes = make_outcomes(1, missing=0.3, low=-2.5, high=7.1)
    router, new = clone(ROUTERS[name]).fit(outcomes).drop_model("m1"), make_outcomes(6, 40).prompts
    folder = router.save(tmp_path / "deep" / "router")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "weights.safetensors"]
    for load in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, load, refuse)
    for loaded in (load_router(folder), type(router).load(folder)):
        assert type(loaded) is type(router)
        assert vars(loaded).keys() == vars(router).keys()
        pd.testing.assert_frame_equal(loaded.expected_scores(new), router.expected_scores(new), rtol=0, atol=1e-12)
    both = [one.drop_model("m3") for one in (router, loaded)]
    if name in ADDING:
        both = [one.add_model("new", outcomes.scores["m1"].iloc[:30], outcomes.prompts) for one in both]
    expected = both[0].expected_scores(new)
    pd.testing.assert_frame_equal(both[1].expected_scores(new), expected, rtol=0, atol=1e-12)
    again = load_router(both[1].save(folder))
    pd.testing.assert_frame_equal(again.expected_scores(new), expected, rtol=0, atol=1e-12)
    pd.testing.assert_frame_equal(
        clone(again).fit(outcomes).expected_scores(new).drop(columns="m1"), router.expected_scores(new)
    )


@all_routers
def test_what_cannot_be_saved_or_loaded_says_so(fitted, name, tmp_path):
    router, folder = fitted[name], tmp_path / "router"
    with pytest.raises(NotFittedError):
        clone(router).save(folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ParameterError, match="is not empty and holds no router"):
        router.save(folder)
    folder = router.save(tmp_path / "saved")
    weights, config = folder / "weights.safetensors", folder / "config.json"
    other = ConstantScores if name != "constant" else RidgeScores
    for kind in (other, Router):
        known = f"is no {kind.__name__} that is known here, but it is a {type(router).__name__}"
        with pytest.raises(DataError, match=f"a saved '{type(router).__name__}' {known}"):
            kind.load(folder)
    whole, text = weights.read_bytes(), config.read_text()
    told = json.loads(text)
    state = told["state"]
    config.write_text(json.dumps(told | {"state": state | {"models_": state["models_"][1:]}}))
    with pytest.raises(DataError, match=r"weights and config\.json do not belong together"):
        load_router(folder)
    if name != "constant":
        config.write_text(json.dumps(told | {"encoder": "other"}))
        with pytest.raises(DataError, match="fitted on encoder other, but 'hashing:64' is hashing:64 here"):
            load_router(folder)
    config.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="not a saved router, or a damaged one"):
        load_router(folder)
    config.write_text(text)
    weights.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"weights\.safetensors: changed or truncated"):
        load_router(folder)


# formulas


def test_ridge_is_one_regression_per_model_on_its_own_prompts():
    outcomes = make_outcomes(2, 80, missing=0.2)
    router = RidgeScores(ENCODER, alphas=(2.0,)).fit(outcomes)
    vectors = router._encode(outcomes.prompts)
    for model in outcomes.models:
        known = outcomes.scores[model].notna().to_numpy()
        alone = Ridge(alpha=2.0).fit(vectors[known], outcomes.scores[model][known])
        np.testing.assert_allclose(
            router.expected_scores(outcomes.prompts)[model], alone.predict(vectors).clip(0, 1), atol=1e-8
        )


def test_nearest_is_a_mean_over_neighbours_and_the_mean():
    outcomes = make_outcomes(3, 60, missing=0.2)
    router = KNNScores(ENCODER, n_neighbors=(7,)).fit(outcomes)
    vectors = router._encode(outcomes.prompts)
    for row in (0, 11, 42):
        closest = np.sort(vectors @ vectors[row])[::-1]
        if closest[6] - closest[7] < 1e-9:
            continue  # which of two is seventh is open
        near = outcomes.scores[vectors @ vectors[row] >= closest[6]]
        literal = (near.sum() + outcomes.scores.mean()) / (near.notna().sum() + 1)
        np.testing.assert_allclose(router.expected_scores(outcomes.prompts).iloc[row], literal)


def test_clusters_hold_shrunk_means(fitted, toy):
    router, cluster = fitted["clusters"], fitted["clusters"].cluster_of(toy.prompts)
    assert router.sizes_.sum() == len(toy)
    part = toy.scores[cluster == 0]
    np.testing.assert_allclose(router.means_[0], (part.sum() + 10 * toy.scores.mean()) / (len(part) + 10))


def test_logistic_is_that_of_scikit_learn(toy):
    from sklearn.linear_model import LogisticRegression

    router = LogisticScores(ENCODER, penalties=(2.0,)).fit(toy)
    vectors = router._encode(toy.prompts)
    for model in ("m0", "m3"):
        alone = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(vectors, toy.scores[model])
        np.testing.assert_allclose(
            router.expected_scores(toy.prompts)[model], alone.predict_proba(vectors)[:, 1], atol=2e-3
        )


@given(seed=st.integers(0, 10_000), models=st.integers(1, 6), labels=st.integers(1, 12))
@settings(max_examples=25)
def test_one_more_is_the_posterior_mean(seed, models, labels):
    rng = np.random.default_rng(seed)
    known, own = rng.normal(size=(4, models)), rng.normal(size=(4, 2))
    features, scores, noise = rng.normal(size=(labels, 4)), rng.normal(size=labels), 0.3
    mean = known.mean(axis=1)
    covariance = np.cov(known, bias=True).reshape(4, 4) + own @ own.T
    gain = covariance @ features.T @ np.linalg.inv(features @ covariance @ features.T + noise * np.eye(labels))
    literal = mean + gain @ (scores - features @ mean)
    np.testing.assert_allclose(one_more(known, own, features, scores, noise), literal, atol=1e-8)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_logistic_ends_where_the_gradient_is_none(seed):
    rng = np.random.default_rng(seed)
    features, targets = rng.normal(size=(40, 3)), rng.random((40, 2))
    targets[rng.random(targets.shape) < 0.2] = np.nan
    penalty = np.array([0.5, 1.0, 4.0])
    weights = logistic(features, targets, penalty)
    excess = np.nan_to_num(1 / (1 + np.exp(-features @ weights)) - targets)
    np.testing.assert_allclose(features.T @ excess + penalty[:, None] * weights, 0, atol=2e-2)


@given(seed=st.integers(0, 10_000), pairs=st.integers(1, 12))
@settings(max_examples=20)
def test_votes_of_random_pairs_agree_with_the_scores(seed, pairs):
    outcomes = make_outcomes(seed, 30, models=4, missing=0.3)
    battles = random_battles(outcomes, pairs, seed)
    votes, copies = battles["prompt_key"].value_counts(), outcomes.keys.value_counts()
    assert (votes <= pairs * copies[votes.index]).all()
    assert (battles["model_a"] != battles["model_b"]).all()
    unique = ~outcomes.prompts.duplicated(keep=False)
    scores = outcomes.scores[unique].set_index(outcomes.prompts[unique]).to_dict("index")
    for vote in battles[battles["prompt"].isin(scores)].itertuples():
        gap = scores[vote.prompt][vote.model_a] - scores[vote.prompt][vote.model_b]
        assert vote.winner == ("tie" if gap == 0 else "model_a" if gap > 0 else "model_b")


@given(order=st.permutations(range(5)))
@settings(max_examples=5)
@pytest.mark.parametrize("name", ["ridge", "nearest", "clusters"])
def test_the_order_of_the_models_does_not_matter(fitted, toy, name, order):
    turned = replace(toy, scores=toy.scores.iloc[:, list(order)])
    utilities = clone(ROUTERS[name]).fit(turned).expected_scores(toy.prompts)
    assert list(utilities.columns) == turned.models
    np.testing.assert_allclose(utilities[toy.models], fitted[name].expected_scores(toy.prompts), atol=1e-9)


def test_copies_of_a_prompt_are_held_out_together():
    """With every prompt twice, leaving out one copy only would choose a single neighbour."""
    outcomes = make_outcomes(5, 100)
    twice = [
        replace(outcomes, **{part: getattr(outcomes, part).add_suffix(mark, axis=0) for part in PARTS}) for mark in "ab"
    ]
    joined = Outcomes("twice", *(pd.concat([getattr(one, part) for one in twice]) for part in PARTS))
    assert KNNScores(ENCODER, n_neighbors=(1, 20)).fit(joined).k_ == 20


PARTS = ("prompts", "scores", "groups", "keys")


# planted truth


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "constant"])
def test_utilities_are_nearer_to_the_truth_than_the_mean_scores(halves, static_encoder, name):
    train, test = halves
    kinds = {
        "ridge": RidgeScores(),
        "logistic": LogisticScores(),
        "nearest": KNNScores(),
        "clusters": ClusterScores(),
        "response_theory": IRTScores(),
        "matrix_factorization": VotesScores(MatrixFactorizationRouter(ANY_PAIR)),
        "similarity_weighted": VotesScores(SimilarityWeightedRouter(ANY_PAIR, n_tiers=23)),
    }
    constant = ConstantScores().fit(train).expected_scores(test.prompts)
    utilities = kinds[name].fit(train).expected_scores(test.prompts)
    assert brier(utilities, test) < brier(constant, test) - (0.001 if name in NEEDS_TWO_MODELS else 0.01)
    truth = test.competence.to_numpy().ravel()
    correlation = [np.corrcoef(part.to_numpy().ravel(), truth)[0, 1] for part in (utilities, constant)]
    assert correlation[0] > correlation[1]


def test_difficulty_is_told_from_the_text(halves, static_encoder):
    train, test = halves
    router = IRTScores().fit(train)
    assert 0.4 < router.explained_ < 1
    assert np.corrcoef(router.difficulty(test.prompts), test.competence.mean(axis=1))[0, 1] < -0.7
    assert router.ability_.corr(train.competence.mean(), method="spearman") > 0.95
    assert (router.discrimination_ > 0).all()


def test_specialists_are_found():
    """Two models, each good at one topic: every router that reads prompts sends each topic to its specialist."""
    rng = np.random.default_rng(0)
    topic = rng.random(300) < 0.5
    texts = [f"{'sonnet poem' if t else 'matrix proof'} {rng.choice(WORDS)} {n}" for n, t in enumerate(topic)]
    prompts = pd.Series(texts, [f"q{n}" for n in range(300)])
    chance = np.column_stack([np.where(topic, 0.9, 0.3), np.where(topic, 0.3, 0.9)])
    scores = pd.DataFrame((rng.random(chance.shape) < chance).astype(float), prompts.index, ["poet", "prover"])
    outcomes = Outcomes("topics", prompts, scores, prompts.map(len), prompts.map(prompt_key))
    learner = VotesScores(MatrixFactorizationRouter(ANY_PAIR, ENCODER))
    kinds = {name: ROUTERS[name] for name in ("ridge", "logistic", "nearest", "clusters")} | {"votes": learner}
    for name, kind in kinds.items():
        router = clone(kind).fit(outcomes)
        chosen = router.expected_scores(["sonnet poem of the river", "matrix proof of the tax"]).idxmax(axis=1)
        assert list(chosen) == ["poet", "prover"], name


# models come and go


@adding_routers
def test_adding_and_dropping_leaves_the_others_alone(fitted, toy, name):
    before = fitted[name].expected_scores(toy.prompts)
    fewer = fitted[name].drop_model("m3")
    pd.testing.assert_frame_equal(fewer.expected_scores(toy.prompts), before.drop(columns="m3"))
    labels = toy.scores["m3"].sample(30, random_state=0)
    more = fewer.add_model("m3 again", labels, toy.prompts)
    assert more.models_ == ["m0", "m1", "m2", "m4", "m3 again"]
    pd.testing.assert_frame_equal(more.expected_scores(toy.prompts)[fewer.models_], before.drop(columns="m3"))
    pd.testing.assert_frame_equal(fitted[name].expected_scores(toy.prompts), before)
    assert more.expected_scores(toy.prompts)["m3 again"].between(0, 1).all()
    pd.testing.assert_frame_equal(
        more.drop_model("m3 again").expected_scores(toy.prompts), fewer.expected_scores(toy.prompts)
    )


@pytest.mark.parametrize("name", ["matrix_factorization", "similarity_weighted"])
def test_routers_of_votes_drop_but_do_not_add(fitted, toy, name):
    before = fitted[name].expected_scores(toy.prompts)
    pd.testing.assert_frame_equal(fitted[name].drop_model("m1").expected_scores(toy.prompts), before.drop(columns="m1"))
    with pytest.raises(ParameterError, match=r"cannot add a model.*fit again"):
        fitted[name].add_model("new", toy.scores["m0"], toy.prompts)


def test_what_cannot_be_added_or_dropped_says_so(fitted, toy):
    router, labels = fitted["ridge"], toy.scores["m0"][:10]
    with pytest.raises(ParameterError, match="no model 'm9'; nearest: m"):
        router.drop_model("m9")
    with pytest.raises(ParameterError, match="'m0' is among the models already"):
        router.add_model("m0", labels, toy.prompts)
    with pytest.raises(DataError, match="no such prompt id in prompts: q3"):
        router.add_model("new", labels, toy.prompts.drop("q3"))
    with pytest.raises(DataError, match=r"from 0 to 1.*rescale"):
        router.add_model("new", labels * 10 + 1, toy.prompts)
    with pytest.raises(DataError, match="one score or more"):
        router.add_model("new", labels * np.nan, toy.prompts)
    with pytest.raises(DataError, match="each of another prompt id"):
        router.add_model("new", pd.concat([labels, labels]), toy.prompts)
    with pytest.raises(ParameterError, match="must be Series"):
        router.add_model("new", {"q0": 1.0}, toy.prompts)


@pytest.mark.parametrize("kind", [RidgeScores, LogisticScores, KNNScores, ClusterScores, IRTScores])
def test_more_labels_bring_a_new_model_nearer_to_the_truth(halves, static_encoder, kind):
    train, test = halves
    new = ["sim-clay", "sim-gravel", "sim-boulder"]
    known = [model for model in train.models if model not in new]
    options = {"penalties": (1.0,)} if kind is LogisticScores else {}
    router = kind(**options).fit(replace(train, scores=train.scores[known], competence=None))
    errors = {"mean score": []}
    for labels in (10, 200):
        errors[labels] = []
        for model in new:
            for seed in range(3):
                scores, truth = train.scores[model].sample(labels, random_state=seed), test.competence[model]
                told = router.add_model(model, scores, train.prompts).expected_scores(test.prompts)[model]
                errors[labels].append(((told - truth) ** 2).mean())
                if labels == 200:
                    errors["mean score"].append(((scores.mean() - truth) ** 2).mean())
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean[200] < mean[10] - 0.005
    assert mean[200] < 0.9 * mean["mean score"]
