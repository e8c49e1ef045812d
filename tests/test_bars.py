"""Progress bars: one for a whole piece of work, and complete when training stopped early."""

import numpy as np
import pytest
import tqdm.auto

from routellm_lab import ModelPair, load_battles
from routellm_lab.bars import finish_early, progress_bar
from routellm_lab.encoders import cache
from routellm_lab.settings import settings


@pytest.fixture
def bars(monkeypatch):
    """All bars that were opened, with what they said when they were closed."""
    made = []

    class Recorded(tqdm.auto.tqdm):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            made.append(self)

        def close(self):
            self.last = (self.n, self.total, self.leave, getattr(self, "postfix", None))
            super().close()

    monkeypatch.setattr(tqdm.auto, "tqdm", Recorded)
    monkeypatch.setenv("ROUTELLM_LAB_PROGRESS", "true")
    settings.cache_clear()
    yield made
    monkeypatch.undo()
    settings.cache_clear()


def test_parts_of_a_work_count_on_its_bar(bars):
    with progress_bar(10, "all") as whole:
        for _ in range(2):
            with progress_bar(5, "part") as part:
                part.update(5)
        assert part is whole
    assert [bar.last[:2] for bar in bars] == [(10, 10)]


def test_a_long_encoding_shows_one_bar_with_its_total(bars, monkeypatch, tmp_path):
    monkeypatch.setenv("ROUTELLM_LAB_CACHE", str(tmp_path))
    settings.cache_clear()
    monkeypatch.setattr(cache, "_KEPT_AT_ONCE", 800)

    def make(texts):
        with progress_bar(len(texts), "part") as bar:
            bar.update(len(texts))
        return np.ones((len(texts), 4), np.float32)

    cache.through_cache("one", [f"text {row}" for row in range(2_000)], make, "my encoder")
    assert [(bar.desc.rstrip(": "), *bar.last[:2]) for bar in bars] == [("my encoder", 2_000, 2_000)]


def test_a_bar_that_stops_early_is_complete_and_says_where(bars):
    with progress_bar(100, "fine-tuning") as bar:
        bar.update(27)
        finish_early(bar, "step", 23)
    assert bars[0].last == (27, 27, True, "stopped at step 27 of 100, best 23")


def test_a_factorization_that_stops_early_closes_its_bar_as_complete(bars):
    from routellm_lab.routers import MatrixFactorizationRouter

    votes = load_battles("arena_human", data="sample").head(300)
    router = MatrixFactorizationRouter(
        ModelPair("sim-granite", "sim-pebble"), dimensions=4, epochs=500, learning_rate=0.05, random_state=0
    )
    router.fit(votes)
    (bar,) = [bar for bar in bars if "matrix" in getattr(bar, "desc", "")]  # a disabled bar has no desc
    stopped = int(router.history_["epoch"].iloc[-1])
    assert stopped < 500
    assert bar.last[:3] == (stopped, stopped, True)
    assert bar.last[3].startswith(f"stopped at epoch {stopped} of 500, best ")


def test_a_fine_tuning_that_stops_early_closes_its_bar_as_complete(bars):
    from types import SimpleNamespace

    from routellm_lab.routers.transformers.training import _bar

    log = [{"step": step, "epoch": step / 10, "eval_loss": loss} for step, loss in ((0, 0.7), (10, 0.5), (20, 0.6))]
    state = SimpleNamespace(max_steps=100, global_step=20, log_history=log, is_world_process_zero=True)
    callback = _bar()
    callback.on_train_begin(None, state, None)
    callback.on_train_end(None, state, None)
    assert bars[0].last == (20, 20, True, "stopped at step 20 of 100, best 10")
    state.global_step = 100
    callback.on_train_begin(None, state, None)
    callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)
    assert bars[1].last[:3] == (100, 100, False)
