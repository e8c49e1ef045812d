"""What a token costs, model by model: dated list prices, in which every row keeps its source.

The package's own ``prices.csv`` has the models of the data folders that the price map of LiteLLM 1.110.2 (MIT licence)
knows under the same name, and the simulated models of the sample, which cost more the stronger they are. Where several
hosts sell a model, the row is its developer's own; else the cheapest host's, by the sum of both prices. ``source``
names the entry of the map, and so the host; ``as_of`` is the day that release was built. Left out are names that by
then stood for a newer model at another price (``command-r``, ``command-r-plus``, ``mistral-medium``), and
``mistral-7b-instruct-v0.1``, whose only entry is many times what other models of its size cost. A price does not say
that a model is still sold: the map goes on listing retired ones, such as ``gpt-4-1106-preview``.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, astuple, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.columns import require_columns
from routellm_lab.errors import LARGEST, DataError, ParameterError, listed, nearest
from routellm_lab.files import data_folder
from routellm_lab.paper import PAPER_SOURCE, paper_other_tables
from routellm_lab.settings import settings
from routellm_lab.tables import read_table

COLUMNS = ("model", "input_usd_per_mtok", "output_usd_per_mtok", "as_of", "source")
"""Of a table of prices."""

_OWN = Path(__file__).with_name("prices.csv")
_PER_TOKEN = ("input_cost_per_token", "output_cost_per_token")
_DEVELOPERS = frozenset(
    "ai21 anthropic cohere cohere_chat deepseek gemini meta_llama minimax mistral moonshot openai "
    "text-completion-openai xai zai".split()
)
# its public endpoints closed on 2024-08-01 (docs.anyscale.com); LiteLLM still lists what they cost
_CLOSED = frozenset(["anyscale"])


@dataclass(frozen=True)
class Price:
    """What a model costs.

    Attributes
    ----------
    model : str
    input, output : float
        USD per million tokens of the prompt and of the answer, above 0.
    as_of : str
        The day (ISO 8601) the price is known for; empty where it is not known.
    source : str
    """

    model: str
    input: float
    output: float
    as_of: str
    source: str


@dataclass(frozen=True, repr=False)
class Prices:
    """Prices of models, checked: ``prices["gpt-4"].input``. Iterates over the models' names, in alphabetical order.

    Parameters
    ----------
    table : DataFrame
        One row per model: ``model``, ``input_usd_per_mtok`` and ``output_usd_per_mtok`` (USD per million tokens, above
        0), ``as_of`` (ISO date, or empty), ``source``. More columns do no harm. A model may have several rows of
        equal prices, of which the first counts.
    where : str
        Names the table in errors.

    Raises
    ------
    DataError
        Names the table, row (counted from 1) and column: of a missing column, a model without a name, a price that is
        not a number above 0, a date that is none, or a model with two different prices.
    """

    table: InitVar[pd.DataFrame]
    where: InitVar[str] = "prices"
    _by_model: dict[str, Price] = field(init=False)

    def __post_init__(self, table: pd.DataFrame, where: str) -> None:
        object.__setattr__(self, "_by_model", _checked(table, where))

    def __repr__(self) -> str:
        return f"Prices({len(self)} models)"

    def __len__(self) -> int:
        return len(self._by_model)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_model)

    def __contains__(self, model: object) -> bool:
        return model in self._by_model

    def __getitem__(self, model: str) -> Price:
        """The price of a model.

        Raises
        ------
        ParameterError
            When it is not known; names the nearest known models.
        """
        if not isinstance(model, str) or model not in self._by_model:
            raise ParameterError(
                f"no price for model {model!r}; nearest: {nearest(model, self)}. To add one: load_prices(path=...) "
                f"with a csv of the columns {listed(COLUMNS[:3])}"
            )
        return self._by_model[model]

    def to_frame(self) -> pd.DataFrame:
        """The table again: one row per model, in alphabetical order, with the columns of `COLUMNS`."""
        return pd.DataFrame([astuple(price) for price in self._by_model.values()], columns=list(COLUMNS))


def load_prices(data: str | Path | None = None, path: str | Path | None = None) -> Prices:
    """The package's own prices; over them those of the data folder; over them those of a file of yours.

    Parameters
    ----------
    data : str or Path, optional
        ``sample``, ``hub`` or a folder, which may hold a ``prices.csv``; by default what ``ROUTELLM_LAB_DATA`` says,
        else ``sample``.
    path : str or Path, optional
        A csv with the columns ``model``, ``input_usd_per_mtok``, ``output_usd_per_mtok`` (USD per million tokens) and,
        if you like, ``as_of`` and ``source`` (else unknown, and the name of the file). Or a price map of LiteLLM, any
        ``model_prices_and_context_window*.json``: a model is then what follows the last ``/`` of an entry's name, in
        lower case, at its developer's own price, else at the cheapest host's. Entries that lack a price per token, or
        have one of 0 (free tiers, models run at home), are skipped, and so are hosts known to have closed.

    Returns
    -------
    Prices
        Model by model the last of the three that knows it; every row with its own date and source.

    Raises
    ------
    DataError
        When a file is missing, neither csv nor json, unreadable, or breaks the contract of `Prices`; names the file,
        row and column, or the entry.
    ParameterError
        When the data folder does not exist.
    """
    root = str(settings().data if data is None else data)
    files = [_OWN]
    if root not in ("sample", "hub"):
        folder = data_folder(root)
        files += [folder / "prices.csv"] if (folder / "prices.csv").is_file() else []
    if path is not None:
        files.append(Path(path).expanduser())
    layers = [Prices(_read(file), where=str(file)).to_frame() for file in files]
    return Prices(pd.concat(layers).drop_duplicates("model", keep="last"))


def price_lists(data: str | Path | None, models: Iterable[str]) -> dict[str, Prices]:
    """The price lists to compare results in dollars with: that of the data, the package's own, the paper's.

    Parameters
    ----------
    data : str or path, optional
        A data root. Simulated models have one list only.
    models : iterable of str
        Lists that lack one of them, or have the same prices for all as an earlier list, are left out; never the first.

    Returns
    -------
    dict of str to Prices
        ``list prices`` (of the data root), ``package's own``, ``paper's``.

    Raises
    ------
    DataError
        As `load_prices`.

    Examples
    --------
    >>> list(price_lists("sample", ["sim-granite", "sim-pebble"]))
    ['list prices']
    """
    names, lists = list(models), {"list prices": load_prices(data)}
    if str(data) == "sample":
        return lists
    for name, prices in {"package's own": load_prices("hub"), "paper's": paper_prices()}.items():
        if all(model in prices for model in names):
            amounts = _amounts(prices, names)
            if all(amounts != _amounts(earlier, names) for earlier in lists.values()):
                lists[name] = prices
    return lists


def _amounts(prices: Prices, models: Iterable[str]) -> list[tuple[float, float] | None]:
    return [(prices[model].input, prices[model].output) if model in prices else None for model in models]


def paper_prices() -> Prices:
    """The paper's two prices, for its pair: one per model, input and output blended, USD per million tokens."""
    table = paper_other_tables().query("table == '6 prices' and column == 'blended'")
    blended = table["value"].to_numpy()
    rows = {"model": table["row"], "input_usd_per_mtok": blended, "output_usd_per_mtok": blended}
    return Prices(pd.DataFrame(rows).assign(as_of="", source=f"{PAPER_SOURCE}, table 6"), where="paper_prices")


def _checked(table: pd.DataFrame, where: str) -> dict[str, Price]:
    require_columns(table, (), where)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"{where}: no column {listed(missing)}; a table of prices has {listed(COLUMNS)}")
    found: dict[str, tuple[int, Price]] = {}
    for row, cells in enumerate(table[list(COLUMNS)].itertuples(index=False, name=None), start=1):
        model, prices, day, source = cells[0], cells[1:3], cells[3], cells[4]
        if not isinstance(model, str) or not model.strip():
            raise DataError(f"{where}: row {row}, column model: must be a model's name, got {model!r}")
        at = f"{where}: row {row} ({model}), column"
        input_price, output_price = (
            _amount(cell, f"{at} {column}", "USD per million tokens")
            for column, cell in zip(COLUMNS[1:3], prices, strict=True)
        )
        as_of = _day(day, f"{at} as_of")
        price = Price(model, input_price, output_price, as_of, "" if _is_missing(source) else str(source))
        first, known = found.setdefault(model, (row, price))
        if (known.input, known.output) != (price.input, price.output):
            raise DataError(
                f"{where}: rows {first} and {row} have different prices for {model!r}, columns {listed(COLUMNS[1:3])}; "
                "keep one of them"
            )
    return {model: found[model][1] for model in sorted(found)}


def _amount(cell: Any, where: str, unit: str) -> float:
    try:
        amount = math.nan if isinstance(cell, bool) else float(cell)
    except (OverflowError, TypeError, ValueError):
        amount = math.nan
    if not 0 < amount <= LARGEST:
        raise DataError(f"{where}: must be a number above 0 ({unit}), got {cell!r}")
    return amount


def _is_missing(cell: Any) -> bool:
    return pd.api.types.is_scalar(cell) and bool(pd.isna(cell))


def _day(cell: Any, where: str) -> str:
    day = "" if _is_missing(cell) else str(cell)
    if day:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise DataError(f"{where}: must be a date such as 2024-06-26, or empty, got {day!r}") from None
    return day


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".json":
        return _read_price_map(path)
    if path.suffix.lower() != ".csv":
        raise DataError(
            f"{path}: prices are read from a .csv with the columns {listed(COLUMNS)}, or from LiteLLM's price map "
            f"(.json), not from {path.suffix or 'a file without suffix'}"
        )
    table = read_table(path, text=COLUMNS)
    return table.assign(**{name: table.get(name, other) for name, other in (("as_of", ""), ("source", path.name))})


def _read_price_map(path: Path) -> pd.DataFrame:
    """The models of a LiteLLM price map, each at one host; see `load_prices`."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{path}: not JSON: {reason}") from error
    offers: dict[str, tuple] = {}
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        if not isinstance(entry, dict) or not all(entry.get(name) for name in _PER_TOKEN):
            continue
        provider = entry.get("litellm_provider")
        if provider in _CLOSED:
            continue
        # rounded: 6e-07 USD a token is 0.6 a million, not 0.6000000000000001
        prices = [
            round(_amount(entry[name], f"{path}: entry {key!r}, {name}", "USD per token") * 1e6, 9)
            for name in _PER_TOKEN
        ]
        offer = (provider not in _DEVELOPERS, sum(prices), key, *prices)
        model = key.rsplit("/", 1)[-1].lower()
        offers[model] = min(offers.get(model, offer), offer)
    if not offers:
        raise DataError(
            f"{path}: no entry has {listed(_PER_TOKEN)} above 0; is it LiteLLM's model_prices_and_context_window.json?"
        )
    rows = [(model, *prices, "", f"{path.name}, {key}") for model, (_, _, key, *prices) in offers.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))
