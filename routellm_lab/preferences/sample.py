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

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed, nearest
from routellm_lab.preferences.battles import WINNERS, prompt_key, validate_battles
from routellm_lab.preferences.models import ModelPair

VOTE_SHARPNESS = 9.0
"""beta: how strongly a difference in competence shows in a vote."""
TIE_RATE = 0.8
"""nu: weight of a tie; two equal models tie with probability nu / (2 + nu)."""
JUDGE_LAPSE = 0.1
"""Share of the votes of ``arena_rejudged`` that its judge casts at random, a third for each verdict."""
JUDGE_POSITION_BIAS = 0.8
"""What the judge of ``arena_rejudged`` adds to x, in logits, for the answer that is shown first (A).

Two draws from one law differ as well. `vote_chances` gives p and q, the chances of the three verdicts of people and of
this judge on every vote; the draws are independent, so that on average a share ``(p * q).sum(axis=1).mean()`` of the
verdicts is the same. With ``p`` in place of ``q`` it is the most that a second set of people reaches. The bias of
position to expect is the mean of ``(q - p)[model_a] - (q - p)[model_b]``."""
JUDGE_LENGTH_BIAS = 0.8
"""What the judge of ``arena_rejudged`` adds to x, in logits, per doubling of A's length against B's:
``JUDGE_LENGTH_BIAS * log2(chars_a / chars_b)``. People have no taste for length here; longer answers still win a
little more often with them, since strong models happen to be verbose. The bias to expect is the mean of
``sign(chars_a - chars_b) * ((q - p)[model_a] - (q - p)[model_b])``, p and q as in `JUDGE_POSITION_BIAS`."""
ANSWER_CHARS = 750.0
"""Median length of an answer, in characters, of a model of verbosity 1 to a prompt of difficulty 0."""
ANSWER_SPREAD = 0.5
"""Standard deviation of the log of an answer's length. It grows by 0.15 per logit of difficulty besides."""
MAX_SIZE = 1_000_000
"""Most votes that one call simulates."""

SAMPLE_PAIR = ModelPair(strong="sim-granite", weak="sim-pebble")
"""The pair that the sample is about."""

_TIERS = (  # ability in logits, members
    (5.00, "sim-everest"),
    (2.35, "sim-granite sim-basalt sim-marble"),
    (1.45, "sim-slate sim-quartz"),
    (0.70, "sim-boulder sim-onyx"),
    (0.00, "sim-pebble sim-cobble sim-shale sim-flint"),
    (-0.75, "sim-gravel sim-chalk sim-pumice"),
    (-1.45, "sim-sandstone sim-gypsum"),
    (-2.15, "sim-clay sim-marl"),
    (-2.90, "sim-sand sim-loam"),
    (-3.80, "sim-silt sim-dust"),
)
_POPULAR = {0: 1.25, 1: 1.25, 4: 1.25}  # tiers whose models are asked more often: the pair's
_WITHIN_TIER = 0.03  # half the range of abilities inside a tier
_AFFINITY_SD = 0.25

LANGUAGES = {"en": "English", "es": "Spanish", "de": "German"}
EFFECT_UNIT = 1.5
"""Logits of difficulty per unit of the effects below."""
BASE_DIFFICULTY = -1.9
"""Difficulty, in logits, of a text without any marked word."""
LEVEL_EFFECTS = (-1.1, -0.4, 0.3, 1.05)
"""Effect on difficulty of a topic's level: school, everyday, university, research."""
DIGIT_EFFECT = 0.3
"""Effect of one more digit in the numbers of a calculation, from two digits on."""


@dataclass(frozen=True)
class _Domain:
    """A domain: its kind of task, its part in difficulty, how steeply ability shows in it, and its topics.

    ``topics[language]`` is one string per level, topics separated by ``;``; ``*`` marks the word that carries the
    topic, ``#`` stands for a number.
    """

    kind: str
    effect: float
    slope: float
    topics: dict[str, tuple[str, str, str, str]]


_DOMAINS = {
    "arithmetic": _Domain("sums", 0.0, 1.25, {
        "en": (
            "the *sum of # and #; *double of #; the price of # *apples at # dollars each; *half of #",
            "the *difference between # and #; # *times #; the *change from # dollars after paying #; "
            "the *average of # and #",
            "the *remainder of # divided by #; *percentages such as # out of #; the *ratio of # to # in lowest terms; "
            "the *speed of a train that covers # km in # minutes",
            "the *cube-root of # to three decimals; the last digit of # *exponentiated by #; the *totient of #; "
            "the *compound-interest on # dollars at # points over # months",
        ),
        "es": (
            "la *suma de # y #; el precio de # *manzanas a # euros",
            "la *diferencia entre # y #; el *promedio de # y #",
            "el *resto de dividir # entre #; la *velocidad de un tren que recorre # km en # minutos",
            "la *raíz-cúbica de # con tres decimales; el *interés-compuesto de # euros durante # meses",
        ),
        "de": (
            "die *Summe von # und #; den Preis von # *Äpfeln zu je # Euro",
            "die *Differenz von # und #; den *Durchschnitt von # und #",
            "den *Rest von # geteilt durch #; die *Geschwindigkeit eines Zuges mit # km in # Minuten",
            "die *Kubikwurzel von # auf drei Stellen; den *Zinseszins auf # Euro nach # Monaten",
        ),
    }),
    "algebra": _Domain("maths", 0.5, 1.25, {
        "en": (
            "the *unknown in x + # = #; a straight *line with slope #; the *perimeter of a square of side #; "
            "the *bracket #(x + #)",
            "the *quadratic x^2 + #x - #; a *pair of linear equations in x and y; the *parabola y = #x^2; "
            "the *fraction x / # + x / #",
            "*logarithms to base #; a *polynomial of degree #; *inequalities with absolute values; "
            "a *determinant of size #",
            "*eigenvalues of a symmetric operator; the *Galois group of x^# - #; *homomorphisms of cyclic groups; "
            "*tensor products of modules",
        ),
        "es": (
            "la *incógnita en x + # = #; el *perímetro de un cuadrado de lado #",
            "la *cuadrática x^2 + #x - #; la *parábola y = #x^2",
            "los *logaritmos en base #; un *polinomio de grado #",
            "los *autovalores de un operador simétrico; los *homomorfismos de grupos cíclicos",
        ),
        "de": (
            "die *Unbekannte in x + # = #; den *Umfang eines Quadrats mit Seite #",
            "die *quadratische Gleichung x^2 + #x - #; die *Normalparabel y = #x^2",
            "*Logarithmen zur Basis #; ein *Polynom vom Grad #",
            "*Eigenwerte eines symmetrischen Operators; *Homomorphismen zyklischer Gruppen",
        ),
    }),
    "coding": _Domain("code", 0.4, 1.2, {
        "en": (
            "a Python *loop over names; a *variable swap; *hello-world in Java; an *if-else branch",
            "a *function that reverses a string; a *dictionary that counts words; a *regex for postcodes; "
            "a *csv reader",
            "a *binary-search tree; a *recursive permutation generator; an *SQL join of three tables; "
            "a *decorator with a cache",
            "a *lock-free queue; a *compiler pass for register allocation; a *Paxos replica; "
            "a *segment-tree with lazy propagation",
        ),
        "es": (
            "un *bucle en Python que imprime una lista; una *condición lógica",
            "una *función que invierte una cadena; un *diccionario que cuenta palabras",
            "un *árbol de búsqueda; una *consulta de tres tablas",
            "una cola sin *bloqueos; un *compilador con asignación de registros",
        ),
        "de": (
            "eine *Schleife in Python über eine Liste; eine einfache *Bedingung",
            "eine *Funktion zum Umdrehen von Text; ein *Wörterbuch zum Zählen",
            "einen *Suchbaum; eine *Abfrage über drei Tabellen",
            "eine *sperrfreie Warteschlange; einen *Übersetzer mit Registerzuteilung",
        ),
    }),
    "physics": _Domain("science", 0.4, 1.1, {
        "en": (
            "*gravity on Earth; the boiling of *water; *magnets; the *seasons",
            "*friction on a slope; a *pendulum; *lenses; electric *circuits",
            "*entropy of an ideal gas; *diffraction gratings; *relativity of time; *semiconductors",
            "*renormalisation of gauge theories; *superconductors of type II; the *Lagrangian of a spinor field; "
            "*decoherence of qubits",
        ),
        "es": (
            "la *gravedad; los *imanes",
            "la *fricción; el *péndulo",
            "la *entropía de un gas; los *semiconductores",
            "la *renormalización; los *superconductores",
        ),
        "de": (
            "die *Schwerkraft; *Magnete",
            "die *Reibung; das *Pendel",
            "die *Entropie eines Gases; *Halbleiter",
            "die *Renormierung; *Supraleiter",
        ),
    }),
    "biology": _Domain("science", -0.5, 0.9, {
        "en": (
            "the *leaves of trees; farm *animals; the human *heart; *flowers",
            "*photosynthesis; *vaccines; the *digestion of food; *bacteria",
            "*mitochondria; *enzymes and their inhibitors; natural *selection in finches; *hormones",
            "*epigenetic silencing; *phylogenetics of archaea; *CRISPR off-target cuts; *allosteric kinases",
        ),
        "es": (
            "las *hojas; los *animales de granja",
            "la *fotosíntesis; las *vacunas",
            "las *mitocondrias; las *enzimas",
            "el silenciamiento *epigenético; la *filogenia de las arqueas",
        ),
        "de": (
            "die *Blätter; *Bauernhoftiere",
            "die *Photosynthese; *Impfstoffe",
            "*Mitochondrien; *Enzyme",
            "*epigenetische Stilllegung; die *Phylogenetik der Archaeen",
        ),
    }),
    "history": _Domain("humanities", -0.7, 0.85, {
        "en": (
            "the *pyramids; *Napoleon; the *Romans; the moon *landing",
            "the French *Revolution; the *Vikings; the *Renaissance; the Berlin *wall",
            "the *Hanseatic League; the *Meiji era; the *Reconquista; the Taiping *rebellion",
            "*Sogdian merchants; the *Synod of Dort; *Merovingian coinage; *Nabataean inscriptions",
        ),
        "es": (
            "las *pirámides; los *romanos",
            "la *revolución francesa; los *vikingos",
            "la liga *hanseática; la era *meiji-jidai",
            "los mercaderes *sogdianos; la moneda *merovingia",
        ),
        "de": (
            "die *Pyramiden; die *Römer",
            "die französische *Revolutionszeit; die *Wikinger",
            "die *Hanse; die *Meiji-Zeit",
            "*sogdische Händler; *merowingische Münzen",
        ),
    }),
    "law": _Domain("humanities", 0.5, 1.0, {
        "en": (
            "a parking *fine; a *jury; *theft; a *passport",
            "a rental *contract; *copyright of photos; *divorce; *inheritance",
            "*negligence and causation; *antitrust remedies; *extradition; *injunctions",
            "*estoppel by convention; *subrogation in reinsurance; *renvoi in conflict of laws; *usufruct of shares",
        ),
        "es": (
            "una *multa; un *robo",
            "un *contrato de alquiler; la *herencia",
            "la *negligencia; la *extradición",
            "el *reenvío; la *subrogación",
        ),
        "de": (
            "ein *Bußgeld; den *Diebstahl",
            "einen *Mietvertrag; das *Erbe",
            "die *Fahrlässigkeit; die *Auslieferung",
            "die *Rückverweisung; den *Nießbrauch",
        ),
    }),
    "economics": _Domain("science", 0.1, 1.05, {
        "en": (
            "*money; a *shop; *prices; a *piggy-bank",
            "*inflation; *unemployment; *taxes; a *mortgage",
            "price *elasticity; *arbitrage; *oligopoly; fiscal *multipliers",
            "*cointegration of exchange rates; *heteroskedasticity; Bayesian *mechanism-design; "
            "*stochastic discount factors",
        ),
        "es": (
            "el *dinero; una *tienda",
            "la *inflación; los *impuestos",
            "la *elasticidad; el *arbitraje",
            "la *cointegración; la *heterocedasticidad",
        ),
        "de": (
            "das *Geld; einen *Laden",
            "die *Teuerung; *Steuern",
            "die *Elastizität; die *Arbitragefreiheit",
            "die *Kointegration; die *Heteroskedastizität",
        ),
    }),
    "translation": _Domain("translation", -1.2, 0.75, {
        "en": (
            "'good *morning'; 'the *cat sleeps'; a *thank-you note; 'a red *ball'",
            "'where is the *station'; a short *postcard; 'I lost my *keys'; a dinner *menu",
            "a newspaper *headline; a user *manual; a *proverb; a cover *letter",
            "a *sonnet; a *patent claim; a medieval *charter; a rhyming *limerick",
        ),
        "es": (
            "'buenos *días'; 'el *gato duerme'",
            "'dónde está la *estación'; un *menú",
            "un *titular de prensa; un *refrán",
            "un *soneto; una *patente",
        ),
        "de": (
            "'guten *Morgen'; 'die *Katze schläft'",
            "'wo ist der *Bahnhof'; eine *Speisekarte",
            "eine *Schlagzeile; ein *Sprichwort",
            "ein *Sonett; eine *Patentschrift",
        ),
    }),
    "planning": _Domain("planning", -0.9, 0.8, {
        "en": (
            "a *picnic; a *birthday party; a *shopping trip; a *bedtime routine",
            "a *weekend in Rome; the *meals of a week; a *garden for spring; a *gym routine",
            "a *wedding with two venues; an office *relocation; a *marathon season; a *conference programme",
            "an airline *crew roster; a *vaccination campaign logistics chain; a *semiconductor-fab shutdown; "
            "a *satellite constellation launch",
        ),
        "es": (
            "un *picnic-familiar; un *cumpleaños",
            "un *fin-de-semana en Roma; un *jardín",
            "una *boda en dos lugares; un *congreso",
            "los turnos de una *aerolínea; un *satélite nuevo",
        ),
        "de": (
            "ein *Picknick; einen *Geburtstag",
            "ein *Wochenende in Rom; einen *Garten",
            "eine *Hochzeit an zwei Orten; eine *Tagung",
            "die Dienste einer *Fluglinie; einen *Satellitenstart",
        ),
    }),
}  # fmt: skip

# Verbs by language and kind of task: phrase and effect. "@" is the topic. The same verb has another effect in another
# kind of task: the interaction that a purely additive reading of the words misses.
_VERBS: dict[str, dict[str, tuple[tuple[str, float], ...]]] = {
    "en": {
        "sums": (("*Compute @", 0.0), ("*Find @", 0.08), ("*Guess roughly @", -0.72), ("*Check by hand @", -0.32),
            ("*Determine exactly @", 0.56), ("*Tell me @", -0.4)),
        "maths": (("*Solve @", 0.0), ("*Explain @", -0.16), ("*Prove a theorem about @", 1.2), ("*Sketch @", -0.64),
            ("*Generalise @", 0.88), ("*Define @", -0.8), ("*Derive a formula for @", 0.64)),
        "code": (("*Write @", 0.16), ("*Explain @", -0.64), ("*Debug @", 0.56), ("*Optimise @", 0.88),
            ("*Comment @", -0.8), ("*Test @", 0.24), ("*Prove the correctness of @", 1.28)),
        "science": (("*Explain @", 0.0), ("*Define @", -0.64), ("*Derive the theory of @", 1.04),
            ("*Name a fact on @", -0.96), ("*Quantify @", 0.8), ("*Compare two views of @", 0.24),
            ("*Describe @", -0.32)),
        "humanities": (("*Explain @", 0.16), ("*Define @", -0.48), ("*Name a fact on @", -0.8),
            ("*Criticise the scholarship on @", 0.96), ("*Compare two views of @", 0.48), ("*Describe @", -0.24),
            ("*Date @", -0.72), ("*Argue both sides of @", 0.64)),
        "translation": (("*Translate @ into French", -0.24), ("*Translate @ into *Latin", -0.24),
            ("*Proofread a translation of @", 0.32), ("*Render @ in *Basque", 0.16),
            ("*Localise @ for Quebec", 0.48), ("*Say @ in Italian", -0.64)),
        "planning": (("*Plan @", 0.0), ("*Schedule @ hour by hour", 0.56), ("*List things for @", -0.72),
            ("*Budget @", 0.32), ("*Optimise @", 0.96), ("*Describe @", -0.56)),
    },
    "es": {
        "sums": (("*Calcula @", 0.0), ("*Adivina más o menos @", -0.72), ("*Determina con exactitud @", 0.56)),
        "maths": (("*Resuelve @", 0.0), ("*Explica @", -0.16), ("*Demuestra un teorema sobre @", 1.2),
            ("*Define @", -0.8)),
        "code": (("*Escribe @", 0.16), ("*Explica @", -0.64), ("*Depura @", 0.56), ("*Optimiza @", 0.88)),
        "science": (("*Explica @", 0.0), ("*Describe @", -0.32), ("*Deduce la teoría de @", 1.04),
            ("*Nombra un hecho sobre @", -0.96)),
        "humanities": (("*Explica @", 0.16), ("*Nombra un hecho sobre @", -0.8),
            ("*Critica los estudios sobre @", 0.96)),
        "translation": (("*Traduce @ al francés", -0.24), ("*Traduce @ al *latín", -0.24),
            ("*Corrige una traducción de @", 0.32)),
        "planning": (("*Planifica @", 0.0), ("*Enumera cosas para @", -0.72), ("*Optimiza @", 0.96)),
    },
    "de": {
        "sums": (("*Berechne @", 0.0), ("*Schätze grob @", -0.72), ("*Bestimme exakt @", 0.56)),
        "maths": (("*Löse @", 0.0), ("*Erkläre @", -0.16), ("*Beweise einen Satz über @", 1.2),
            ("*Definiere @", -0.8)),
        "code": (("*Schreibe @", 0.16), ("*Erkläre @", -0.64), ("*Repariere @", 0.56), ("*Optimiere @", 0.88)),
        "science": (("*Erkläre @", 0.0), ("*Beschreibe @", -0.48), ("*Begründe die Theorie hinter @", 1.04),
            ("*Nenne eine Tatsache über @", -0.96)),
        "humanities": (("*Erkläre @", 0.16), ("*Nenne eine Tatsache über @", -0.8),
            ("*Kritisiere die Forschung über @", 0.96)),
        "translation": (("*Übersetze @ ins Französische", -0.24), ("*Übersetze @ ins *Lateinische", -0.24),
            ("*Korrigiere eine Fassung von @", 0.32)),
        "planning": (("*Plane @", 0.0), ("*Nenne Dinge für @", -0.72), ("*Optimiere @", 0.96)),
    },
}  # fmt: skip

_RARE_LANGUAGE_EFFECT = 1.3  # Latin, Basque: a second marked word in the verb's phrase

# How the answer should be: effect, and phrases of that effect, in every kind of task. Many ways to say the same: an
# encoder that knows which words mean alike needs fewer votes.
_MANNERS: dict[str, tuple[tuple[float, str], ...]] = {
    "en": (
        (-1.7, "so that a young *child can follow it; for *kindergarten kids; for my little *daughter; "
               "as in a *fairy-tale for toddlers; for an *elementary school class"),
        (-1.1, "in very *simple words; for a complete *beginner; in *plain everyday words; "
               "without any *jargon at all; in an *easy and friendly tone"),
        (-0.1, "in two *sentences; in one short *paragraph; as *bullets; with one *example"),
        (1.0, "for *experts; for *engineers; for trained *specialists; with *references; "
              "and justify every single *assumption that is needed"),
        (1.6, "at *graduate level; for *postdocs; for a *doctoral thesis; *rigorously; with full mathematical *rigour; "
              "for a *peer-reviewed journal"),
    ),
    "es": (
        (-1.7, "para que lo entienda un *niño; para una clase de *primaria"),
        (-1.1, "con palabras *sencillas; para *principiantes"),
        (-0.1, "en dos *frases; con un *ejemplo"),
        (1.0, "para *expertos; justificando cada *supuesto"),
        (1.6, "con todo *rigor; para una tesis de *doctorado"),
    ),
    "de": (
        (-1.7, "so dass ein *Kind es versteht; für eine *Grundschulklasse"),
        (-1.1, "in *einfachen Worten; für *Anfänger"),
        (-0.1, "in zwei *Sätzen; mit einem *Beispiel"),
        (1.0, "für *Fachleute; und belege jede *Annahme"),
        (1.6, "mit aller *Strenge; für eine *Doktorarbeit"),
    ),
}  # fmt: skip
_WITH_MANNER = 0.75  # share of prompts that ask for one

# Small talk around the task: no effect, any length, so that length says little. "~" is a name, "%" a place.
_CONTEXTS: dict[str, tuple[str, ...]] = {
    "en": (
        "Thanks.", "Hi.", "Please be quick.", "My friend ~ asked.", "I live in %.", "~ from % wants to know.",
        "I met ~ on the ferry to %.", "It is for a quiz night in %.", "~ and I talked over coffee.",
        "This came up at work today.", "I am on the bus to % with little battery left.", "No hurry, ~ is still asleep.",
    ),
    "es": (
        "Gracias.", "Me lo pidió ~.", "Vivo en %.", "Estoy en el tren a %.", "Ayer hablé con ~.",
    ),
    "de": (
        "Danke.", "~ hat gefragt.", "Ich wohne in %.", "Ich sitze im Bus nach %.", "Gestern sprach ich mit ~.",
    ),
}  # fmt: skip
_WITH_CONTEXT = 0.4  # share of prompts that come with small talk
_NAMES = [
    "Anna", "Bruno", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jamal", "Kofi", "Lena", "Mateo",
    "Nora", "Omar", "Priya", "Quentin", "Rosa", "Sven", "Tara", "Uwe", "Vera", "Wanda", "Ximena", "Yusuf", "Zoe",
]  # fmt: skip
_PLACES = [
    "Lima", "Oslo", "Turin", "Kyoto", "Quito", "Accra", "Leeds", "Porto", "Izmir", "Davos", "Hanoi", "Bergen",
    "Malaga", "Tallinn", "Nairobi", "Boston", "Perth", "Graz", "Lyon", "Cusco", "Malmo", "Austin",
]  # fmt: skip
_PUNCTUATION = ".,;:!?¿¡\"'()"

# Difficulty of a language, and where a language meets a domain: the second planted interaction.
_LANGUAGE_EFFECT = {"en": 0.0, "es": 0.3, "de": 0.3}
_LANGUAGE_DOMAIN_EFFECT = {
    ("es", "law"): 0.6,
    ("de", "law"): 0.6,
    ("es", "coding"): 0.3,
    ("de", "coding"): 0.3,
    ("es", "translation"): -0.6,
    ("de", "history"): -0.6,
}


@dataclass(frozen=True)
class BattleSet:
    """One simulated set of votes.

    Attributes
    ----------
    size : int
        Votes when no size is asked for.
    judge : str
        Who votes.
    lapse : float
        Share of votes cast at random, whatever the answers: the law holds for the others.
    n_prompts : int or None
        Size of the pool that prompts are drawn from; None: every vote has a prompt of its own.
    baseline : str or None
        The model that is always A; None: all pairs.
    favourites : tuple of str
        Opponents of the baseline that meet it five times as often.
    ties : bool
        Without, the judge must choose: A is preferred with the win rate as probability.
    prompts : bool
        Whether the votes show their prompts.
    languages : mapping
        Share of each language.
    lengths : bool
        Whether the lengths of the answers are known (``chars_a``, ``chars_b``).
    again : str or None
        The set whose votes are judged once more: same prompts, models, sides and answers, fresh verdicts.
    position_bias : float
        Logits added to x for the answer shown first.
    length_bias : float
        Logits added to x per doubling of A's length against B's; needs ``lengths``.
    """

    size: int
    judge: str
    lapse: float = 0.0
    n_prompts: int | None = None
    baseline: str | None = None
    favourites: tuple[str, ...] = ()
    ties: bool = True
    prompts: bool = True
    languages: tuple[tuple[str, float], ...] = (("en", 0.88), ("es", 0.06), ("de", 0.06))
    lengths: bool = False
    again: str | None = None
    position_bias: float = 0.0
    length_bias: float = 0.0


_ENGLISH = (("en", 1.0),)
BATTLE_SETS = {
    "arena_human": BattleSet(size=20_000, judge="human", lengths=True),
    "arena_human_outcomes": BattleSet(size=20_000, judge="human", prompts=False),
    "elobench_judge": BattleSet(size=12_000, judge="sim-judge-small", lapse=0.1, n_prompts=3_000),
    "alpacaeval_judge": BattleSet(
        size=12_000, judge="sim-judge", n_prompts=805, baseline="sim-basalt", ties=False, languages=_ENGLISH
    ),
    "alpacaeval_rejudged": BattleSet(
        size=8_000,
        judge="sim-judge-large",
        n_prompts=805,
        baseline=SAMPLE_PAIR.strong,
        favourites=(SAMPLE_PAIR.weak,),
        languages=_ENGLISH,
    ),
    "arena_rejudged": BattleSet(
        size=2_000,
        judge="sim-judge-large",
        lapse=JUDGE_LAPSE,
        lengths=True,
        again="arena_human",
        position_bias=JUDGE_POSITION_BIAS,
        length_bias=JUDGE_LENGTH_BIAS,
    ),
}
"""The simulated sets, by the names of their counterparts in a data folder."""
_ID_OF_ORIGIN = "arena_battle_id"  # the name it has in the real set

ARENA_DOMAINS = {name: 2.0 if name in ("arithmetic", "algebra") else 1.0 for name in _DOMAINS}
"""How often each domain is asked about in the votes, relative to each other."""

RESERVED = {"mmlu": (0, 1), "gsm8k": (2,), "mt_bench": (3,), "mmlu_pro": (2, 3)}
"""Classes of prompts (of `_CLASSES`, by key) kept for the benchmarks: no vote is ever on one of their prompts. A few
questions of mmlu_pro are in gsm8k and mt_bench as well, for decontamination to find."""
_CLASSES = 32
_CHUNK = 8192


def _sample_models() -> pd.DataFrame:
    rng = np.random.default_rng(20240626)
    rows = []
    for tier, (ability, members) in enumerate(_TIERS):
        names = members.split()
        inside = np.linspace(_WITHIN_TIER, -_WITHIN_TIER, len(names)) if len(names) > 1 else [0.0]
        rows += [
            {"model": name, "tier": tier, "ability": ability + shift, "popularity": _POPULAR.get(tier, 1.0)}
            for name, shift in zip(names, inside, strict=True)
        ]
    models = pd.DataFrame(rows)
    centre = models["ability"].mean()
    own = rng.normal(0, _AFFINITY_SD, (len(models), len(_DOMAINS)))
    own -= own.mean(axis=1, keepdims=True)  # strengths and weaknesses even out: the tier is in the ability alone
    for number, (name, domain) in enumerate(_DOMAINS.items()):
        models[f"affinity_{name}"] = (domain.slope - 1) * (models["ability"] - centre) + own[:, number]
    models["verbosity"] = np.exp(rng.normal(0, 0.25, len(models)))
    return models.set_index("model")


SAMPLE_MODELS = _sample_models()
"""The simulated models, strongest first: ``tier`` (0 is the strongest), ``ability`` and ``affinity_<domain>`` in
logits, ``popularity`` (how often it is asked), ``verbosity`` (factor on the length of its answers)."""

DOMAINS = tuple(_DOMAINS)
_NO_DOMAIN = len(DOMAINS)  # text of another world: no affinity, effects of words without a domain
_STRENGTHS = np.column_stack(
    [*(SAMPLE_MODELS["ability"] + SAMPLE_MODELS[f"affinity_{name}"] for name in DOMAINS), SAMPLE_MODELS["ability"]]
)


@dataclass(frozen=True)
class _Lexicon:
    """Marked words: number of each, its effect per domain, and the domain and language it stands for (-1: none)."""

    number: dict[str, int]
    effects: np.ndarray
    domain: np.ndarray
    language: np.ndarray


def _mark(phrase: str) -> list[str]:
    return [word[1:].strip(_PUNCTUATION).lower() for word in phrase.replace("'*", "*").split() if word.startswith("*")]


@lru_cache(maxsize=1)
def _lexicon() -> _Lexicon:
    entries: dict[str, dict] = {}

    def add(phrase: str, effect: float, domains: Iterable[int], **topic: int) -> None:
        head, *rest = _mark(phrase)
        for word, value in [(head, effect), *((word, _RARE_LANGUAGE_EFFECT) for word in rest)]:
            entry = entries.setdefault(word, {"effects": {}, "domain": -1, "language": -1})
            for domain in domains:
                if entry["effects"].setdefault(domain, value) != value:
                    raise ValueError(f"sample: the word {word!r} has two meanings")
            entry.update(topic)

    everywhere = range(_NO_DOMAIN + 1)
    for number, domain in enumerate(_DOMAINS.values()):
        for language, (code, levels) in enumerate(domain.topics.items()):
            for level, phrases in enumerate(levels):
                for phrase in phrases.split("; "):
                    add(phrase, LEVEL_EFFECTS[level], everywhere, domain=number, language=language)
            for phrase, effect in _VERBS[code][domain.kind]:
                add(phrase, effect, [number])
    for manners in _MANNERS.values():
        for effect, phrases in manners:
            for phrase in phrases.split("; "):
                add(phrase, effect, everywhere)
    effects = np.zeros((len(entries) + 1, _NO_DOMAIN + 1))
    for row, entry in enumerate(entries.values()):
        for domain, effect in entry["effects"].items():
            effects[row, domain] = effect
    return _Lexicon(
        number={word: row for row, word in enumerate(entries)},
        effects=effects,
        domain=np.array([entry["domain"] for entry in entries.values()] + [-1]),
        language=np.array([entry["language"] for entry in entries.values()] + [-1]),
    )


def read_prompts(prompts: Iterable[str]) -> pd.DataFrame:
    """What the simulated world reads in a text: all that decides how well a model answers it.

    Parameters
    ----------
    prompts : iterable of str
        Any text; only the sample's words mean something here.

    Returns
    -------
    DataFrame
        (n rows) ``domain`` and ``language`` (null where no word of the sample's topics occurs) and ``difficulty``, in
        logits.
    """
    texts = list(prompts)
    domain, language, difficulty = _read(texts)
    return pd.DataFrame(
        {
            "domain": pd.Series(np.array([*DOMAINS, None], object)[domain], dtype="str"),
            "language": pd.Series(np.array([*LANGUAGES.values(), None], object)[language], dtype="str"),
            "difficulty": difficulty,
        }
    )


def _read(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the domain and of the language (the last: none), and difficulty, of each text."""
    lexicon = _lexicon()
    number = lexicon.number
    rows: list[int] = []
    words: list[int] = []
    digit_rows: list[int] = []
    digits: list[int] = []
    for row, text in enumerate(texts):
        for raw in text.lower().split():
            word = raw.strip(_PUNCTUATION)
            found = number.get(word)
            if found is not None:
                rows.append(row)
                words.append(found)
            elif word.isdecimal():
                digit_rows.append(row)
                digits.append(len(word))
    n = len(texts)
    at, word_of = np.array(rows, int), np.array(words, int)
    domain, language = np.full(n, _NO_DOMAIN), np.full(n, len(LANGUAGES))
    topics = np.flatnonzero(lexicon.domain[word_of] >= 0)[::-1]  # backwards: the first topic of a text is written last
    domain[at[topics]] = lexicon.domain[word_of[topics]]
    language[at[topics]] = lexicon.language[word_of[topics]]
    effects = lexicon.effects[word_of, domain[at]]
    units = _domain_effects()[domain, language] + np.bincount(at, effects, minlength=n)
    largest = np.zeros(n, int)
    np.maximum.at(largest, np.array(digit_rows, int), np.array(digits, int))
    counts = np.isin(domain, [DOMAINS.index("arithmetic"), DOMAINS.index("algebra")]) & (largest > 0)
    units += np.where(counts, DIGIT_EFFECT * (np.minimum(largest, 6) - 2.0), 0.0)
    return domain, language, BASE_DIFFICULTY + EFFECT_UNIT * units


@lru_cache(maxsize=1)
def _domain_effects() -> np.ndarray:
    table = np.zeros((_NO_DOMAIN + 1, len(LANGUAGES) + 1))
    table[:-1] = np.array([domain.effect for domain in _DOMAINS.values()])[:, None]
    table[:-1, :-1] += np.array([_LANGUAGE_EFFECT[code] for code in LANGUAGES])
    for (code, name), effect in _LANGUAGE_DOMAIN_EFFECT.items():
        table[DOMAINS.index(name), list(LANGUAGES).index(code)] += effect
    return table


def competence(prompts: Iterable[str], models: Sequence[str] | None = None) -> pd.DataFrame:
    """Planted probability that a model answers a prompt well, from the text alone.

    Parameters
    ----------
    prompts : iterable of str
    models : sequence of str, optional
        Names of `SAMPLE_MODELS`; all by default.

    Returns
    -------
    DataFrame
        (n, models), indexed as ``prompts`` if that is a Series.

    Raises
    ------
    ParameterError
        When a model is not one of the sample's.
    """
    names = list(SAMPLE_MODELS.index) if models is None else list(models)
    rows = _model_numbers(names)
    index = prompts.index if isinstance(prompts, pd.Series) else None
    domain, _, difficulty = _read(list(prompts))
    return pd.DataFrame(_sigmoid(_STRENGTHS[rows][:, domain].T - difficulty[:, None]), index=index, columns=names)


def true_win_rate(prompts: Iterable[str], pair: ModelPair = SAMPLE_PAIR) -> np.ndarray:
    """Planted P(strong wins) + P(tie) / 2 of each prompt, (n,): the best possible router.

    Raises
    ------
    ParameterError
        When a model is not one of the sample's.
    """
    chance = competence(prompts, [pair.strong, pair.weak]).to_numpy()
    wins, ties = vote_law(chance[:, 0], chance[:, 1])
    return wins + ties / 2


def vote_law(
    competence_a: np.ndarray, competence_b: np.ndarray, shift: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """P(A wins) and P(tie): Bradley-Terry with ties (Davidson 1970) on ``exp(VOTE_SHARPNESS * competence)``.

    Parameters
    ----------
    competence_a, competence_b : (n,) arrays in [0, 1]
    shift : float or (n,) array
        What a judge's biases add to x, in logits.

    Returns
    -------
    wins, ties : (n,) arrays
    """
    half = (VOTE_SHARPNESS * (np.asarray(competence_a) - np.asarray(competence_b)) + shift) / 2
    win, loss = np.exp(half), np.exp(-half)
    total = win + loss + TIE_RATE
    return win / total, TIE_RATE / total


def vote_chances(battles: pd.DataFrame, name: str) -> pd.DataFrame:
    """Planted chances of the three verdicts when the judge of a set sees these votes, lapses and biases included.

    Parameters
    ----------
    battles : DataFrame
        Votes of the sample with prompts, and with ``chars_a`` and ``chars_b`` where the judge has a taste for length.
    name : str
        The set whose judge votes, one of `BATTLE_SETS`; not necessarily the set of the votes.

    Returns
    -------
    DataFrame
        (n, 3), columns as `WINNERS`, indexed as the votes; rows sum to 1.

    Raises
    ------
    ParameterError
        When the set does not exist or a model is not one of the sample's.
    DataError
        When prompts, or the lengths that the judge looks at, are missing.
    """
    kind = _battle_set(name)
    needed = ["prompt", *(["chars_a", "chars_b"] if kind.length_bias else [])]
    missing = [column for column in needed if column not in battles or battles[column].isna().any()]
    if missing:
        raise DataError(f"vote_chances: {listed(missing)} missing in some votes; the judge of {name!r} looks at them")
    domain, _, difficulty = _read(battles["prompt"].tolist())
    chance = [
        _sigmoid(_STRENGTHS[_model_numbers(battles[side]), domain] - difficulty) for side in ("model_a", "model_b")
    ]
    lengths = battles[["chars_a", "chars_b"]].to_numpy(float).T if kind.length_bias else None
    wins, ties = _verdicts(kind, chance, lengths)
    return pd.DataFrame(dict(zip(WINNERS, (wins, 1 - wins - ties, ties), strict=True)), index=battles.index)


def recast_votes(battles: pd.DataFrame, judge: str, share: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """The votes as another judge casts them, who sees the answers and not the votes.

    Parameters
    ----------
    battles, judge
        As `vote_chances` takes them; ``arena_human`` is another draw of people.
    share : float
        Share of the votes that are cast again, each by chance. With one seed, those of a smaller share are among those
        of a larger one.
    seed : int

    Returns
    -------
    DataFrame
        Battles with the new ``winner``; everything else as it was.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"share must be in [0, 1], got {share!r}")
    again, vote = stream(seed, judge, "recast").random((2, len(battles)))
    edges = vote_chances(battles, judge).to_numpy().cumsum(axis=1)[:, :2]
    cast = np.array(WINNERS)[(vote[:, None] >= edges).sum(axis=1)]
    winner = np.where(again < share, cast, battles["winner"].to_numpy(object))
    return validate_battles(battles.assign(winner=winner), where=f"votes recast by the judge of {judge}")


def sample_battles(name: str, size: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Simulate one set of votes.

    Parameters
    ----------
    name : str
        One of `BATTLE_SETS`.
    size : int, optional
        Votes, up to `MAX_SIZE`; the set's own size by default. A smaller set is the start of a larger one.
    seed : int
        Sets of different names are independent under one seed, but for ``arena_rejudged``: it is the start of
        ``arena_human`` of the same seed, judged again.

    Returns
    -------
    DataFrame
        Valid battles with ``battle_id``, ``judge``, ``source``, ``language``, ``domain`` and ``true_preference_a``, the
        planted P(A wins) + P(tie) / 2 (of the law, before a judge's lapses and biases; `vote_chances` has them). Where
        lengths are known also ``chars_a`` and ``chars_b``, characters of the answers; in ``arena_rejudged`` also
        ``arena_battle_id``, the ``battle_id`` of the same vote in ``arena_human``.

    Raises
    ------
    ParameterError
        When the set does not exist or size or seed cannot be used.
    """
    kind = _battle_set(name)
    size = checked_size(kind.size if size is None else size, MAX_SIZE)
    origin = kind.again or name
    prompts, domain, language, difficulty = _battle_prompts(name, kind.n_prompts or size, seed)
    draw = _votes(kind, origin, size, seed)
    if kind.again:
        draw["vote"] = _votes(kind, name, size, seed)["vote"]
    row = np.arange(size) if kind.n_prompts is None else (draw["prompt"] * kind.n_prompts).astype(int)
    chance = [_sigmoid(_STRENGTHS[draw[side], domain[row]] - difficulty[row]) for side in ("a", "b")]
    plain_wins, plain_ties = vote_law(chance[0], chance[1])
    lengths = _lengths(origin, [draw["a"], draw["b"]], difficulty[row], seed) if kind.lengths else None
    wins, ties = _verdicts(kind, chance, lengths)
    nothing = pd.DataFrame({"prompt": [None] * size, "prompt_key": [None] * size}, dtype="str")
    shown = prompts.take(row).reset_index(drop=True) if kind.prompts else nothing
    winner = np.where(draw["vote"] < wins, 0, np.where(draw["vote"] < wins + ties, 2, 1))
    battles = pd.DataFrame(
        {
            "prompt": shown["prompt"],
            "model_a": _text(SAMPLE_MODELS.index, draw["a"]),
            "model_b": _text(SAMPLE_MODELS.index, draw["b"]),
            "winner": _text(WINNERS, winner),
            "judge": kind.judge,
            "source": f"simulated {name}",
            "language": _text(LANGUAGES.values(), language[row]),
            "domain": _text(DOMAINS, domain[row]),
            "true_preference_a": plain_wins + plain_ties / 2,
            "prompt_key": shown["prompt_key"],
            "battle_id": _ids(name, size),
        }
    )
    if lengths is not None:
        battles["chars_a"], battles["chars_b"] = lengths
    if kind.again:
        battles[_ID_OF_ORIGIN] = _ids(origin, size)
    return validate_battles(battles, where=f"sample {name}")


def _battle_set(name: str) -> BattleSet:
    if name not in BATTLE_SETS:
        raise ParameterError(f"no simulated battles {name!r}; nearest: {nearest(name, BATTLE_SETS)}")
    return BATTLE_SETS[name]


@lru_cache(maxsize=8)
def _battle_prompts(name: str, size: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    kind = _battle_set(name)
    return simulate_prompts(kind.again or name, size, seed, ARENA_DOMAINS, dict(kind.languages), _unreserved)


def _ids(name: str, size: int) -> pd.Series:
    return pd.Series([f"{name}-{number:06d}" for number in range(size)], dtype="str")


def _verdicts(
    kind: BattleSet, chance: Sequence[np.ndarray], lengths: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """P(A wins) and P(tie) for a set's judge, from the competences (A, B) and the lengths (2, n) of the answers."""
    shift: np.ndarray | float = kind.position_bias
    if kind.length_bias and lengths is not None:
        shift = shift + kind.length_bias * np.log2(lengths[0] / lengths[1])
    wins, ties = vote_law(chance[0], chance[1], shift)
    if not kind.ties:
        wins, ties = wins + ties / 2, np.zeros_like(wins)
    random_win, random_tie = (1 / 3, 1 / 3) if kind.ties else (1 / 2, 0.0)
    return (1 - kind.lapse) * wins + kind.lapse * random_win, (1 - kind.lapse) * ties + kind.lapse * random_tie


def _lengths(origin: str, models: Sequence[np.ndarray], difficulty: np.ndarray, seed: int) -> np.ndarray:
    """Characters of both answers of every vote, (2, n) whole numbers of at least 1: log-normal, by verbosity.

    They have a stream of their own, so that prompts, models and verdicts are what they were without them.
    """
    size = len(difficulty)
    noise = [stream(seed, origin, "lengths", chunk).normal(size=(_CHUNK, 2)) for chunk in range(-(-size // _CHUNK))]
    verbosity = SAMPLE_MODELS["verbosity"].to_numpy()[np.stack(models)]
    spread = 0.15 * difficulty + ANSWER_SPREAD * np.concatenate(noise)[:size].T
    return np.maximum(np.rint(ANSWER_CHARS * verbosity * np.exp(spread)), 1).astype(int)


def _votes(kind: BattleSet, name: str, size: int, seed: int) -> dict[str, np.ndarray]:
    """Random numbers of a set's votes: the models, the prompt of a pool and the vote."""
    n = len(SAMPLE_MODELS)
    chunks = [stream(seed, name, "votes", chunk).random((_CHUNK, 4)) for chunk in range(-(-size // _CHUNK))]
    uniform = np.concatenate(chunks)[:size]
    if kind.baseline is None:
        popularity = SAMPLE_MODELS["popularity"].to_numpy()
        pairs = np.outer(popularity, popularity)
        np.fill_diagonal(pairs, 0)
        a, b = np.divmod(_draw(pairs.ravel(), uniform[:, 0]), n)
    else:
        a = np.repeat(_model_numbers([kind.baseline]), size)
        weight = np.ones(n)
        weight[_model_numbers(kind.favourites)] = 5
        weight[a[0]] = 0
        b = _draw(weight, uniform[:, 1])
    return {"a": a, "b": b, "prompt": uniform[:, 2], "vote": uniform[:, 3]}


def stream(seed: int, *names: object) -> np.random.Generator:
    """An independent random generator for each seed and name, the same on every machine."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ParameterError(f"seed must be a whole number of at least 0, got {seed!r}")
    words = [name if isinstance(name, int) else zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))


def checked_size(size: int, largest: int) -> int:
    """The size as an int.

    Raises
    ------
    ParameterError
        When it is not a whole number from 1 to ``largest``.
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= largest:
        raise ParameterError(f"size must be a whole number from 1 to {largest:,}, got {size!r}")
    return int(size)


def simulate_prompts(
    name: str,
    size: int,
    seed: int,
    domains: dict[str, float],
    languages: dict[str, float],
    keep: Callable[[int], bool],
    unique: bool = False,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Simulated prompts with what the world reads in them.

    Parameters
    ----------
    name : str
        The set: prompts of different sets are independent.
    size : int
    seed : int
    domains, languages : dict
        How often each is drawn, relative to each other.
    keep : callable
        Takes the class of a prompt (see `RESERVED`), says whether the set may hold it.
    unique : bool
        No ``prompt_key`` twice.

    Returns
    -------
    prompts : DataFrame
        ``prompt`` and ``prompt_key``, (size,); fewer prompts are the start of more.
    domain, language : (size,) int arrays
    difficulty : (size,) array, logits
    """
    texts: list[str] = []
    keys: list[str] = []
    seen: set[str] = set()
    chunk = 0
    while len(texts) < size:
        for text in _write(stream(seed, name, "prompts", chunk), domains, languages):
            key = prompt_key(text)
            if keep(int(key, 16) % _CLASSES) and not (unique and key in seen):
                texts.append(text)
                keys.append(key)
                if unique:
                    seen.add(key)
        chunk += 1
    texts, keys = texts[:size], keys[:size]
    domain, language, difficulty = _read(texts)
    frame = pd.DataFrame({"prompt": pd.Series(texts, dtype="str"), "prompt_key": pd.Series(keys, dtype="str")})
    return frame, domain, language, difficulty


def _unreserved(number: int) -> bool:
    return not any(number in classes for classes in RESERVED.values())


def _write(rng: np.random.Generator, domains: dict[str, float], languages: dict[str, float]) -> list[str]:
    """Write one chunk of prompts."""
    banks = _banks()
    names, codes = list(domains), list(languages)
    domain = _draw(np.array(list(domains.values())), rng.random(_CHUNK)).tolist()
    language = _draw(np.array(list(languages.values())), rng.random(_CHUNK)).tolist()
    picks = rng.random((_CHUNK, 9)).tolist()
    lengths = rng.choice(np.arange(1, 6), size=_CHUNK, p=[0.25, 0.3, 0.2, 0.15, 0.1])
    numbers = (rng.random((_CHUNK, 3)) * 9 * 10.0 ** (lengths[:, None] - 1)).astype(int)
    numbers = (numbers + 10 ** (lengths[:, None] - 1)).astype(str).tolist()
    texts = []
    for subject, spoken, pick, values in zip(domain, language, picks, numbers, strict=True):
        topics, verbs, manners, contexts = banks[names[subject], codes[spoken]]
        level = topics[int(pick[0] * 4)]
        text = verbs[int(pick[1] * len(verbs))].replace("@", level[int(pick[2] * len(level))])
        while "#" in text:
            text = text.replace("#", values.pop(), 1)
        manner = ""
        if pick[3] < _WITH_MANNER:
            phrases = manners[int(pick[3] / _WITH_MANNER * len(manners))]
            manner = " " + phrases[int(pick[8] * len(phrases))]
        text = f"{text}{manner}."
        if pick[4] < _WITH_CONTEXT:
            context = contexts[int(pick[4] / _WITH_CONTEXT * len(contexts))]
            context = context.replace("~", _NAMES[int(pick[5] * len(_NAMES))])
            context = context.replace("%", _PLACES[int(pick[6] * len(_PLACES))])
            text = f"{context} {text}" if pick[7] < 0.5 else f"{text} {context}"
        texts.append(text)
    return texts


@lru_cache(maxsize=1)
def _banks() -> dict[tuple[str, str], tuple[list[list[str]], list[str], list[list[str]], tuple[str, ...]]]:
    """Topics by level, verbs, manners and contexts of each domain and language, without the marks."""
    return {
        (name, code): (
            [level.replace("*", "").split("; ") for level in levels],
            [phrase.replace("*", "") for phrase, _ in _VERBS[code][domain.kind]],
            [phrases.replace("*", "").split("; ") for _, phrases in _MANNERS[code]],
            _CONTEXTS[code],
        )
        for name, domain in _DOMAINS.items()
        for code, levels in domain.topics.items()
    }


def _draw(weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Numbers drawn with the given weights, from uniform random numbers."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, uniform, side="right"), np.flatnonzero(weights)[-1])


def _model_numbers(names: Iterable[str]) -> np.ndarray:
    names = list(names)
    unknown = [name for name in names if name not in SAMPLE_MODELS.index]
    if unknown:
        raise ParameterError(
            f"not a simulated model: {listed(unknown)}; nearest: {nearest(str(unknown[0]), SAMPLE_MODELS.index)}"
        )
    return SAMPLE_MODELS.index.get_indexer(pd.Index(names))


def _text(words: Iterable[str], numbers: np.ndarray) -> pd.Series:
    return pd.Series(list(words), dtype="str").take(numbers).reset_index(drop=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
