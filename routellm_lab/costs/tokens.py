"""Tokens of every prompt and answer: counted, estimated or assumed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, require_number

CHARACTERS_PER_TOKEN = 4.0
"""The usual rule of thumb for English text."""


PER = 1000
"""Questions that dollars are given for."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of every question and model, and how they are known.

    Attributes
    ----------
    name : str
        The benchmark.
    input, output : DataFrame
        (n, models), indexed by prompt id; NaN where not known.
    input_basis, output_basis : dict of str to str
        By model: ``counted`` (the outcomes say so), ``estimated`` (from the number of characters) or ``assumed``; where
        counts of some answers are missing, those are estimated, and the basis says of how many.
    """

    name: str
    input: pd.DataFrame
    output: pd.DataFrame
    input_basis: Mapping[str, str]
    output_basis: Mapping[str, str]

    def table(self) -> pd.DataFrame:
        """Mean tokens per question by model, with how they are known."""
        return pd.DataFrame(
            {
                "input_tokens": self.input.mean(),
                "input_basis": pd.Series(self.input_basis),
                "output_tokens": self.output.mean(),
                "output_basis": pd.Series(self.output_basis),
            }
        ).rename_axis("model")


def count_tokens(
    outcomes: Outcomes,
    models: Iterable[str],
    output_tokens: float | Mapping[str, float] | None = None,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> Tokens:
    """Input and output tokens of every question.

    Parameters
    ----------
    outcomes : Outcomes
    models : iterable of str
        Such as the two of a pair.
    output_tokens : float or dict of str to float, optional
        Per answer, of all models or by model: assumed for models of which the outcomes know neither tokens nor lengths.
    characters_per_token : float
        For estimates. Input tokens are always estimated so, since every model has a tokenizer of its own; a second
        turn sends the first one and its answer again.

    Returns
    -------
    Tokens

    Raises
    ------
    DataError
        When nothing is known of a model's answers, and nothing is assumed.
    ParameterError
        When a model has no scores here, or a number is not above 0.
    """
    require_number("characters_per_token", characters_per_token, 0, inside=True)
    names = list(models)
    sent = outcomes.prompts.str.len().astype(float)
    turns = outcomes.details["prompt_turn_2"] if _has(outcomes.details, "prompt_turn_2") else None  # type: ignore[index]
    inputs, outputs, input_basis, output_basis = {}, {}, {}, {}
    for model in names:
        outcomes.of(model)
        inputs[model] = sent / characters_per_token
        input_basis[model] = "estimated"
        if turns is not None and _has(outcomes.responses, model):
            again = sent + outcomes.responses[model].str.len() + turns.str.len()  # type: ignore[index]
            inputs[model] = (sent + again.fillna(0)) / characters_per_token
        guess = output_tokens.get(model) if isinstance(output_tokens, Mapping) else output_tokens
        chars = outcomes.answer_chars[model] if _has(outcomes.answer_chars, model) else None  # type: ignore[index]
        if _has(outcomes.tokens, model):
            counts, output_basis[model] = outcomes.tokens[model], "counted"  # type: ignore[index]
            outputs[model] = counts if chars is None else counts.fillna(chars / characters_per_token)
            if filled := int(counts.isna().sum() - outputs[model].isna().sum()):
                output_basis[model] = f"counted, {filled} of {len(counts)} estimated"
        elif chars is not None:
            outputs[model], output_basis[model] = chars / characters_per_token, "estimated"
        elif guess is not None:
            require_number(f"output_tokens of {model}", guess, 0, inside=True)
            outputs[model] = pd.Series(float(guess), index=outcomes.prompts.index)
            output_basis[model] = "assumed"
        else:
            raise DataError(
                f"outcomes {outcomes.name}: neither tokens nor answers of {model!r} are known (columns output_tokens, "
                "response_chars of the scores); pass output_tokens= with the tokens per answer to assume"
            )
    return Tokens(outcomes.name, pd.DataFrame(inputs), pd.DataFrame(outputs), input_basis, output_basis)


def _has(frame: pd.DataFrame | None, column: str) -> bool:
    return frame is not None and column in frame and bool(frame[column].notna().any())
