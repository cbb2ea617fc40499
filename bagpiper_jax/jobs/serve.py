"""Serves a trained run over HTTP: OpenAI's chat completions and speech, and a page at /.

bagpiper serve --gin.ServeConfig.checkpoint=RUN                       http://127.0.0.1:8000/
bagpiper serve --gin_file=gin/runs/serve_nano.gin                     the quickstart's tuned run
"""

from bagpiper_jax import configuration, parallel
from bagpiper_jax.serving.config import ServeConfig, ServingError


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(ServeConfig, argv, __doc__, prog="bagpiper serve")
    parallel.require_devices()
    try:
        from bagpiper_jax.serving.job import serve
    except ModuleNotFoundError as error:
        raise ServingError(f"serving needs {error.name}: pip install 'bagpiper_jax[serve]'") from error
    serve(config)
