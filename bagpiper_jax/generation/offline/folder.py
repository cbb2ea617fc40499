"""The folder that many replies go to: what is in it is whole, and the same command adds what is missing."""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from bagpiper_jax import audio, files
from bagpiper_jax.corpora.assembly import Reject, listing
from bagpiper_jax.generation.replies import GeneratorError
from bagpiper_jax.journal import Journal
from bagpiper_jax.manifest import REJECTS

REPLIES = "replies.jsonl"
SETTINGS = "generate.json"
AUDIO = "audio"


@dataclasses.dataclass(frozen=True)
class Answered:
    """A line of `replies.jsonl`.

    Attributes:
        id: of the request.
        asked: a digest of what was asked.
        reasoning, text: what the model thought, and what it wrote besides.
        clip: the clip that was asked about, as the request names it, or None.
        audio: the path of the sound, relative to the folder, or None.
        seconds: of that sound.
        complete: nothing was cut at its longest.
    """

    id: str
    asked: str
    reasoning: str
    text: str
    clip: str | None
    audio: str | None
    seconds: float
    complete: bool


class ReplyFolder:
    """Takes replies and rejections in order. Use it in a `with`.

    `replies.jsonl` grows line by line, each after the file of its sound is whole. `rejects.jsonl` is of the last
    command that came to its end. Memory holds ids, never replies.

    Attributes:
        directory: the folder.
        earlier, kept: how many replies were there before, and how many came.
    """

    def __init__(self, directory: str | Path, settings: Mapping[str, Any]):
        """Opens or creates the folder.

        Args:
            directory: the folder.
            settings: what every reply depends on, JSON-able; another command's replies are not added to.

        Raises:
            GeneratorError: the folder holds replies to other settings, or something else.
            JournalError: another process writes there.
            WriteError: the disk refuses.
        """
        self.directory = Path(directory)
        with files.explained(self.directory), contextlib.ExitStack() as stack:
            replies = self.directory / REPLIES
            if replies.exists() and replies.stat().st_size and not (self.directory / SETTINGS).exists():
                raise GeneratorError(f"{replies} is not ours: name another folder with --output")
            (self.directory / AUDIO).mkdir(parents=True, exist_ok=True)
            self._journal = stack.enter_context(Journal(replies))
            self._require_same(settings)
            files.remove_leftovers(self.directory)
            files.remove_leftovers(self.directory / AUDIO)
            self._asked = self._whole_ones(stack)
            rejects = stack.enter_context(files.whole(self.directory / REJECTS))
            self._rejects = stack.enter_context(open(rejects, "wb"))
            self._files = stack.pop_all()
        self.earlier, self.kept = len(self._asked), 0
        self._reasons: Counter[str] = Counter()

    def _require_same(self, settings: Mapping[str, Any]) -> None:
        path, now = self.directory / SETTINGS, json.loads(json.dumps(settings))
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            then = None
        if then is None or not next(iter(self._journal), None):
            files.replace(path, json.dumps(now, indent=1) + "\n")
        elif then != now:
            names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
            raise GeneratorError(
                f"{self.directory} holds replies to another {', '.join(names)} ({path}); name another folder with "
                "--output, or remove that one"
            )

    def _whole_ones(self, stack: contextlib.ExitStack) -> dict[str, str]:
        """Id → what was asked, of all replies that are there. Lines whose sound is not are taken out."""
        asked, is_whole = {}, True
        for _, line in self._journal:
            if self._is_whole(line):
                asked[line["id"]] = line["asked"]
            else:
                is_whole = False
        if not is_whole:
            replies = self.directory / REPLIES
            with files.whole(replies) as temporary, open(temporary, "w", encoding="ascii") as file:
                file.writelines(json.dumps(line) + "\n" for _, line in self._journal if self._is_whole(line))
            self._journal = stack.enter_context(Journal(replies))
        return asked

    def _is_whole(self, line: Mapping[str, Any]) -> bool:
        if not (isinstance(line.get("id"), str) and isinstance(line.get("asked"), str)):
            return False
        sound = self._sound(line["id"])
        return line.get("audio") is None or (sound.is_file() and sound.stat().st_size > 0)

    def _sound(self, id: str) -> Path:
        return self.directory / AUDIO / f"{id}.wav"

    def asked(self, id: str) -> str | None:
        """The digest of what was asked under an id, if it has been answered."""
        return self._asked.get(id)

    def write_sound(self, id: str, samples: Float32[np.ndarray, "samples"], rate: int) -> str:
        """Writes the sound of a reply, and returns its path relative to the folder; safe in any thread.

        Raises:
            WriteError: the disk refuses.
            AudioError: a sample is NaN or infinite.
        """
        path = self._sound(id)
        files.replace(path, audio.encode_wav(samples, rate))
        return path.relative_to(self.directory).as_posix()

    def keep(self, answered: Answered) -> None:
        """Writes a reply. Raises JournalError."""
        self._journal.append(dataclasses.asdict(answered))
        self._asked[answered.id] = answered.asked
        self.kept += 1

    def reject(self, reject: Reject) -> None:
        """Writes a rejection. Half a surrogate pair, out of a damaged name, is written as its escape."""
        line = json.dumps(dataclasses.asdict(reject), ensure_ascii=False) + "\n"
        with files.explained(self.directory / REJECTS):
            self._rejects.write(line.encode("utf-8", "backslashreplace"))
        self._reasons[reject.reason] += 1

    def finish(self) -> str:
        """Brings every reply to the disk and tells what there is. Raises JournalError."""
        self._journal.sync()
        reasons = listing(dict(self._reasons.most_common()))
        said = f"{self.directory}: {self.kept:,} replies, {self.earlier:,} of before, rejected: {reasons or 'none'}"
        return f"{said}; {self.directory / REJECTS} lists each with its remedy" if reasons else said

    @property
    def is_empty(self) -> bool:
        """Whether no request has a reply."""
        return not self._asked

    def __enter__(self) -> "ReplyFolder":
        return self

    def __exit__(self, *error) -> None:
        self._files.__exit__(*error)
