"""What the paper printed: its tables, as data."""

from routellm_lab.paper.tables import PAPER_SOURCE, paper_other_tables, paper_results, paper_value

__all__ = [
    "PAPER_SOURCE",
    "paper_other_tables",
    "paper_results",
    "paper_value",
]
