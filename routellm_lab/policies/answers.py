"""An old path of `routellm_lab.costs.answer_log`."""

from routellm_lab._moved import moved

__getattr__ = moved(__name__, {"costs.answer_log": "*"})
