"""Costs: prices per token, tokens of each answer, and the log of answers with their scores and costs."""

from routellm_lab.costs.answer_log import AnswerLog, log_answers
from routellm_lab.costs.prices import Price, Prices, load_prices, paper_prices, price_lists
from routellm_lab.costs.tokens import Tokens, count_tokens

__all__ = [
    "AnswerLog",
    "Price",
    "Prices",
    "Tokens",
    "count_tokens",
    "load_prices",
    "log_answers",
    "paper_prices",
    "price_lists",
]
