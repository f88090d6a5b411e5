"""Write a tiny Llama with random weights as a GGUF file: half a megabyte that a real llama.cpp loads and talks with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGUFWriter, TokenType

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_tiny_model"]

_WIDTH, _INNER, _LAYERS, _HEADS, _CONTEXT = 64, 112, 2, 4, 2048
_WORDS = (
    *("a", "and", "are", "at", "by", "carbon", "clean", "energy", "for", "from", "grid", "hydro", "in", "is", "it"),
    *("low", "next", "not", "of", "on", "or", "our", "power", "region", "runs", "sun", "that", "the", "this", "to"),
    *("was", "water", "we", "where", "wind", "with", "year"),
)
_CONTROL = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
_BYTES = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
_LETTERS = [(letter, TokenType.NORMAL) for letter in [*map(chr, range(33, 127)), "\u2581"]]
_SPOKEN = [(f"\u2581{word}", TokenType.NORMAL) for word in _WORDS]
_TOKENS = _CONTROL + _BYTES + _LETTERS + _SPOKEN


def write_tiny_model(path: Path) -> None:
    """Write the model to `path`; the same bytes every time.

    Only the words' rows of the output matrix are not zero, so that greedy text is legible; the end token is never the
    likeliest, so a request must say how many tokens it wants.
    """
    writer = GGUFWriter(str(path), "llama")
    _write_shape(writer)
    _write_tokenizer(writer)
    _write_weights(writer, np.random.default_rng(7))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: GGUFWriter) -> None:
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(_TOKENS))


def _write_tokenizer(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _kind in _TOKENS])
    writer.add_token_types([kind for _text, kind in _TOKENS])
    is_spoken = [False] * (len(_TOKENS) - len(_SPOKEN)) + [True] * len(_SPOKEN)
    writer.add_token_scores([-1.0 if spoken else -10.0 for spoken in is_spoken])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}\n{% endfor %}")


def _write_weights(writer: GGUFWriter, random: np.random.Generator) -> None:
    def noise(rows: int, columns: int) -> Any:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    output = noise(len(_TOKENS), _WIDTH) * 4
    output[: -len(_SPOKEN)] = 0.0
    writer.add_tensor("token_embd.weight", noise(len(_TOKENS), _WIDTH))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", noise(_WIDTH, _WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", noise(_INNER, _WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", noise(_INNER, _WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", noise(_WIDTH, _INNER))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
