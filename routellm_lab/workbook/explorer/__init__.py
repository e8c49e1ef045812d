"""The threshold explorer: a page to see what a threshold, or a budget, buys, at what price and on which questions."""

from routellm_lab.workbook.explorer.explorer import Explorer
from routellm_lab.workbook.explorer.points import MOST_SHOWN, MOST_TRAFFIC, POINT_COLUMNS, QUESTION_COLUMNS
