"""Packing with two budgets, slots of a row and audio chunks of a row: best fit decreasing, with a fast way in.

Rows need a handful of examples each, and only the last of them decide how full a row gets. So whole rounds of the
largest examples are dealt at once, one to a row, the largest to the emptiest, and best fit places what remains one
by one. Where that wastes rows, because both budgets are tight, best fit places everything.
"""

import numpy as np
from jaxtyping import Int

_DEALT = 0.8  # share of the slots that is dealt in rounds
_GOOD = 0.996  # what dealing must fill of the rows, or best fit tries alone
_MAX_LOOKS = 16  # rows of too little of the plentiful budget that an example looks at


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
        open_rows = _OpenRows(self._left[scarce].tolist(), self._left[plenty].tolist())
        fresh = int(self._budgets[scarce, 0]), int(self._budgets[plenty, 0])
        wanted = zip(needs[scarce, examples].tolist(), needs[plenty, examples].tolist(), strict=True)
        self._row_of[examples] = [open_rows.place(a, b, fresh) for a, b in wanted]
        # A row that was opened for a round but met no example would be empty.
        return np.unique(self._row_of, return_inverse=True)[1]


class _OpenRows:
    """Rows by what they have left of both budgets.

    Of the scarce budget exactly: a bitmap holds which numbers occur, so the best fit is the lowest set bit above
    an example's need. Of the plentiful one by power of two: one bitmap per class, where a row of a higher class
    than the need surely fits and only rows of the same class are looked at one by one.
    """

    def __init__(self, scarce_left: list[int], plenty_left: list[int]):
        self._plenty_left = plenty_left
        self._members: list[dict[int, list[int]]] = []  # class → scarce left → rows
        self._occupied: list[int] = []  # bit n is set while some row of the class has n left
        for row, left in enumerate(scarce_left):
            self._open(row, left)

    def place(self, scarce: int, plenty: int, fresh: tuple[int, int]) -> int:
        """The best row for these needs, which it then has less of; a fresh one where none fits."""
        lowest = plenty.bit_length()
        best_left, best_kind, best_place = -1, -1, -1
        for kind in range(lowest, len(self._occupied)):
            fitting = self._occupied[kind] >> scarce
            if not fitting:
                continue
            if kind > lowest or not plenty:
                left, place = scarce + (fitting & -fitting).bit_length() - 1, -1
            else:
                left, place = self._look(kind, scarce, fitting, plenty)
            if left >= 0 and (best_kind < 0 or left < best_left):
                best_left, best_kind, best_place = left, kind, place
        if best_kind < 0:
            row, best_left = len(self._plenty_left), fresh[0]
            self._plenty_left.append(fresh[1])
        else:
            row = self._close(best_kind, best_left, best_place)
        self._plenty_left[row] -= plenty
        self._open(row, best_left - scarce)
        return row

    def _look(self, kind: int, left: int, fitting: int, plenty: int) -> tuple[int, int]:
        """The best row of a class whose rows may or may not have enough: what it has left, or -1, and its place."""
        looks = 0
        while fitting and looks < _MAX_LOOKS:
            skip = (fitting & -fitting).bit_length() - 1
            left += skip
            for place, row in enumerate(self._members[kind][left]):
                if self._plenty_left[row] >= plenty:
                    return left, place
                looks += 1
            fitting >>= skip + 1
            left += 1
        return -1, -1

    def _open(self, row: int, left: int) -> None:
        kind = self._plenty_left[row].bit_length()
        while len(self._members) <= kind:
            self._members.append({})
            self._occupied.append(0)
        self._members[kind].setdefault(left, []).append(row)
        self._occupied[kind] |= 1 << left

    def _close(self, kind: int, left: int, place: int) -> int:
        rows = self._members[kind][left]
        row = rows.pop(place)
        if not rows:
            self._occupied[kind] &= ~(1 << left)
        return row
