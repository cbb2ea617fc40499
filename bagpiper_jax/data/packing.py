"""Best-fit-decreasing packing with two budgets: slots of a row, and audio chunks of a row."""

import numpy as np
from jaxtyping import Int

# Rows that turn out to have too little of the plentiful budget; this bounds how many an example looks at.
_MAX_LOOKS = 16


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
    """Rows by what they have left of both budgets.

    Of the scarce budget exactly: a bitmap holds which numbers occur, so the best fit is the lowest set bit above
    an example's need. Of the plentiful one by power of two: one bitmap per class, where a row of a higher class
    than the need surely fits and only rows of the same class are looked at one by one.
    """

    def __init__(self, scarce: int, plenty: int):
        self.rows: list[list[int]] = []
        self._scarce, self._plenty = scarce, plenty
        self._plenty_left: list[int] = []
        classes = plenty.bit_length() + 1
        self._members: list[dict[int, list[int]]] = [{} for _ in range(classes)]  # class → scarce left → rows
        self._occupied = [0] * classes  # bit n is set while some row of the class has n left

    def place(self, example: int, scarce: int, plenty: int) -> None:
        row, left = self._take(scarce, plenty)
        self.rows[row].append(example)
        self._plenty_left[row] -= plenty
        left -= scarce
        kind = self._plenty_left[row].bit_length()
        self._members[kind].setdefault(left, []).append(row)
        self._occupied[kind] |= 1 << left

    def _take(self, scarce: int, plenty: int) -> tuple[int, int]:
        """Removes the best row from the open ones, or makes a new one; returns it and what it has left."""
        best_left, best_kind, best_place = self._scarce + 1, -1, 0
        for kind in range(plenty.bit_length(), len(self._occupied)):
            fitting = self._occupied[kind] >> scarce
            if not fitting:
                continue
            if plenty <= (1 << kind) >> 1 or not plenty:
                left, place = scarce + _lowest_bit(fitting), -1
            else:
                left, place = self._look(kind, scarce, fitting, plenty)
            if left < best_left:
                best_left, best_kind, best_place = left, kind, place
        if best_kind < 0:
            self.rows.append([])
            self._plenty_left.append(self._plenty)
            return len(self.rows) - 1, self._scarce
        return self._remove(best_kind, best_left, best_place), best_left

    def _look(self, kind: int, left: int, fitting: int, plenty: int) -> tuple[int, int]:
        """The best row of a class whose rows may or may not have enough; what it has left, and its place."""
        looks = 0
        while fitting and looks < _MAX_LOOKS:
            skip = _lowest_bit(fitting)
            left += skip
            for place, row in enumerate(self._members[kind][left]):
                if self._plenty_left[row] >= plenty:
                    return left, place
                looks += 1
            fitting >>= skip + 1
            left += 1
        return self._scarce + 1, 0

    def _remove(self, kind: int, left: int, place: int) -> int:
        rows = self._members[kind][left]
        row = rows.pop(place)
        if not rows:
            self._occupied[kind] &= ~(1 << left)
        return row


def _lowest_bit(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
