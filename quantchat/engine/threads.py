"""How many threads a decode step on the CPU uses: all cores, or fewer while others need them.

OpenMP threads wait for each other by spinning. Beside one busy neighbour two threads on two cores
were seen to be ten times slower than alone, one thread not at all; so the number follows measured
step times. Policy only: the caller times its steps and sets the threads.
"""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW = 5
"""Steps whose median counts as the speed now."""
SLOW = 1.4
"""Slower than the best by this factor: try the next lower number."""
GAIN = 0.9
"""Another number is taken where its steps need less than this share of the time."""
TRIAL_STEPS = 3
FIRST_PAUSE = 32
LONGEST_PAUSE = 1024
"""Steps between two trials of another number; doubles with each that gained nothing."""


class ThreadGovernor:
    """Chooses among a few thread counts from the times of the steps themselves."""

    def __init__(self, most: int) -> None:
        self.options = tuple(sorted({most, max(1, most - 1), max(1, most // 2)}, reverse=True))
        self._current = 0
        self._best_s: list[float] = [float("inf")] * len(self.options)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._trial: int | None = None
        self._trial_s: list[float] = []
        self._pause = FIRST_PAUSE
        self._since_trial = 0

    @property
    def threads(self) -> int:
        """The number for the next step."""
        return self.options[self._current if self._trial is None else self._trial]

    def took(self, seconds: float) -> None:
        """A step took so long with `threads` threads."""
        if self._trial is not None:
            self._tried(seconds)
            return
        self._recent.append(seconds)
        self._since_trial += 1
        if len(self._recent) < WINDOW or len(self.options) == 1:
            return
        now_s = median(self._recent)
        self._best_s[self._current] = min(self._best_s[self._current], now_s)
        slow = now_s > SLOW * self._best_s[self._current]
        if slow and self._current + 1 < len(self.options) and self._since_trial >= WINDOW:
            self._try(self._current + 1)
        elif self._current > 0 and self._since_trial >= self._pause:
            self._try(self._current - 1)

    def _try(self, option: int) -> None:
        self._trial = option
        self._trial_s = []

    def _tried(self, seconds: float) -> None:
        assert self._trial is not None
        self._trial_s.append(seconds)
        now_s = median(self._recent)
        if len(self._trial_s) < TRIAL_STEPS and seconds <= SLOW * now_s:
            return
        if median(self._trial_s) < GAIN * now_s:
            self._current = self._trial
            self._recent.clear()
            self._pause = FIRST_PAUSE
        else:
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            # What is slow with fewer threads too is the new normal: a longer context, say.
            self._best_s[self._current] = now_s
        self._trial = None
        self._since_trial = 0
