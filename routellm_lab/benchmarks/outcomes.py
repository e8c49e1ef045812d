"""Outcomes: who was right. Prompts (with a group) x models -> score."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from routellm_lab.errors import LARGEST, DataError, listed, nearest
from routellm_lab.preferences.battles import filled_keys

if TYPE_CHECKING:
    from routellm_lab.preferences.models import ModelPair


@dataclass(frozen=True, repr=False)
class Outcomes:
    """Scores of models on the prompts of one benchmark.

    Attributes
    ----------
    name : str
        The benchmark.
    prompts : Series of str
        Indexed by prompt id, (n,).
    scores : DataFrame
        (n, models), same index; higher is better; NaN where a score is missing.
    groups : Series of str
        The domain of each prompt.
    keys : Series of str
        `routellm_lab.preferences.prompt_key` of each prompt: split by this.
    score_unit : str
        What a score of 1 is, for axes: ``share correct`` or ``judge score, 1-10``.
    tokens : DataFrame or None
        (n, models) output tokens, where known.
    responses : DataFrame or None
        (n, models) answers, where kept; of several turns the first.
    answer_chars : DataFrame or None
        (n, models) characters of the answer, where known; turns are summed.
    competence : DataFrame or None
        (n, models) planted probability of a good answer; only for simulated outcomes.
    details : DataFrame or None
        Further columns of the source's prompts file, same index.
    data : str
        Where the set comes from (``sample`` is simulated).
    dropped : int
        Questions left out because the source lists them as contaminated.
    prompts_of : str
        The set whose prompts file the scores use where they have none of their own; else empty.
    """

    name: str
    prompts: pd.Series
    scores: pd.DataFrame
    groups: pd.Series
    keys: pd.Series
    score_unit: str = "share correct"
    tokens: pd.DataFrame | None = None
    responses: pd.DataFrame | None = field(default=None, repr=False)
    answer_chars: pd.DataFrame | None = field(default=None, repr=False)
    competence: pd.DataFrame | None = field(default=None, repr=False)
    details: pd.DataFrame | None = field(default=None, repr=False)
    data: str = "frame"
    dropped: int = 0
    prompts_of: str = ""

    def __post_init__(self) -> None:
        index = self.prompts.index
        if len(index) == 0:
            raise DataError(f"outcomes {self.name}: no prompts")
        if index.has_duplicates:
            raise DataError(f"outcomes {self.name}: prompt id twice: {listed(index[index.duplicated()].unique())}")
        for part in ("scores", "groups", "keys", "tokens", "responses", "answer_chars", "competence", "details"):
            value = getattr(self, part)
            if value is not None and not value.index.equals(index):
                raise DataError(f"outcomes {self.name}: {part} and prompts have different prompt ids")
        bad = self.prompts.isna() | (self.prompts == "")
        if bad.any():
            raise DataError(f"outcomes {self.name}: empty prompt: {listed(index[bad])}")
        if not isinstance(self.keys.dtype, pd.StringDtype) or self.keys.isna().any():
            object.__setattr__(self, "keys", filled_keys(self.prompts, self.keys, f"outcomes {self.name}"))
        if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in self.scores.dtypes):
            raise DataError(f"outcomes {self.name}: scores must be numbers")
        infinite = (np.abs(self.scores.to_numpy(float)) > LARGEST).any(axis=1)  # or as good as infinite
        if infinite.any():
            raise DataError(f"outcomes {self.name}: infinite score: {listed(index[infinite])}")
        for part in ("tokens", "answer_chars"):
            value = getattr(self, part)
            if value is None:
                continue
            unknown = value.isna().all()
            if not all(pd.api.types.is_numeric_dtype(dtype) or unknown[name] for name, dtype in value.dtypes.items()):
                raise DataError(f"outcomes {self.name}: {part} must be numbers")
            lengths = value.to_numpy(float, na_value=np.nan)
            odd = (np.isinf(lengths) | (lengths < 0)).any(axis=1)
            if odd.any():
                raise DataError(f"outcomes {self.name}: {part} must be finite and 0 or more: {listed(index[odd])}")

    def __len__(self) -> int:
        return len(self.prompts)

    def __repr__(self) -> str:
        return f"Outcomes({self.name}: {len(self):,} prompts, {listed(self.models, 3)}; {self.score_unit})"

    @property
    def models(self) -> list[str]:
        """Names of the models with scores."""
        return list(self.scores.columns)

    @property
    def simulated(self) -> bool:
        """Whether the planted truth is known."""
        return self.competence is not None

    def select(self, rows: Any) -> "Outcomes":
        """The outcomes of some prompts.

        Parameters
        ----------
        rows : boolean mask (n,) or list of prompt ids
        """
        rows = np.asarray(rows)
        index = self.prompts.index[rows] if rows.dtype == bool else pd.Index(rows)
        unknown = index.difference(self.prompts.index)
        if len(unknown):
            raise DataError(f"outcomes {self.name}: no such prompt id: {listed(unknown)}")
        frames = ("prompts", "scores", "groups", "keys", "tokens", "responses", "answer_chars", "competence", "details")
        parts = {part: getattr(self, part) for part in frames}
        return replace(self, **{part: value.loc[index] for part, value in parts.items() if value is not None})

    def of(self, model: str) -> pd.Series:
        """Scores of one model, (n,).

        Raises
        ------
        DataError
            When the model has no scores here; the message lists the nearest names.
        """
        if model not in self.scores:
            raise DataError(
                f"outcomes {self.name}: no scores of model {model!r}; nearest: {nearest(model, self.models)}"
            )
        return self.scores[model]

    def gap(self, pair: "ModelPair") -> pd.Series:
        """Score of the strong minus score of the weak model, (n,); NaN where either is missing."""
        return self.of(pair.strong) - self.of(pair.weak)
