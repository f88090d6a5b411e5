"""Run llama.cpp's HTTP server, as `xllamacpp` brings it, over one model file: `serve_llamacpp.py MODEL PORT`."""

from __future__ import annotations

import sys
import threading

import xllamacpp

__all__ = ["serve"]


def serve(model: str, port: int) -> None:
    """Serve until the process is ended; greedy unless a request says otherwise, so that equal prompts get equal text."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = ["tiny"]
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.sampling.temp = 0.0
    params.warmup = False
    params.ui = False
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)  # noqa: T201 (its log)
    threading.Event().wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
