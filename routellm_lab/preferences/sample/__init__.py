"""The sample: a simulated world whose votes and outcomes follow a known law, so that the best router is known.

Everything that decides how hard a prompt is can be read from its text. Marked words carry a domain, a language and an
effect on difficulty; a word's effect may depend on the domain (deriving is harder in history than in physics). With
``b(q)`` the difficulty of prompt q, in logits, and ``d(q)`` its domain:

* competence, the probability that model m answers q well (item response theory):
  ``u_m(q) = sigmoid(ability_m + affinity_m[d(q)] - b(q))``;
* votes, Bradley-Terry with ties (Davidson 1970): ``P(A wins) : P(tie) : P(B wins) = exp(x / 2) : nu : exp(-x / 2)``
  with ``x = beta * (u_A(q) - u_B(q))``, beta = `VOTE_SHARPNESS`, nu = `TIE_RATE`;
* a judge with biases votes by the same law with ``x`` moved by its tastes for a side and for length
  (`JUDGE_POSITION_BIAS`, `JUDGE_LENGTH_BIAS`), and lapses now and then;
* outcomes, in `routellm_lab.benchmarks.sample`: right with probability ``u_m(q)``, independently.

The win rate ``P(A wins) + P(tie) / 2`` rises with ``u_A - u_B``, the expected gain of calling A: ranking prompts by
the true win rate is the best possible routing.
"""

from routellm_lab.preferences.sample.draws import checked_size, stream
from routellm_lab.preferences.sample.phrases import ARENA_DOMAINS, DOMAINS, LANGUAGES
from routellm_lab.preferences.sample.reading import (
    BASE_DIFFICULTY,
    DIGIT_EFFECT,
    EFFECT_UNIT,
    LEVEL_EFFECTS,
    read_prompts,
)
from routellm_lab.preferences.sample.votes import (
    ANSWER_CHARS,
    ANSWER_SPREAD,
    BATTLE_SETS,
    JUDGE_LAPSE,
    JUDGE_LENGTH_BIAS,
    JUDGE_POSITION_BIAS,
    MAX_SIZE,
    BattleSet,
    recast_votes,
    sample_battles,
    vote_chances,
)
from routellm_lab.preferences.sample.world import (
    SAMPLE_MODELS,
    SAMPLE_PAIR,
    TIE_RATE,
    VOTE_SHARPNESS,
    competence,
    true_win_rate,
    vote_law,
)
from routellm_lab.preferences.sample.writing import RESERVED, simulate_prompts
