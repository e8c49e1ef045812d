"""The notebooks as a pipeline: run, resume, manifest, report. Names load on first use."""

from typing import TYPE_CHECKING

from routellm_lab._moved import moved

_HOMES = {
    "workbook.session": ("Session", "start"),
    "workbook.runner": ("RunResult", "run_workbook"),
    "workbook.notebooks": ("discover",),
    "workbook.report": ("build_report",),
    "workbook.tables": ("show_table",),
    "workbook.trained": ("three_classes_changes", "train_routers", "trained_routers"),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)
__getattr__ = moved(__name__, _HOMES)

if TYPE_CHECKING:
    from routellm_lab.workbook.notebooks import discover
    from routellm_lab.workbook.report import build_report
    from routellm_lab.workbook.runner import RunResult, run_workbook
    from routellm_lab.workbook.session import Session, start
    from routellm_lab.workbook.tables import show_table
    from routellm_lab.workbook.trained import three_classes_changes, train_routers, trained_routers
