"""What a chat endpoint sent back: text, price or failure, read leniently, and where in a text the thoughts end.

Servers differ, and one odd reply must not end a run. What is missing or of a wrong type counts as unknown, and an
unknown number of tokens is charged at its bound.

Thoughts are not the answer. They come in four forms, and none is read as one:

- fields beside the content (``reasoning_content``, ``reasoning``, ...): ignored;
- typed parts of the content (``{"type": "thinking"}``): only parts of text are kept, joined;
- tags in the text: ``<think>``, ``<thinking>``, ``<thought>``, ``<reasoning>`` and the like, ``[THINK]``, ``◁think▷``,
  ``<|START_THINKING|>``, ``<|begin_of_thought|>``, Gemma's ``<unused94>`` and ``<|channel>thought``;
- harmony's channels: all but ``final``.

A tag between two equal quotation marks or backticks is a quotation.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from routellm_lab.judging.endpoint import Endpoint, Messages, is_amount

_BELIEVED = 10
"""A count of tokens above this many times its bound is no count: one reply must not use up a whole budget."""
_DIGITS = 300
_CUT_OFF = ("length", "max_tokens", "model_length", "max_output_tokens")
_FILTERED = ("content_filter", "safety", "prohibited_content", "recitation", "blocklist", "refusal")
_STATUS = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "insufficient_quota": 402,
    "insufficient_credits": 402,
    "billing_hard_limit_reached": 402,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "invalid_argument": 400,
    "invalid_request_error": 400,
}
"""Names that servers give to errors, as the status that says the same."""

_NAMES = "(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)"
_TAGS = re.compile(
    rf"""
    (?P<final> <\|channel\|>\s?final\b[^<]{{0,40}}<\|message\|> | (?-i:assistantfinal) )
  | (?P<close> </(?:\w{{1,20}}:)?{_NAMES}\s?> | \[/THINK\] | ◁/think▷ | <\|END_THINKING\|> | <\|end_of_thought\|>
             | <unused95> | <channel\|> )
  | (?P<open> <(?:\w{{1,20}}:)?{_NAMES}(?:\s[^<>]{{0,200}})?> | \[THINK\] | ◁think▷ | <\|START_THINKING\|>
            | <\|begin_of_thought\|> | <unused94> | <\|channel>thought | <\|channel\|>\s?(?:analysis|commentary)
            | (?-i:\Aanalysis(?=[A-Z])) )
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """What a call brought: its text (None where every attempt was lost), tokens (None where not reported) and cost.

    ``cut_at`` is the ``max_tokens`` that cut the reply off; None where the model ended it.
    """

    text: str | None
    cost_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    cut_at: int | None = None

    def as_line(self) -> dict[str, object]:
        """The part of a line that every kind of paid call shares."""
        line: dict[str, object] = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        line |= {"cost_usd": self.cost_usd, "finish_reason": self.finish_reason, "reply": self.text}
        return line if self.cut_at is None else line | {"max_tokens": self.cut_at}


@dataclass(frozen=True)
class Failure:
    """An attempt without a reply.

    Attributes
    ----------
    why : str
    again : bool
        Whether a further attempt may succeed.
    billed : bool
        Whether it may be paid: ``cost_usd`` where the server says how much, else the most it can cost.
    refused : bool
        Whether the prompt may be why.
    odd : bool
        Whether a reply came that is no chat completion. If it always does, the prompt may be why.
    wait : float or None
        Seconds, where the endpoint asks for a wait.
    """

    why: str
    again: bool
    billed: bool = False
    refused: bool = False
    odd: bool = False
    wait: float | None = None
    cost_usd: float | None = None


def failure_of(status: int, why: str, passes: bool = True, billed: bool = False) -> Failure:
    """What a status means. One that does not pass (a quota that is used up) stays whatever its status."""
    again = passes and (status in (408, 409, 429) or status >= 500)
    return Failure(why, again, billed=billed or status == 408, refused=passes and status in (400, 413, 422))


def read_reply(content: bytes, endpoint: Endpoint, messages: Messages, clean: Callable[[str], str]) -> Reply | Failure:
    """Read what came with status 200.

    Parameters
    ----------
    content : bytes
    endpoint, messages
        Who was asked, and what: they bound the tokens.
    clean : callable
        Takes the key out of a text.

    Returns
    -------
    Reply or Failure
        A prompt that was filtered (no choices, no message, no content but a refusal) is a blank reply whose
        ``finish_reason`` begins with ``refused``.
    """
    try:
        body = json.loads(content, parse_int=_whole)
    except (ValueError, RecursionError):
        return _odd("it is not JSON")
    if isinstance(body, list) and len(body) == 1:  # some servers send their errors so
        body = body[0]
    if not isinstance(body, dict):
        return _odd("it is no JSON object")
    sent, got, cost = _price(body.get("usage"), endpoint, messages)
    reported = None if got is None else cost
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    fields = choice if isinstance(choice, dict) else {}
    message, finish = fields.get("message"), fields.get("finish_reason")
    finish = finish if isinstance(finish, str) else None
    text, refusal = _texts_of(message) if isinstance(message, dict) else ("", "")
    blank, kind = not text.strip(), (finish or "").casefold()
    error = fields.get("error") or (blank and body.get("error"))
    if error or ("choices" not in body and any(name in body for name in ("message", "detail", "errors"))):
        return _error_inside(error or body, reported, clean)
    if "choices" not in body or not isinstance(choices, (list, type(None))):
        return _odd("it has no list of choices")
    if not (isinstance(choice, (dict, type(None))) and isinstance(message, (dict, type(None)))):
        return _odd("its choice has no message")
    if blank and kind == "error":
        return Failure(
            "status 200 with an error that is not named", again=True, billed=reported != 0, cost_usd=reported
        )
    if blank and (message is None or refusal or kind in _FILTERED):
        text, finish = "", f"refused: {refusal or finish or ('no choices' if choice is None else 'no message')}"
    finish = finish and clean(finish)[:300]
    return Reply(clean(text), cost, sent, got, finish, endpoint.max_tokens if kind in _CUT_OFF else None)


def _whole(text: str) -> int | float:
    """Of thousands of digits Python makes no integer; as infinity it counts as unknown, and the reply is kept."""
    return int(text) if len(text) <= _DIGITS else float(text)


def _odd(problem: str) -> Failure:
    return Failure(f"a reply that is no chat completion: {problem}", again=True, billed=True, odd=True)


def _price(usage: Any, endpoint: Endpoint, messages: Messages) -> tuple[int | None, int | None, float]:
    """Tokens in and out (None where they are not known), and what they cost: the unknown at its bound."""
    counts: list[int | None] = []
    bounds = endpoint.tokens_at_most(messages), endpoint.max_tokens
    for name, bound in zip(("prompt_tokens", "completion_tokens"), bounds, strict=True):
        count = usage.get(name) if isinstance(usage, dict) else None
        whole = is_amount(count) and count <= _BELIEVED * bound and count == int(count)
        counts.append(int(count) if whole and count is not None else None)
    sent, got = counts
    return sent, got, endpoint.usd(bounds[0] if sent is None else sent, bounds[1] if got is None else got)


def _error_inside(error: Any, cost: float | None, clean: Callable[[str], str]) -> Failure:
    """An error that came with status 200: {"error": {"message", "code"}}, a bare text, FastAPI's {"detail"}, ..."""
    error = error[0] if isinstance(error, list) and error else error
    fields = error if isinstance(error, dict) else {"message": error}
    texts = [fields.get(name) for name in ("message", "detail", "msg", "error", "errors")]
    said = next((text for text in texts if isinstance(text, str) and text.strip()), "no text")
    codes = [fields.get(name) for name in ("code", "status", "status_code", "type")]
    names = [str(code) for code in codes if isinstance(code, (str, int)) and not isinstance(code, bool)]
    named = ", ".join(shown(clean(name))[:50] for name in names)
    why = f"status 200 with an error inside: {shown(clean(said))}" + (f" ({named})" if named else "")
    status = next(filter(None, map(_status_of, codes)), None)
    if status is None:  # nobody knows whether the prompt is why
        return Failure(why, again=True, billed=cost != 0, odd=True, cost_usd=cost)
    failure = failure_of(status, why, billed=status >= 500)  # with 4xx the server says that it did nothing
    return failure if cost is None else Failure(why, failure.again, cost > 0, failure.refused, cost_usd=cost)


def _status_of(code: Any) -> int | None:
    if isinstance(code, str):
        code = int(code) if re.fullmatch("[45][0-9][0-9]", code) else _STATUS.get(code.casefold())
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else None


def shown(text: str) -> str:
    """A server's text in one short line, for a message."""
    return "".join(char if char.isprintable() else " " for char in text[:300])


def _texts_of(message: dict) -> tuple[str, str]:
    """Text and refusal of a message whose content is text or a list of typed parts."""
    content, refusal = message.get("content"), message.get("refusal")
    texts, refusals = [], [refusal] if isinstance(refusal, str) else []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") in (None, "text", "output_text") and not part.get("thought"):
            text = part.get("text")
            text = text.get("value") if isinstance(text, dict) else text
            texts += [text] if isinstance(text, str) else []
        elif isinstance(part, dict) and isinstance(part.get("refusal"), str):
            refusals.append(part["refusal"])
    return "".join(texts), " ".join(refusals).strip()


def _tags(text: str) -> Iterator[re.Match[str]]:
    for tag in _TAGS.finditer(text):
        before, after = text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]
        quoted = before == after and before in ("'", '"', "`")
        bare = tag["final"] == "assistantfinal" and not text.startswith("analysis")  # harmony without its marks
        if not (quoted or bare or (tag["open"] or "").endswith("/>")):
            yield tag


def final_text(text: str) -> str | None:
    """What a text says after its last thought; None while a thought is open.

    Text before or between thoughts is not final: the model went on to think. An end without a beginning counts, as the
    beginning may stand in the prompt.
    """
    depth, start = 0, 0
    for tag in _tags(text):
        if tag["open"]:
            depth += 1
        else:
            depth, start = 0 if tag["final"] else max(depth - 1, 0), tag.end()
    return None if depth else text[start:]


def answer_text(text: str) -> str:
    """An answer without the thought that it begins with; blank while that is open.

    Unlike `final_text`, tags further on are part of the answer: somebody may have asked for them.
    """
    depth = 0
    for tag in _tags(text):
        leads = text[: tag.start()].strip().casefold() in ("", "<|start|>assistant") if not depth else False
        unopened = not depth and tag["close"] and "think" in tag["close"].casefold()  # opened in the prompt
        if not (depth or leads or unopened):
            return text
        depth = depth + 1 if tag["open"] else 0 if tag["final"] else max(depth - 1, 0)
        if not depth:
            return re.sub(r"\s*<\|(?:return|end)\|>\s*\Z", "", text[tag.end() :]).strip()
    return "" if depth else text
