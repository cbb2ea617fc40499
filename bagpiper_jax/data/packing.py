"""Packing examples into rows that have two budgets each, slots and audio chunks: best fit decreasing, sped up.

A row takes a handful of examples, and only the last of them decide how full it gets. So the largest examples are dealt
in whole rounds first, one to each row, the largest to the emptiest; best fit places the rest one by one. Where that
needs more rows than it should, because both budgets are tight, best fit places everything from the start.
"""

import bisect

import numpy as np
from jaxtyping import Int

_DEALT = 0.8  # share of all slots whose examples are dealt in rounds
_GOOD = 0.996  # if dealing fills a smaller share of the rows than this, best fit is tried on everything too
_MAX_LOOKS = (
    16  # rows that an example tries before it gives up: they have the scarce budget, but lack the other
)
_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1
_NONE = 1 << 80


def pack(
    lengths: Int[np.ndarray, "n"], chunks: Int[np.ndarray, "n"], slots: int, max_chunks: int
) -> Int[np.ndarray, "n"]:
    """Packs examples into rows; returns the row number of each example. Deterministic, and no row is empty.

    Args:
        lengths, chunks: what each example takes, at most `slots` and `max_chunks`.
    """
    if not len(lengths):
        return np.zeros(0, np.int64)
    needs, budgets = np.stack([lengths, chunks]).astype(np.int64), (slots, max_chunks)
    shares = needs / np.maximum(1, [[slots], [max_chunks]])
    order = np.lexsort((-needs[0], -shares.max(axis=0)))
    fewest = shares.sum(axis=1).max()
    dealt = _Rows(budgets, shares, int(np.ceil(fewest)))
    found = dealt.best_fit(dealt.deal(order, needs, _DEALT), needs)
    if fewest >= _GOOD * (found.max() + 1):
        return found
    fitted = _Rows(budgets, shares, 0).best_fit(order, needs)
    return fitted if fitted.max() < found.max() else found


class _Rows:
    """Rows and what they have left of both budgets; the scarcer one over all examples is searched exactly."""

    def __init__(self, budgets: tuple[int, int], shares: np.ndarray, rows: int):
        self._budgets = np.asarray(budgets)[:, None]
        self._left = np.repeat(self._budgets, rows, axis=1)
        self._scarce = int(shares[1].sum() > shares[0].sum())
        self._row_of = np.full(shares.shape[1], -1, np.int64)

    def deal(self, order: np.ndarray, needs: np.ndarray, share: float) -> np.ndarray:
        """Deals the first examples of `order`, in rounds; returns those that are still without a row, in order."""
        filled = np.cumsum(needs[0, order])
        rows, stop = self._left.shape[1], int(np.searchsorted(filled, share * filled[-1]))
        for begin in range(0, stop, rows):
            examples = order[begin : min(begin + rows, stop)]
            free = np.where(self._budgets > 0, self._left / np.maximum(1, self._budgets), 1.0).min(axis=0)
            chosen = np.argsort(-free, kind="stable")[: len(examples)]
            fits = (self._left[:, chosen] >= needs[:, examples]).all(axis=0)
            self._row_of[examples[fits]] = chosen[fits]
            self._left[:, chosen[fits]] -= needs[:, examples[fits]]
        return order[self._row_of[order] < 0]

    def best_fit(self, examples: np.ndarray, needs: np.ndarray) -> np.ndarray:
        """Places each example into the fullest row that still holds it, or a new one; returns all row numbers."""
        scarce, plenty = self._scarce, 1 - self._scarce
        most = int(needs[plenty, examples].max(initial=0))
        open_rows = _OpenRows(self._left[scarce].tolist(), self._left[plenty].tolist(), most)
        fresh = int(self._budgets[scarce, 0]), int(self._budgets[plenty, 0])
        wanted = zip(needs[scarce, examples].tolist(), needs[plenty, examples].tolist(), strict=True)
        self._row_of[examples] = [open_rows.place(a, b, fresh) for a, b in wanted]
        # A row that was opened for a round but met no example would be empty.
        return np.unique(self._row_of, return_inverse=True)[1]


class _OpenRows:
    """Rows by what they have left of both budgets.

    Of the scarce budget exactly: sorted, so that the best fit is found by bisection. Of the plentiful one by power
    of two: one sorted list per class, where a row of a higher class than the need surely fits and only rows of the
    same class are looked at one by one.

    Args:
        scarce_left, plenty_left: of the rows that are open already.
        most: largest need of the plentiful budget; rows that have more left are all of one class.
    """

    def __init__(self, scarce_left: list[int], plenty_left: list[int], most: int):
        self._plenty_left = plenty_left
        # Class → what is left of the scarce budget and the row, as one number each.
        self._classes: list[list[int]] = [[] for _ in range(most.bit_length() + 2)]
        for row, left in enumerate(scarce_left):
            self._class_of(row).append(left << _ROW_BITS | row)
        for rows in self._classes:
            rows.sort()

    def place(self, scarce: int, plenty: int, fresh: tuple[int, int]) -> int:
        """The best row for these needs, which it then has less of; a fresh one where none fits."""
        need, lowest = scarce << _ROW_BITS, plenty.bit_length()
        best, best_rows, best_place = _NONE, [], 0
        for rows in self._classes[lowest:]:
            place = bisect.bisect_left(rows, need)
            if plenty and rows is self._classes[lowest]:
                place = self._look(rows, place, plenty)
            if place < len(rows) and rows[place] < best:
                best, best_rows, best_place = rows[place], rows, place
        if best == _NONE:
            best = fresh[0] << _ROW_BITS | len(self._plenty_left)
            self._plenty_left.append(fresh[1])
        else:
            del best_rows[best_place]
        row = best & _ROW_MASK
        self._plenty_left[row] -= plenty
        bisect.insort(self._class_of(row), best - need)
        return row

    def _look(self, rows: list[int], place: int, plenty: int) -> int:
        """The first place from `place` on whose row has enough of the plentiful budget, or the end."""
        for at in range(place, min(place + _MAX_LOOKS, len(rows))):
            if self._plenty_left[rows[at] & _ROW_MASK] >= plenty:
                return at
        return len(rows)

    def _class_of(self, row: int) -> list[int]:
        return self._classes[min(self._plenty_left[row].bit_length(), len(self._classes) - 1)]
