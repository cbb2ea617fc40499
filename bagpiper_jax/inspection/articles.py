"""Parts of the page: a row as a map of its slots, and an example with all that is said, heard and generated."""

import itertools
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from bagpiper_jax import audio
from bagpiper_jax.audio import CHUNK_FRAMES, AudioError
from bagpiper_jax.evaluation.pictures import data_uri, player
from bagpiper_jax.inspection import strips
from bagpiper_jax.inspection.shown import Said, Shown, ShownRow
from bagpiper_jax.inspection.sound import Decode
from bagpiper_jax.vocabulary import Vocabulary

_LONGEST_HEARD = 600.0  # seconds of a corpus's file that a page may carry
_COLOURS = 8  # in report.css
_SHARP = 1000  # fewer slots than a page has pixels: no smoothing


def legend() -> str:
    """What the colours of slots mean."""
    names = {
        "frame": "bos, role, modality, end",
        "system": "system text",
        "user": "user text",
        "assistant": "assistant text",
        "heard": "audio features",
        "pad": "codec pad",
    }
    keys = "".join(
        f'<span class="swatch" style="--key:rgb{strips.KINDS[name]}">{escape(label)}</span>'
        for name, label in names.items()
    )
    return f'<p class="legend">{keys}<span class="swatch codes">codes</span></p>'


def row_map(row: ShownRow, vocabulary: Vocabulary, anchor: str = "e") -> str:
    """A whole row at a glance: its examples as links, then streams and weights of every slot."""
    slots = row.slots[1]
    ends = list(itertools.accumulate(map(len, row.examples)))
    links = "".join(
        f'<a href="#{anchor}{number}"><rect class="c{number % _COLOURS}" x="{end - len(example)}" '
        f'width="{len(example)}" height="10"><title>{number + 1}: {escape(example.task)} record {example.index}, '
        f"{len(example)} slots</title></rect></a>"
        for number, (example, end) in enumerate(zip(row.examples, ends, strict=True))
    )
    heard = row.batch.audio_slot[0] >= 0
    lanes = [
        ("segments", f'<svg viewBox="0 0 {slots} 10" preserveAspectRatio="none" class="lane">{links}</svg>'),
        *_slot_lanes(row.batch.tokens[0], heard, row.batch.loss_weights[0], vocabulary),
        ("chunks", _chunk_lane(row)),
    ]
    return _map(lanes, sharp=slots < _SHARP)


def _map(lanes: Sequence[tuple[str, str]], sharp: bool, style: str = "") -> str:
    """Named lanes on one axis."""
    inside = "".join(f"<span>{name}</span>{lane}" for name, lane in lanes)
    return f'<div class="map{" sharp" if sharp else ""}"{style}>{inside}</div>'


def _slot_lanes(tokens, heard, weights, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Streams and weights; of dialogues without codes stream 0 alone."""
    one = not tokens[:, 1:].any()
    if one:
        tokens, weights = tokens[:, :1], weights[:, :1]
    return [
        ("streams", _strip(strips.streams_picture(tokens, heard, vocabulary), "Streams", one)),
        ("weights", _strip(strips.weights_picture(weights), "Loss weights", one)),
    ]


def _chunk_lane(row: ShownRow) -> str:
    """Audio chunks of the row by clip, each as wide as its share of the row's budget."""
    used, most = row.chunks
    clips = row.batch.chunk_clip[0, :used]
    rects = "".join(
        f'<rect class="c{(int(clip) - 1) % _COLOURS}" x="{chunk + 0.05}" width="0.9" height="10">'
        f"<title>chunk {chunk + 1}: clip {clip}, {frames} mel frames</title></rect>"
        for chunk, (clip, frames) in enumerate(zip(clips, row.batch.chunk_frames[0, :used], strict=True))
    )
    return f'<svg viewBox="0 0 {max(1, most)} 10" preserveAspectRatio="none" class="lane thin">{rects}</svg>'


def _strip(picture: bytes, label: str, one: bool) -> str:
    name, source = escape(label, quote=True), data_uri(picture, "image/png")
    return f'<img class="strip{" one" if one else ""}" src="{source}" alt="{name}">'


def example_article(
    example: Shown, number: int, vocabulary: Vocabulary, decode: Decode | None, anchor: str = "e"
) -> str:
    """An example: its messages with pictures and sound, and its slots."""
    where = f"record {example.index}, epoch {example.epoch}{example.which}, {len(example)} slots"
    where += f", {example.targets} with loss"
    dropped = ", condition dropped" if example.is_dropped else ""
    head = (
        f'<h3><i class="dot c{number % _COLOURS}"></i>{number + 1} · {escape(example.task)} '
        f"<small>{escape(example.id or '(no id)')} · {where}{dropped}</small></h3>"
    )
    if example.fault:
        body = f'<p class="fault">Damaged, its slots are empty: {escape(example.fault)}</p>'
    else:
        body = _dialogue(example, vocabulary, decode) + _slots(example, vocabulary)
    return f'<article id="{anchor}{number}">{head}{body}</article>'


def _dialogue(example: Shown, vocabulary: Vocabulary, decode: Decode | None) -> str:
    mels = iter(example.mels)
    codes = [m.codes for m in example.messages if m.codes is not None]
    waves = iter(decode(codes) if decode and codes else [])
    items = []
    for message in example.messages:
        mel = next(mels, None) if message.samples is not None and not message.dropped else None
        wave = next(waves, None) if message.codes is not None else None
        items.append(_message(message, mel, wave, vocabulary))
    return f'<div class="dialogue">{"".join(items)}</div>'


def _message(message: Said, mel, wave, vocabulary: Vocabulary) -> str:
    notes = [f"weight {message.weight:g}"] if message.weight != 1 else []
    notes += ["dropped"] if message.dropped else []
    note = f"<small>{', '.join(notes)}</small>" if notes else ""
    if message.text is not None:
        content = f"<p>{escape(message.text)}</p>"
    elif message.codes is not None:
        content = _codes(message.codes, wave, vocabulary)
    else:
        content = _heard(message.samples, mel)
    faded = " faded" if message.dropped else ""
    return (
        f'<div class="said {message.role}{faded}"><b>{message.role} <span>{message.modality}</span>{note}</b>'
        f"<div>{content}</div></div>"
    )


def _heard(samples: np.ndarray, mel: np.ndarray | None) -> str:
    """A clip as the audio tower gets it and as it sounds."""
    seconds = f"{len(samples) / 16_000:.2f} s"
    features = ""
    if mel is not None:
        chunks = f'<i class="chunks" style="--chunk:{100 * CHUNK_FRAMES / len(mel):.4f}%"></i>'
        caption = f"mel features, {len(mel)} frames in {-(-len(mel) // CHUNK_FRAMES)} chunks"
        features = _picture(strips.mel_picture(mel), caption, chunks)
    return f'<div class="players">{features}{_sound(samples, f"the clip, 0 to 8 kHz, {seconds}")}</div>'


def _codes(codes: np.ndarray, wave: np.ndarray | None, vocabulary: Vocabulary) -> str:
    caption = f"codes, {len(codes)} frames of {codes.shape[1]} streams"
    picture = _picture(strips.codes_picture(codes, vocabulary.codebook_size), caption)
    heard = "" if wave is None else _sound(wave, f"decoded by the codec, {len(wave) / 16_000:.2f} s")
    return f'<div class="players codes">{picture}{heard}</div>'


def _picture(picture: bytes, caption: str, overlay: str = "") -> str:
    name = escape(caption, quote=True)
    return (
        f'<figure><div class="pixels"><img src="{data_uri(picture, "image/png")}" alt="{name}">{overlay}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _sound(samples: np.ndarray, caption: str) -> str:
    picture = data_uri(strips.spectrogram(samples), "image/png")
    return (
        f'<figure><div class="pixels"><img src="{picture}" alt="Spectrogram: {escape(caption, quote=True)}"></div>'
        f"{player(samples, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
    )


def sound(path: Path) -> str:
    """An audio file of a corpus, or why it cannot be read."""
    try:
        samples = audio.read(path, max_seconds=_LONGEST_HEARD)
    except AudioError as error:
        return f'<p class="fault">{escape(str(error))}</p>'
    return f'<div class="players">{_sound(samples, f"{path.name}, {len(samples) / 16_000:.2f} s")}</div>'


def _slots(example: Shown, vocabulary: Vocabulary) -> str:
    """Messages, streams and weights over the example's slots, on one axis."""
    weights = example.loss_weights
    lanes = [
        ("messages", _message_lane(example)),
        *_slot_lanes(example.tokens, _heard_slots(example), weights, vocabulary),
    ]
    values = ", ".join(f"{w:g}" for w in np.unique(weights[weights > 0]))
    chart = _map(lanes, sharp=True, style=f' style="--slots:{len(example)}"')
    return (
        f'<div class="scroll">{chart}</div>'
        f"<small>slots left to right, stream 0 on top; loss weights: {values or 'none'}</small>"
    )


def _heard_slots(example: Shown) -> np.ndarray:
    heard = np.zeros(len(example), bool)
    for message in example.messages:
        if message.samples is not None and not message.dropped:
            heard[message.span[0] + 2 : message.span[1] - 1] = True
    return heard


def _message_lane(example: Shown) -> str:
    rects = "".join(
        f'<rect class="{m.role}{" faded" if m.dropped else ""}" x="{m.span[0]}" width="{m.span[1] - m.span[0]}" '
        f'height="10"><title>{m.role} {m.modality}: slots {m.span[0]} to {m.span[1] - 1}</title></rect>'
        for m in example.messages
    )
    return f'<svg viewBox="0 0 {len(example)} 10" preserveAspectRatio="none" class="lane">{rects}</svg>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of plain text; the first column names the rows. Kind "words" aligns all columns to the left."""
    heads = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    inside = f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
    return f'<div class=scroll><table class="facts {kind}">{inside}</table></div>'


def tiles(facts: Sequence[tuple[str, str, bool]]) -> str:
    """(number, what it counts, whether it is good) in large."""
    made = "".join(
        f'<div class="tile{" good" if good else ""}"><b>{escape(number)}</b><span>{escape(name)}</span></div>'
        for number, name, good in facts
    )
    return f'<section class="tiles">{made}</section>'
