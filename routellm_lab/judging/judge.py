"""A model as judge: which of two answers is better, asked in both orders, kept line by line."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.judging.endpoint import BudgetError, Endpoint, check_budget
from routellm_lab.judging.paid import Call, PaidFile, digest, paid_file, pay, read_paid, was_cut_short
from routellm_lab.judging.replies import Reply, answer_text
from routellm_lab.judging.template import PAIRWISE, JudgeTemplate
from routellm_lab.preferences.battles import VOTE_DETAILS, WINNERS, validate_battles

ORDERS = ("ab", "ba")
_SAID = {
    "ab": {"first": "model_a", "second": "model_b", "tie": "tie"},
    "ba": {"first": "model_b", "second": "model_a", "tie": "tie"},
}
_POINTS = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
_CHARACTERS_PER_TOKEN = 4
_VERDICT_TOKENS = 150
_ANSWER_TOKENS = 300


@dataclass(frozen=True)
class JudgingEstimate:
    """What the judging of pairs will cost.

    Attributes
    ----------
    calls, already_done : int
        Verdicts to ask for, and those that the file has.
    input_tokens, output_tokens : int
        Expected tokens of the calls.
    usd_expected, usd_at_most : float
        Expected price, and its bound with every reply as long as allowed and every unreadable verdict asked again.
        Attempts that time out come on top; the budget stops them all.
    """

    calls: int
    already_done: int
    input_tokens: int
    output_tokens: int
    usd_expected: float
    usd_at_most: float

    def __str__(self) -> str:
        return (
            f"{self.calls:,} calls ({self.already_done:,} verdicts are there already), about {self.input_tokens:,} "
            f"tokens in and {self.output_tokens:,} out: about ${self.usd_expected:.4f}, at most ${self.usd_at_most:.4f}"
        )


class _Judging:
    """Pairs as questions to a judge. A question is an item (a prompt with two answers) and an order to show it in."""

    def __init__(self, pairs: pd.DataFrame, template: JudgeTemplate, both_orders: bool, retries: int) -> None:
        if not isinstance(retries, int) or retries < 0:
            raise ParameterError(f"unreadable_retries must be a whole number from 0, got {retries!r}")
        self.frame, self.template, self.retries = _checked_pairs(pairs), template, retries
        self.orders = ORDERS if both_orders else ORDERS[:1]
        for side in ("response_a", "response_b"):
            absent = self.frame[side].isna() if side in self.frame else pd.Series(True, self.frame.index)
            if absent.any():
                where = _rows(absent)
                raise DataError(f"pairs: no {side} in {where}; answer_missing generates it, or leave these pairs out")
        columns = ["prompt", "model_a", "model_b", "response_a", "response_b"]
        self.items = [digest(*texts) for texts in self.frame[columns].itertuples(index=False, name=None)]
        self.rows: dict[str, int] = {}
        for row, item in enumerate(self.items):
            self.rows.setdefault(item, row)
        self.questions = [(item, order) for item in self.rows for order in self.orders]

    def check(self, judge: str | None) -> Callable[[dict], str | None]:
        """What can be wrong with a line of the file. The first line names the judge where none is given."""

        def check(line: dict) -> str | None:
            nonlocal judge
            item, order, verdict = line.get("item"), line.get("order"), line.get("verdict", "")
            if not isinstance(item, str) or order not in ORDERS or verdict not in (*WINNERS, None):
                return "is no verdict of judge_battles: it needs item, order and verdict"
            if line.get("template") != self.template.fingerprint:
                return (
                    f"was judged with the template {line.get('template')}, this call has {self.template.fingerprint}: "
                    "name another path, or pass the template it was made with"
                )
            judge = judge or line.get("judge")
            if not isinstance(line.get("judge"), str) or line["judge"] != judge:
                return f"was judged by {line.get('judge')}, not by {judge}: name another path for another judge"
            return None

        return check

    def left(self, lines: list[dict], endpoint: Endpoint | None) -> list[tuple[str, str]]:
        """Questions without a readable verdict that may be asked (again)."""
        verdicts, asked = _verdicts(lines), _times_asked(lines, endpoint)
        return [key for key in self.questions if key not in verdicts and asked[key] <= self.retries]

    def call(self, key: tuple[str, str]) -> Call:
        item, order = key
        row = self.frame.iloc[self.rows[item]]
        answers = row["response_a"], row["response_b"]
        messages = self.template.messages(row["prompt"], *(answers if order == "ab" else answers[::-1]))
        return Call(key, messages, f"pair of row {self.rows[item] + 1}")

    def estimate(self, lines: list[dict], endpoint: Endpoint, output_tokens: int) -> JudgingEstimate:
        calls, asked = [self.call(key) for key in self.left(lines, endpoint)], _times_asked(lines, endpoint)
        expected = _expected(calls, endpoint, output_tokens)
        at_most = sum(endpoint.usd_at_most(call.messages) * (1 + self.retries - asked[call.key]) for call in calls)
        done = len(self.questions) - len(calls)
        return JudgingEstimate(len(calls), done, *expected, endpoint.usd(*expected), at_most)

    def ask(self, endpoint: Endpoint, file: PaidFile, budget_usd: float) -> None:
        _refuse_if_too_dear(self.estimate(file.lines, endpoint, _VERDICT_TOKENS).usd_expected, file, budget_usd)
        while left := self.left(file.lines, endpoint):
            asked = _times_asked(file.lines, None)

            def as_line(call: Call, reply: Reply, asked: Counter = asked) -> dict:
                (item, order), said = call.key, self.template.verdict(reply.text or "", reply.cut_at is not None)
                return {
                    "item": item,
                    "order": order,
                    "judge": endpoint.model,
                    "template": self.template.fingerprint,
                    "verdict": said and _SAID[order][said],
                    "attempt": asked[call.key] + 1,
                    **reply.as_line(),
                }

            pay(endpoint, [self.call(key) for key in left], file, budget_usd, as_line)

    def battles(self, lines: list[dict], tie_rule: str) -> pd.DataFrame:
        verdicts = _verdicts(lines)
        got = [[_POINTS.get(verdicts.get((item, order), "")) for order in self.orders] for item in self.items]
        points = np.array(got, dtype=float)
        readable = ~np.isnan(points).any(axis=1)
        if not readable.any():
            cut = sum("max_tokens" in line for line in lines)
            more = f"; {cut} replies were cut off by max_tokens, raise it" if cut else ""
            raise DataError(f"pairs: none of the {len(self.rows)} items has a readable verdict{more}")
        frame, points = self.frame[readable].copy(), points[readable]
        mean, same = points.mean(axis=1), (points == points[:, :1]).all(axis=1)
        counts = same | (tie_rule == "mean")
        frame["winner"] = np.select([counts & (mean > 0.5), counts & (mean < 0.5)], ["model_a", "model_b"], "tie")
        frame["preference_a"], frame["judge"] = mean, lines[0]["judge"]
        if len(self.orders) == 2:
            frame["consistent"] = same
        if "source" not in frame:
            frame["source"] = "judged"
        battles = validate_battles(frame, where="judged pairs")
        battles.attrs["unreadable"] = len({item for item, fine in zip(self.items, readable, strict=True) if not fine})
        battles.attrs["cost_usd"] = float(sum(line["cost_usd"] for line in lines))
        return battles


def _verdicts(lines: list[dict]) -> dict[tuple[str, str], str]:
    return {(line["item"], line["order"]): line["verdict"] for line in reversed(lines) if line["verdict"] is not None}


def _times_asked(lines: list[dict], endpoint: Endpoint | None) -> Counter:
    """Replies to each question; without those that were cut off where the endpoint may now say more."""
    more = 0 if endpoint is None else endpoint.max_tokens
    counted = (line for line in lines if line["reply"] is not None and not was_cut_short(line, more))
    return Counter((line["item"], line.get("order")) for line in counted)


def _checked_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    if isinstance(pairs, pd.DataFrame) and pairs.columns.is_unique:
        pairs = pairs.drop(columns=list(VOTE_DETAILS), errors="ignore").assign(winner="tie")
        for column in {"response_a", "response_b"} & set(pairs):
            bad = [not isinstance(text, str) for text in pairs[column]] & pairs[column].notna().to_numpy()
            if bad.any():
                raise DataError(f"pairs: {column} must be text in {_rows(bad)}")
    frame = validate_battles(pairs, where="pairs").drop(columns="winner")
    if frame["prompt"].isna().any():
        raise DataError(f"pairs: prompt must be text in {_rows(frame['prompt'].isna())}")
    return frame


def _rows(marked: Any) -> str:
    return listed(f"row {row + 1}" for row in np.flatnonzero(marked))


def _expected(calls: list[Call], endpoint: Endpoint, output_tokens: int) -> tuple[int, int]:
    sizes = [sum(len(message["content"]) for message in call.messages) for call in calls]
    replies = min(output_tokens, endpoint.max_tokens) * len(calls)
    return sum(-(-size // _CHARACTERS_PER_TOKEN) for size in sizes), replies


def _refuse_if_too_dear(expected: float, file: PaidFile, budget_usd: float) -> None:
    if expected > max(budget_usd - file.cost_usd, 0.0):
        raise BudgetError(
            f"what is left to ask will cost about ${expected:.6f}; budget_usd={budget_usd:g} less what {file.path} has "
            f"cost (${file.cost_usd:.6f}) does not pay for it. Nothing was sent: raise budget_usd or ask for less."
        )


def estimate_judging(
    pairs: pd.DataFrame,
    endpoint: Endpoint,
    path: str | Path | None = None,
    template: JudgeTemplate = PAIRWISE,
    both_orders: bool = True,
    unreadable_retries: int = 1,
    output_tokens: int = _VERDICT_TOKENS,
) -> JudgingEstimate:
    """What `judge_battles` would cost. Nothing is sent, and no key is needed.

    Parameters
    ----------
    pairs, endpoint, template, both_orders, unreadable_retries
        As `judge_battles` takes them.
    path : path, optional
        File with the verdicts so far.
    output_tokens : int
        Tokens of a verdict: an assumption. Those of the question are its characters / 4.

    Returns
    -------
    JudgingEstimate
    """
    judging = _Judging(pairs, template, both_orders, unreadable_retries)
    lines = [] if path is None else read_paid(Path(path), judging.check(endpoint.model))
    return judging.estimate(lines, endpoint, output_tokens)


def placeholder_answers(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs whose answers are not at hand, with dots in their place, as many as the answers have characters.

    For `estimate_judging`, which counts characters. Pairs with ``response_a`` and ``response_b`` stay as they are.

    Raises
    ------
    DataError
        When there are neither answers nor ``chars_a`` and ``chars_b``.
    """
    if {"response_a", "response_b"} <= set(pairs):
        return pairs
    if not {"chars_a", "chars_b"} <= set(pairs):
        raise DataError("placeholder_answers: no lengths of answers, chars_a and chars_b")
    return pairs.assign(**{f"response_{side}": pairs[f"chars_{side}"].astype(int).map(".".__mul__) for side in "ab"})


def answer_missing(
    pairs: pd.DataFrame, endpoints: Mapping[str, Endpoint], path: str | Path, budget_usd: float
) -> pd.DataFrame:
    """Let the models of the pairs give the answers that are missing, each (prompt, model) once.

    Parameters
    ----------
    pairs : DataFrame
        ``prompt``, ``model_a``, ``model_b``, and ``response_a``, ``response_b`` where they are known.
    endpoints : dict of str to Endpoint
        Who answers for a model of the pairs.
    path : path
        JSONL of the paid answers. The same call goes on from it: what is in it is never paid again. A kill loses at
        most the calls in flight (up to ``concurrency`` of the endpoint), which may have been billed.
    budget_usd : float
        Most that the file may cost in total.

    Returns
    -------
    DataFrame
        The pairs with their responses, without the thoughts that a model wrote before its answer. A blank answer, as
        of a refused prompt, stays missing and is not asked again, unless ``max_tokens`` cut it off and is larger now.
        ``attrs["unanswered"]`` counts them, ``attrs["truncated"]`` the answers that ``max_tokens`` cut off.

    Raises
    ------
    DataError, ParameterError, EndpointError
        As `judge_battles`.
    """
    frame, path, budget = _checked_pairs(pairs), Path(path), check_budget(budget_usd)
    wanted: dict[tuple[str, str], Call] = {}
    sides = {}
    for side, model in (("response_a", "model_a"), ("response_b", "model_b")):
        responses = list(frame[side]) if side in frame else [None] * len(frame)
        keys = [digest(*pair) for pair in zip(frame["prompt"], frame[model], strict=True)]
        sides[side] = responses, keys
        for row, (response, key) in enumerate(zip(responses, keys, strict=True)):
            if not isinstance(response, str):
                messages = [{"role": "user", "content": frame["prompt"].iloc[row]}]
                wanted.setdefault(
                    (frame[model].iloc[row], key), Call((key, "answer"), messages, f"prompt of row {row + 1}")
                )

    def check(line: dict) -> str | None:
        model, served = line.get("model"), line.get("endpoint")
        if not isinstance(line.get("item"), str) or not isinstance(model, str):
            return "is no answer of answer_missing: it needs item and model"
        if model in endpoints and endpoints[model].model != served:
            return f"was answered for {model} by {served}, this call has {endpoints[model].model}: name another path"
        return None

    with paid_file(path, check) as file:
        limits = {model: endpoint.max_tokens for model, endpoint in endpoints.items()}
        replies = [line for line in file.lines if line["reply"] is not None]
        known = {line["item"] for line in replies if not was_cut_short(line, limits.get(line["model"], 0))}
        left: dict[str, list[Call]] = {}
        for (model, key), call in wanted.items():
            if key not in known:
                left.setdefault(model, []).append(call)
        if strangers := sorted(set(left) - set(endpoints)):
            raise ParameterError(
                f"answer_missing: no endpoint for {listed(strangers)}; endpoints has {listed(endpoints)}"
            )
        expected = (endpoints[m].usd(*_expected(calls, endpoints[m], _ANSWER_TOKENS)) for m, calls in left.items())
        _refuse_if_too_dear(sum(expected), file, budget)
        for model, calls in left.items():

            def as_line(call: Call, reply: Reply, model: str = model) -> dict:
                return {"item": call.key[0], "model": model, "endpoint": endpoints[model].model, **reply.as_line()}

            pay(endpoints[model], calls, file, budget, as_line)
        answers = {line["item"]: text for line in file.lines if (text := answer_text(line["reply"] or "")).strip()}
        spoken = sorted(
            (line for line in file.lines if line["reply"] is not None), key=lambda line: line["reply"] != ""
        )
        last = {line["item"]: line for line in spoken}
        truncated = {
            item for item, line in last.items() if "max_tokens" in line or line.get("finish_reason") == "length"
        }
    answered = pairs.copy()
    for side, (responses, keys) in sides.items():
        filled = [r if isinstance(r, str) else answers.get(key) for r, key in zip(responses, keys, strict=True)]
        answered[side] = pd.array(filled, dtype="str")
    answered.attrs["unanswered"] = sum(key not in answers for _, key in wanted)
    answered.attrs["truncated"] = sum(key in truncated for _, key in wanted)
    return answered


def judge_battles(
    pairs: pd.DataFrame,
    endpoint: Endpoint | None,
    path: str | Path,
    *,
    budget_usd: float | None = None,
    template: JudgeTemplate = PAIRWISE,
    both_orders: bool = True,
    tie_rule: str = "agree",
    unreadable_retries: int = 1,
) -> pd.DataFrame:
    """Battles judged by a model (the paper's D_judge, section 4.1), in both orders to take out its liking for a place.

    Parameters
    ----------
    pairs : DataFrame
        ``prompt``, ``model_a``, ``model_b``, ``response_a``, ``response_b``; equal rows are asked once. A vote that
        is there already (``winner``, ``preference_a``, ``both_bad``, ``consistent``) is replaced.
    endpoint : Endpoint or None
        The judge; None replays the file, without network or key.
    path : path
        JSONL of the paid replies. The same call goes on from it: what is in it is never paid again. A kill loses at
        most the calls in flight (up to ``concurrency`` of the endpoint), which may have been billed.
    budget_usd : float
        Most that the file may cost in total; needed unless replayed.
    template : JudgeTemplate
    both_orders : bool
        Ask with A first and with B first; otherwise only the former.
    tie_rule : {"agree", "mean"}
        ``agree``: a model wins if both orders name it, else a tie. ``mean``: by ``preference_a`` above or below .5.
    unreadable_retries : int
        How often a verdict without a mark, or a refused prompt, is asked again, over all calls. Verdicts that
        ``max_tokens`` cut off are asked again anyway once it is larger.

    Returns
    -------
    DataFrame
        Battles with ``judge``, ``source`` ("judged" unless the pairs have one), ``preference_a`` (the mean of 1, .5, 0
        over the orders) and, of both orders, ``consistent`` (they agree). Items without a readable verdict in every
        order are left out; ``attrs`` holds their number (``unreadable``) and what the file cost (``cost_usd``).

    Raises
    ------
    DataError
        Names the rows of the pairs or the line of the file; or, in a replay, counts the verdicts that are missing; or
        says where the paid replies are when the file cannot be written any more.
    BudgetError, EndpointError
        Say what is spent, how much is done and how to go on. What is paid is kept.

    Notes
    -----
    A verdict is read from the final text of a reply, after its thoughts (see `JudgeTemplate.verdict`). A prompt that
    the endpoint filters (status 400, or a reply without a choice, a message or any text but a refusal) is left out and
    counted.
    """
    if tie_rule not in ("agree", "mean"):
        raise ParameterError(f"tie_rule must be 'agree' or 'mean', got {tie_rule!r}")
    judging, path = _Judging(pairs, template, both_orders, unreadable_retries), Path(path)
    if endpoint is None:
        lines = read_paid(path, judging.check(None))
        if left := judging.left(lines, None):
            raise DataError(
                f"{path}: {len(left)} of {len(judging.questions)} verdicts are missing; pass an endpoint and a "
                "budget_usd to ask for them"
            )
    else:
        budget = check_budget(budget_usd)
        with paid_file(path, judging.check(endpoint.model)) as file:
            judging.ask(endpoint, file, budget)
            lines = file.lines
    return judging.battles(lines, tie_rule)
