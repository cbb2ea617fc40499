"""Settings of the cache job."""

import dataclasses

from bagpiper_jax.data.rates import Mixing


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    """Caches SeqIO mixtures and writes a lock for each, `<cache_dir>/<mixture>.lock.json`.

    Attributes:
        mixtures: names of SeqIO mixtures or tasks; one job, since loading TensorFlow takes long.
        data_root: holds a directory per corpus.
        cache_dir: the directory of caches and locks.
        tokenizer: "byte" or the path of a tokenizer.json.
        codec: fingerprint of the codec that made the codes, or its .safetensors file; "" without codes.
        splits: train must be among them; others may be empty.
        rates: overrides the mixture's rates, task name → rate.
        rate_unit: whether rates count "examples" or "tokens".
        mixing: mixture → how its rates follow from the sizes of its tasks; others keep their own as they are.
        max_slots, max_chunks, max_seconds: longer examples are rejected; 0 chunks for no limit.
        leave_out_empty: leaves out tasks without an example, as those of dialogues are where no clip is annotated, in
            place of ending with an error.
        max_reject_frac: the job refuses a task with a larger share of rejected clips.
        shard_inputs: clips per shard, the unit of restarting.
        workers: processes that write shards on this machine; each loads TensorFlow (about 1 GB).
        beam: options of an Apache Beam pipeline that writes all shards, such as ('--runner=DirectRunner',) or those of
            Dataflow; without any, this machine's processes write them.
        shard: "i/n" has this machine write only its part of all shards, the i-th of n counted from 0, into a
            `cache_dir` that all machines see. When all are done, the job without it joins what they wrote.
        live: tries the first so many clips of each task, tells what becomes of them and writes nothing; 0 caches.
        system_prompt: the text that opens generation dialogues, see `tasks.settings`.
        seed: the seed of every random choice of wording.
        task_modules: modules whose import registers the tasks; a user's own go here.
    """

    mixtures: tuple[str, ...]
    data_root: str
    cache_dir: str
    tokenizer: str = "byte"
    codec: str = ""
    splits: tuple[str, ...] = ("train", "validation")
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    rate_unit: str = "examples"
    mixing: dict[str, Mixing] = dataclasses.field(default_factory=dict)
    max_slots: int = 8192
    max_chunks: int = 0
    max_seconds: float = 30.0
    leave_out_empty: bool = False
    max_reject_frac: float = 0.01
    shard_inputs: int = 1000
    workers: int = 1
    beam: tuple[str, ...] = ()
    shard: str = "0/1"
    live: int = 0
    system_prompt: str = ""
    seed: int = 0
    task_modules: tuple[str, ...] = ("tasks.mixtures",)
