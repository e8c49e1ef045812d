"""One attempt at a call: the client of an endpoint, what it brings back, and what its failures mean.

Keys are read from the environment, sent in the header of a call and kept out of everything else: files, messages, logs
and the exceptions of the client.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from routellm_lab.errors import MissingExtraError
from routellm_lab.preferences.endpoint import OPENAI_URL, Endpoint, Messages, is_amount, sendable
from routellm_lab.settings import secret

LONGEST_WAIT = 120.0
"""Seconds; an endpoint that asks for a longer wait ends the run, which goes on later."""
_NO_KEY = "none"
"""What the client sends where there is no key, as it asks for one."""


@dataclass(frozen=True)
class Reply:
    """What a call brought: its text (None where every attempt was lost), tokens (None if not told) and cost."""

    text: str | None
    cost_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None

    def as_line(self) -> dict[str, object]:
        """The part of a line that every kind of paid call shares."""
        tokens = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {**tokens, "cost_usd": self.cost_usd, "finish_reason": self.finish_reason, "reply": self.text}


@dataclass(frozen=True)
class Failure:
    """An attempt without a reply.

    ``wait`` is what the endpoint asked for, in seconds; ``billed``: it may be paid; ``refused``: the prompt may be why.
    """

    why: str
    again: bool
    billed: bool = False
    refused: bool = False
    wait: float | None = None


class Chat:
    """The client of an endpoint. Attempts return their failures: no exception of the client leaves this class."""

    def __init__(self, endpoint: Endpoint) -> None:
        name = endpoint.key_env or ("OPENAI_API_KEY" if endpoint.at_openai else None)
        self._endpoint, self._key = endpoint, secret(name) if name else _NO_KEY
        self._client = require_client().OpenAI(
            api_key=self._key,
            base_url=endpoint.base_url or OPENAI_URL,
            timeout=endpoint.timeout,
            max_retries=0,  # the budget must know of every attempt
        )

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def attempt(self, messages: Messages) -> Reply | Failure:
        """Ask once."""
        endpoint = self._endpoint
        limit = "max_completion_tokens" if endpoint.at_openai else "max_tokens"  # OpenAI's newer models know no other
        options: dict[str, Any] = {limit: endpoint.max_tokens}
        if endpoint.temperature is not None:
            options["temperature"] = endpoint.temperature
        whole: Any = [{**message, "content": sendable(message["content"])} for message in messages]
        try:
            create = self._client.chat.completions.with_raw_response.create
            answer = create(model=endpoint.model, messages=whole, **options)
        except Exception as error:
            return self._failure(error)
        try:
            body = json.loads(answer.content)
            text = body["choices"][0]["message"].get("content") or ""
            told, finish = body.get("usage") or {}, body["choices"][0].get("finish_reason")
            sent, got = told.get("prompt_tokens"), told.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("a reply that is no chat completion", again=True, billed=True)
        finish = None if finish is None else self._clean(finish)
        if not (is_amount(sent) and is_amount(got)):
            return Reply(self._clean(text), endpoint.usd_at_most(messages), finish_reason=finish)
        return Reply(self._clean(text), endpoint.usd(sent, got), int(sent), int(got), finish)

    def _failure(self, error: Exception) -> Failure:
        openai = require_client()
        if isinstance(error, openai.APIStatusError):
            status, passes = error.status_code, error.code != "insufficient_quota"  # that is a 429 which stays
            why, wait = f"status {status}: {self._clean(error.message)[:300]}", asked_wait(error.response.headers)
            again = passes and (status in (408, 409, 429) or status >= 500)
            if again and wait and wait > LONGEST_WAIT:
                why, again = f"{why}; it asks for a wait of {wait:.0f} s, more than {LONGEST_WAIT:.0f} s", False
            refused = passes and status in (400, 413, 422)
            return Failure(why, again, billed=status == 408, refused=refused, wait=wait)
        if isinstance(error, openai.APIConnectionError):
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")  # nothing was asked
            why = f"no reply in {self._endpoint.timeout:g} s" if isinstance(error, openai.APITimeoutError) else ""
            return Failure(why or "no connection, or one that broke", again=True, billed=not unsent)
        return Failure(f"{type(error).__name__}: {self._clean(str(error))[:300]}", again=False)

    def _clean(self, text: object) -> str:
        text = sendable(str(text))
        # what is shorter than any key ("none", for a local server) would take words out of replies
        return text.replace(self._key, "<key>") if len(self._key) >= 8 else text


def require_client():
    try:
        import filelock  # noqa: F401  # of the same extra: told before anything is paid
        import openai
    except ImportError as error:
        raise MissingExtraError("the LLM judge needs: pip install 'routellm-lab[judge]'") from error
    return openai


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    from email.utils import parsedate_to_datetime

    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(seconds, 0.0) if isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None
