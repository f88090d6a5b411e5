"""Run llama.cpp's HTTP server, as `xllamacpp` brings it: `serve_llamacpp.py MODEL PORT ALIAS VERBOSITY`."""

from __future__ import annotations

import sys
import threading

import xllamacpp

__all__ = ["serve"]


def serve(model: str, port: int, *, alias: str, verbosity: int) -> None:
    """Serve until the process is ended; greedy unless a request says otherwise, so that equal prompts get equal text.

    Args:
        model: the model file.
        port: on the loopback address.
        alias: the name it gives itself in every answer, whatever was asked for.
        verbosity: of its log; from 4 on each completion's sampling parameters are in it.
    """
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = [alias]
    params.verbosity = verbosity
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.sampling.temp = 0.0
    # In half precision a sum depends on what is computed beside it, and with it now and then the likeliest word.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cpuparams.n_threads = 1  # more would wait for each other actively, and a busy machine is slow enough
    params.warmup = False
    params.ui = False
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)  # noqa: T201 (its log)
    threading.Event().wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), alias=sys.argv[3], verbosity=int(sys.argv[4]))
