"""Best-fit-decreasing packing with two budgets: slots of a row, and audio chunks of a row."""

import numpy as np
from jaxtyping import Int

# Rows with enough of the scarce budget but too little of the other are passed over; this bounds how many.
_MAX_LOOKS = 64


def pack(
    lengths: Int[np.ndarray, "n"], chunks: Int[np.ndarray, "n"], slots: int, max_chunks: int
) -> list[list[int]]:
    """Packs examples into rows; returns the example numbers of each row.

    The largest example goes first, by the larger of its two shares, into the fullest row that still holds it;
    fullest by the budget that is scarcer over all examples. Deterministic: ties keep the order of examples.

    Args:
        lengths, chunks: what each example takes, at most `slots` and `max_chunks`.
    """
    slot_share, chunk_share = lengths / slots, chunks / max(1, max_chunks)
    order = np.lexsort((np.arange(len(lengths)), -lengths, -np.maximum(slot_share, chunk_share)))
    scarce, plenty = (lengths, slots), (chunks, max_chunks)
    if chunk_share.sum() > slot_share.sum():
        scarce, plenty = plenty, scarce
    rows = _OpenRows(scarce[1], plenty[1])
    for example, first, second in zip(
        order.tolist(), scarce[0][order].tolist(), plenty[0][order].tolist(), strict=True
    ):
        rows.place(example, first, second)
    return rows.rows


class _OpenRows:
    """Rows by what they have left of the scarce budget, with a bitmap of the numbers that occur.

    The best fit is then the lowest set bit above an example's need.
    """

    def __init__(self, scarce: int, plenty: int):
        self.rows: list[list[int]] = []
        self._scarce, self._plenty = scarce, plenty
        self._plenty_left: list[int] = []
        self._by_left: list[list[int]] = [[] for _ in range(scarce + 1)]
        self._occupied = 0  # bit n is set while some row has n of the scarce budget left

    def place(self, example: int, scarce: int, plenty: int) -> None:
        row, left = self._take(scarce, plenty)
        self.rows[row].append(example)
        self._plenty_left[row] -= plenty
        left -= scarce
        self._by_left[left].append(row)
        self._occupied |= 1 << left

    def _take(self, scarce: int, plenty: int) -> tuple[int, int]:
        """Removes the best row from the open ones, or makes a new one; returns it and what it has left."""
        left, looks, fitting = scarce, 0, self._occupied >> scarce
        while fitting and looks < _MAX_LOOKS:
            skip = (fitting & -fitting).bit_length() - 1
            left += skip
            for place, row in enumerate(self._by_left[left]):
                if self._plenty_left[row] >= plenty:
                    return self._remove(place, left), left
                looks += 1
            fitting >>= skip + 1
            left += 1
        self.rows.append([])
        self._plenty_left.append(self._plenty)
        return len(self.rows) - 1, self._scarce

    def _remove(self, place: int, left: int) -> int:
        row = self._by_left[left].pop(place)
        if not self._by_left[left]:
            self._occupied &= ~(1 << left)
        return row
