"""Registers the tasks of every corpus and their mixtures.

<corpus>_caption_to_audio  <corpus>_audio_to_caption  <corpus>_text_only   → <corpus>_pretraining
… and <corpus>_caption_to_answer  <corpus>_request_to_caption             → <corpus>_pretraining_with_reading
<corpus>_sft_understanding  <corpus>_sft_generation                        → <corpus>_sft
… and <corpus>_caption_to_audio  <corpus>_audio_to_caption                 → <corpus>_tuning
<corpus>_<domain>_caption_to_audio  <corpus>_<domain>_audio_to_caption  <corpus>_text_only
                                                                           → <corpus>_pretraining_by_domain
"""

import functools

import seqio

from tasks import pretraining, sft
from tasks.clip_source import ClipSource
from tasks.preprocessors import OUTPUT_FEATURES, Author, dialogue_preprocessor
from tasks.sources import ManifestSource

AUDIO_DOMAINS = ("speech", "sound", "music", "mixed")
CORPORA = ("embedded", "soundscapes", "debian", "user", "espnet")

PRETRAINING: dict[str, Author] = {
    "caption_to_audio": pretraining.caption_to_audio,
    "audio_to_caption": pretraining.audio_to_caption,
    "text_only": pretraining.text_only,
}
READING: dict[str, Author] = {
    "caption_to_answer": pretraining.caption_to_answer,
    "request_to_caption": pretraining.request_to_caption,
}
HEARD = ("caption_to_audio", "audio_to_caption")
SFT: dict[str, Author] = {"sft_understanding": sft.understanding, "sft_generation": sft.generation}

# The release balances the directions by their token budgets (docs/reference.md, Pre-training data): equal rates here,
# and `rate_unit = "tokens"` in the cache job. Rates are relative; the cache job can override them by name.
RATES = {
    "caption_to_audio": 1.0,
    "audio_to_caption": 1.0,
    "text_only": 1.0,
    "caption_to_answer": 1.0,
    "request_to_caption": 1.0,
    "sft_understanding": 1.0,
    "sft_generation": 1.0,
}


def add_task(name: str, source: str | ManifestSource | ClipSource, author: Author) -> None:
    """Registers one task over a source, or over the manifest of the corpus of that name."""
    source = ManifestSource(source) if isinstance(source, str) else source
    preprocessor = functools.partial(dialogue_preprocessor, author=author, corpus=source.corpus, task=name)
    seqio.TaskRegistry.add(name, source, preprocessors=[preprocessor], output_features=OUTPUT_FEATURES)


def add_corpus(corpus: str) -> None:
    """Registers the tasks and mixtures of the corpus in directory `<data_root>/<corpus>`.

    For more corpora than `CORPORA`, call it in a module of your own and name that in `CacheConfig.task_modules`.
    """
    for purpose, author in (PRETRAINING | READING | SFT).items():
        add_task(f"{corpus}_{purpose}", corpus, author)
    mixtures = {
        "pretraining": PRETRAINING,
        "pretraining_with_reading": PRETRAINING | READING,
        "sft": SFT,
        "tuning": SFT | {purpose: PRETRAINING[purpose] for purpose in HEARD},
    }
    for mixture, authors in mixtures.items():
        rates = [(f"{corpus}_{purpose}", RATES[purpose]) for purpose in authors]
        seqio.MixtureRegistry.add(f"{corpus}_{mixture}", rates)
    _add_by_domain(corpus)


def _add_by_domain(corpus: str) -> None:
    """Each direction split by domain, so that factors can differ (`data.rates.Mixing`)."""
    names = [f"{corpus}_text_only"]
    for domain in AUDIO_DOMAINS:
        for purpose in ("caption_to_audio", "audio_to_caption"):
            names.append(f"{corpus}_{domain}_{purpose}")
            author = functools.partial(pretraining.of_domain, author=PRETRAINING[purpose], domain=domain)
            add_task(names[-1], corpus, author)
    seqio.MixtureRegistry.add(f"{corpus}_pretraining_by_domain", [(name, 1.0) for name in names])


for _corpus in CORPORA:
    add_corpus(_corpus)
