"""The contract check itself: it passes honest routers, ours and strangers', and names the rule that one breaks."""

import doctest

import numpy as np
import pytest
from test_utility import ROUTERS, make_outcomes
from tiny_models import PAIR, separable

from routellm_lab import routers
from routellm_lab.encoders import Encoder
from routellm_lab.errors import ParameterError
from routellm_lab.routers import ConstantRouter, PairOnlyRouter, RidgeRouter, ScoreRouter, WinRateRouter, check_router
from routellm_lab.routers.saving.fields import NUMBER, Array


@pytest.mark.parametrize("name", ROUTERS)
def test_every_score_router_keeps_the_contract(name):
    check_router(ROUTERS[name], make_outcomes(1, missing=0.2))


@pytest.mark.parametrize("module", [routers, routers.checks], ids=lambda module: module.__name__)
def test_the_examples_of_the_page_on_routers_are_true(module):
    assert doctest.testmod(module).failed == 0


class Own(PairOnlyRouter):
    """What somebody else would write: the share of wins among prompts with the same first letter."""

    name = "own"
    saved = {"shares_": Array(256), "mean_": NUMBER}  # noqa: RUF012

    def __init__(self, pair, smoothing=1.0, tiers=None, n_tiers=2, strong_tiers=None, weak_tiers=None, stand_ins=None):
        self.pair = pair
        self.smoothing = smoothing
        self.tiers = tiers
        self.n_tiers = n_tiers
        self.strong_tiers = strong_tiers
        self.weak_tiers = weak_tiers
        self.stand_ins = stand_ins

    def learn_prompts(self, prompts, label, weight):
        self.mean_ = float(np.average(label, weights=weight))
        letter = self._letters(prompts)
        won, total = (np.bincount(letter, values, 256) for values in (weight * label, weight))
        self.shares_ = (won + self.smoothing * self.mean_) / (total + self.smoothing)

    def compute_win_rate(self, texts):
        return self.shares_[self._letters(texts)]

    def _letters(self, texts):
        return np.array([ord(text[0]) % 256 if text else 0 for text in texts])


class OwnScores(ScoreRouter):
    saved = {"mean_": Array("m")}  # noqa: RUF012

    def learn(self, outcomes, scores):
        self.mean_ = np.nanmean(scores, axis=0)

    def compute_expected_scores(self, texts):
        return np.tile(self.mean_, (len(texts), 1))


def test_a_router_of_somebody_else_keeps_the_contract_and_any_pair_may_be_asked_of_scores():
    check_router(Own(PAIR), separable())
    check_router(OwnScores(), make_outcomes())
    router = OwnScores().fit(make_outcomes())
    assert set(router.route(["a", "b"], models=["m0", "m1"])) == {"m1"}
    assert router.route(["a"]).tolist() == router.expected_scores(["a"]).idxmax(axis=1).tolist()
    for wrong, message in ((["m9"], "m9; the router knows m0"), ([], "none given")):
        with pytest.raises(ParameterError, match=message):
            router.route(["a"], models=wrong)


class Wide(Encoder):
    spec = "wide"
    dimensions = 3

    def encode_texts(self, texts):
        return np.array([[len(text), text.count(" "), 1.0] for text in texts])


def test_an_encoder_of_somebody_else_serves_a_router_that_cannot_be_saved():
    check_router(RidgeRouter(PAIR, Wide(), n_tiers=2), separable(), saved=False)
    with pytest.raises(ParameterError, match="give the router an encoder by name"):
        check_router(RidgeRouter(PAIR, Wide(), n_tiers=2), separable())


class Broken(ConstantRouter):
    """Honest until one method is replaced."""

    def __init__(self, pair, value=0.5):
        super().__init__(pair, value)


def changing(self, battles, y=None):
    battles["prompt"] = "another"
    return ConstantRouter.fit(self, battles)


def learning_at_once(self, pair, value=0.5):
    self.pair, self.value, self.more_ = pair, value, 1


BROKEN = {
    "must store its parameters": {"__init__": learning_at_once},
    "fit must return the router itself": {"fit": lambda self, battles, y=None: [ConstantRouter.fit(self, battles)]},
    "fit must not change its data": {"fit": changing},
    "fit must not change parameters": {
        "fit": lambda self, battles, y=None: ConstantRouter.fit(self.set_params(value=0.1), battles)
    },
    "before fit must raise NotFittedError": {"win_rate": lambda self, prompts: np.zeros(len(list(prompts)))},
    "finite and from 0 to 1": {"win_rate": lambda self, prompts: 2 + ConstantRouter.win_rate(self, prompts)},
    "one float64 answer per prompt": {
        "win_rate": lambda self, prompts: ConstantRouter.win_rate(self, prompts)[:, None]
    },
    "a batch must answer as its prompts": {"compute_win_rate": lambda self, texts: np.linspace(0, 1, len(texts))},
    "two fits on the same data": {"compute_win_rate": lambda self, texts: np.full(len(texts), id(self) % 997 / 997)},
    "is no list of prompts": {
        "win_rate": lambda self, prompts: ConstantRouter.win_rate(self, [str(prompt) for prompt in prompts])
    },
    "route must name the strong model": {
        "route": lambda self, prompts, threshold=0.5: ConstantRouter.route(self, prompts, 0.0)
    },
    "is no threshold": {
        "route": lambda self, prompts, threshold=0.5: np.where(
            self.win_rate(prompts) >= (float(threshold or 0) if threshold != "half" else 0.5), "strong", "weak"
        )
    },
    "must answer the same": {"load": classmethod(lambda cls, folder: cls(PAIR, 0.75).fit(separable()))},
    "a changed weights.safetensors": {
        "load": classmethod(lambda cls, folder: cls(PAIR, 0.5).fit(separable())),
    },
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_named(rule):
    kind = type("Mutant", (Broken,), BROKEN[rule])
    with pytest.raises(AssertionError, match=f"Mutant: .*{rule}"):
        check_router(kind(PAIR), separable())


def test_the_honest_ones_pass():
    check_router(Broken(PAIR), separable())
    with pytest.raises(AssertionError, match="either win_rate or expected_scores"):
        check_router(WinRateRouter.__mro__[1](), separable())
