"""An old path of `routellm_lab.costs.prices`."""

from routellm_lab._moved import moved

__getattr__ = moved(__name__, {"costs.prices": "*"})
