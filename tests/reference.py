"""Slow, literal versions of what the package does fast: the truth of the tests and the yardstick of the benchmarks."""

import numpy as np
import pandas as pd


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
