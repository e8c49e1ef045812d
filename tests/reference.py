"""Slow, literal versions of what the package does fast: the truth of the tests and the yardstick of the benchmarks."""

import re

import numpy as np
import pandas as pd


def last_digits(text: str) -> str | None:
    """The last run of digits: what the released grader compares, so that ``$20.00`` becomes ``00``."""
    found = re.findall(r"\d+", text.replace(",", ""))
    return found[-1] if found else None


def released_similarity_weights(query: np.ndarray, vectors: np.ndarray, gamma: float = 10.0) -> np.ndarray:
    """Weight of every vote for one query: gamma * gamma^(cosine / largest cosine), as in the released code."""
    cosine = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    return gamma * gamma ** (cosine / cosine.max())


def similarity_weights(query: np.ndarray, vectors: np.ndarray, gamma: float, normalizer: str) -> np.ndarray:
    """Weight of every vote for one query, gamma^(1 + cosine / N), by each reading of the N of the paper's equation 5.

    ``vote`` is the largest cosine of a vote's prompt to that of another vote: every vote on a prompt of its own.
    """
    if normalizer == "question":
        return released_similarity_weights(query, vectors, gamma)
    cosine = vectors @ query
    if normalizer == "none":
        return gamma ** (1 + cosine)
    every = range(len(vectors))
    nearest = np.array([max(vectors[i] @ vectors[j] for j in every if j != i) for i in every])
    return gamma ** (1 + cosine / nearest)


def released_ratings(votes: pd.DataFrame, weights: np.ndarray, tolerance: float = 1e-4) -> pd.Series:
    """Elo ratings by the released procedure: a doubled frame, a dense design, one weighted logistic regression.

    Every vote stands in the frame twice; one of the two copies of a tie counts as a win of A, the other as a loss.
    A vote within one tier leaves a single entry in its row of the design: the second write replaces the first.
    """
    from sklearn.linear_model import LogisticRegression

    players = pd.concat([votes["tier_a"], votes["tier_b"]]).unique()
    column = pd.Series(np.arange(len(players)), index=players)
    doubled = pd.concat([votes, votes], ignore_index=True)
    design = np.zeros((len(doubled), len(players)))
    design[np.arange(len(doubled)), column[doubled["tier_a"]]] = np.log(10)
    design[np.arange(len(doubled)), column[doubled["tier_b"]]] = -np.log(10)
    won = (doubled["winner"] == "model_a").to_numpy(float)
    tie = (doubled["winner"] == "tie").to_numpy(copy=True)
    tie[len(votes) :] = False
    won[tie] = 1.0
    model = LogisticRegression(fit_intercept=False, C=np.inf, tol=tolerance, max_iter=10_000)
    model.fit(design, won, sample_weight=np.concatenate([weights, weights]))
    return pd.Series(400 * model.coef_[0] + 1000, index=players)


def released_win_rate(
    query: np.ndarray, vectors: np.ndarray, votes: pd.DataFrame, strong: int, weak: int, tolerance: float = 1e-4
) -> float:
    """P(strong beats weak) for one query, all in one go, as the released router does it for each request."""
    ratings = released_ratings(votes, released_similarity_weights(query, vectors), tolerance)
    return float(1 / (1 + 10 ** ((ratings[weak] - ratings[strong]) / 400)))


def evalica_win_rate(
    query: np.ndarray,
    vectors: np.ndarray,
    votes: pd.DataFrame,
    strong: int,
    weak: int,
    gamma: float = 10.0,
    normalizer: str = "question",
) -> float:
    """The same from evalica's weighted Bradley-Terry, on the votes between different tiers."""
    import evalica

    weights = similarity_weights(query, vectors, gamma, normalizer)
    apart = (votes["tier_a"] != votes["tier_b"]).to_numpy()
    kept = votes[apart]
    winner = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    result = evalica.bradley_terry(
        kept["tier_a"].astype(str).tolist(),
        kept["tier_b"].astype(str).tolist(),
        kept["winner"].map(winner).tolist(),
        weights=weights[apart].tolist(),
        tolerance=1e-13,
        limit=100_000,
    )
    assert result.iterations < 100_000
    strength = result.scores
    return float(strength[str(strong)] / (strength[str(strong)] + strength[str(weak)]))


def vote_frame(router, battles: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Encoded prompt and tiers of every vote between rated models, as the references take them."""
    from routellm_lab.encoders import make_encoder

    known = battles[battles["model_a"].isin(router.tiers_.tier) & battles["model_b"].isin(router.tiers_.tier)]
    vectors = make_encoder(router.encoder).transform(known["prompt"]).astype(float)
    tiers = {f"tier_{side}": known[f"model_{side}"].map(router.tiers_.tier) for side in "ab"}
    return vectors, pd.DataFrame(tiers | {"winner": known["winner"]}).reset_index(drop=True)


def paper_factorization(
    battles: pd.DataFrame, epochs: int = 100, batch_size: int = 64, random_state: int = 0
) -> tuple[list[float], float]:
    """The paper's matrix factorization as a plain loop: held-out loss after every epoch, and the seconds it took.

    d = 128, Adam at 3e-4 with weight decay 1e-5 (appendix of the paper), on the split and the vectors of the router.
    """
    import time

    import torch

    from routellm_lab.encoders import make_encoder
    from routellm_lab.preferences.battles import models_of, result_for_a
    from routellm_lab.preferences.splits import split_by_prompt

    torch.manual_seed(random_state)
    train, held_out = (torch.from_numpy(rows) for rows in split_by_prompt(battles, 0.1, random_state))
    vectors = torch.from_numpy(make_encoder("static").transform(battles["prompt"]))
    models = pd.Index(models_of(battles))
    a, b = (torch.from_numpy(models.get_indexer(pd.Index(battles[f"model_{side}"])).astype(np.int64)) for side in "ab")
    score = torch.from_numpy(np.array(result_for_a(battles), np.float32))
    known, mapped = torch.nn.Embedding(len(models), 128), torch.nn.Linear(vectors.shape[1], 128)
    head = torch.nn.Linear(128, 1, bias=False)
    layers = torch.nn.ModuleList([known, mapped, head])
    optimizer = torch.optim.Adam(layers.parameters(), lr=3e-4, weight_decay=1e-5)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        logit = head((known(a[rows]) - known(b[rows])) * mapped(vectors[rows])).squeeze(1)
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, score[rows])

    losses, start = [], time.perf_counter()
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(batch_size):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float(loss(held_out)))
    return losses, time.perf_counter() - start


def plain_factorization(router, battles: pd.DataFrame) -> tuple[list[float], dict]:
    """A matrix factorization router's training by its formula, one vote's two scores at a time: loss and best weights.

    w2 . ((v_A - v_B) * (W1 q + b)) of every vote in a batch, automatic gradients, Adam; no noise, ties as half a win.
    """
    import torch

    from routellm_lab.encoders import make_encoder
    from routellm_lab.preferences.battles import models_of, result_for_a, vote_weights
    from routellm_lab.preferences.splits import split_by_prompt

    parts = split_by_prompt(battles, router.held_out, router.random_state)
    train, held_out = (torch.from_numpy(rows) for rows in parts)
    vectors = torch.from_numpy(make_encoder(router.encoder).transform(battles["prompt"]))
    router.models_ = models_of(battles)
    models = pd.Index(router.models_)
    a, b = (torch.from_numpy(models.get_indexer(pd.Index(battles[f"model_{side}"])).astype(np.int64)) for side in "ab")
    score, weight = (torch.from_numpy(np.array(of(battles), np.float32)) for of in (result_for_a, vote_weights))
    generator = torch.Generator().manual_seed(router.random_state)
    weights = router._initial(vectors.shape[1], generator)
    learned = [value.requires_grad_() for name, value in weights.items() if name != "b" or router.bias]
    optimizer = torch.optim.Adam(learned, lr=router.learning_rate, weight_decay=router.weight_decay)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        known = router._model_vectors(weights)
        mapped = vectors[rows] @ weights["W1"].T + weights["b"]
        logit = ((known[a[rows]] - known[b[rows]]) * mapped) @ weights["w2"]
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, score[rows], reduction="none")
        return (entropy * weight[rows]).sum() / weight[rows].sum()

    def held_out_loss() -> float:
        with torch.no_grad():
            return float(loss(held_out))

    losses = [held_out_loss()]
    best = {name: value.detach().clone() for name, value in weights.items()}
    for _ in range(router.epochs):
        for rows in train[torch.randperm(len(train), generator=generator)].split(router.batch_size):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        losses.append(held_out_loss())
        if losses[-1] < min(losses[:-1]):
            best = {name: value.detach().clone() for name, value in weights.items()}
    return losses, best
