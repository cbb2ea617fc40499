"""Tags that programs put before, behind and between the frames of MP3 and AAC files: ID3, APE, Lyrics3."""


def skipped(data: bytes, place: int) -> int:
    """The byte behind a tag that begins at `place`; `place` itself where none does."""
    head = data[place : place + 32]
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return place + 10 + size + (10 if head[5] & 16 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        header = 32 if head[23] & 0x20 else 0  # else it is the footer, at the end of a tag
        return place + 32 + (int.from_bytes(head[12:16], "little") if header else 0)
    if head[:4] == b"TAG+":
        return place + 227
    if head[:3] == b"TAG":
        return place + 128
    return place


def trimmed(data: bytes) -> int:
    """The byte at which the tags at the end of a file begin."""
    end = len(data)
    while True:
        begin = _begin_of_last(data, end)
        if begin == end:
            return end
        end = begin


def _begin_of_last(data: bytes, end: int) -> int:
    if data[max(0, end - 128) : end][:3] == b"TAG" and end >= 128:
        return end - 128
    footer = data[max(0, end - 32) : end]
    if footer[:8] == b"APETAGEX" and len(footer) == 32:
        size = int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
        return max(0, end - size)
    if data[max(0, end - 9) : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
        return max(0, end - 15 - int(data[end - 15 : end - 9]))
    return end
