"""The notebooks as a pipeline: run, resume, manifest, report. Names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    "Session": "session",
    "start": "session",
    "RunResult": "runner",
    "run_workbook": "runner",
    "discover": "notebooks",
    "build_report": "report",
    "train_routers": "trained",
    "trained_routers": "trained",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from routellm_lab.workbook.notebooks import discover
    from routellm_lab.workbook.report import build_report
    from routellm_lab.workbook.runner import RunResult, run_workbook
    from routellm_lab.workbook.session import Session, start
    from routellm_lab.workbook.trained import train_routers, trained_routers


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
