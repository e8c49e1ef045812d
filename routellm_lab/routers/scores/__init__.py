"""Routers that learn every model's expected score on a prompt, from outcomes (graded answers).

They know no prices: what a model costs is weighed against its expected score later, so that a new price needs no refit.
"""

from routellm_lab.routers.scores.base import ScoreRouter
from routellm_lab.routers.scores.clusters import ClusterScores
from routellm_lab.routers.scores.constant import ConstantScores
from routellm_lab.routers.scores.irt import IRTScores
from routellm_lab.routers.scores.knn import KNNScores
from routellm_lab.routers.scores.logistic import LogisticScores
from routellm_lab.routers.scores.ridge import RidgeScores
from routellm_lab.routers.scores.votes import VotesScores, random_battles

__all__ = [
    "ClusterScores",
    "ConstantScores",
    "IRTScores",
    "KNNScores",
    "LogisticScores",
    "RidgeScores",
    "ScoreRouter",
    "VotesScores",
    "random_battles",
]
