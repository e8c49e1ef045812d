"""An old path of `routellm_lab.judging.agreement`."""

from routellm_lab._moved import moved

__getattr__ = moved(__name__, {"judging.agreement": "*"})
