"""What a runner says while it works: bars for people, one line per finished notebook for everything else."""

import sys
import time
from typing import Any

from routellm_lab.settings import settings


class Progress:
    """Bars for people; one line per finished notebook for everything else."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.people = sys.stderr.isatty() and settings().progress
        self.bars: dict[str, Any] = {}
        self.began: dict[str, float] = {}

    def started(self, name: str) -> None:
        self.began[name] = time.monotonic()
        if self.people:
            from tqdm.auto import tqdm

            self.bars[name] = tqdm(total=None, desc=name, unit="cell", leave=False)

    def cells(self, name: str, done: int, cells: int) -> None:
        if name in self.bars:
            self.bars[name].total = cells
            self.bars[name].n = done
            self.bars[name].refresh()

    def finished(self, name: str, words: str) -> None:
        self.count += 1
        if name in self.bars:
            self.bars.pop(name).close()
        self.say(f"[{self.count}/{self.total}] {name}: {words}")

    def say(self, line: str) -> None:
        if self.bars:
            from tqdm.auto import tqdm

            tqdm.write(line, file=sys.stdout)
        else:
            print(line, flush=True)

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()
