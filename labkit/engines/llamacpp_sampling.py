"""Build llama.cpp's sampler chain from `GenerationOptions`, grammars for tools and schemas included."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.engines.llamacpp_native import Context
from labkit.engines.toolschema import call_schema
from labkit.errors import OptionInvalid
from labkit.types import GenerationOptions, Tool

PENALTY_WINDOW = 64


def sampler(context: Context, options: GenerationOptions, tools: Sequence[Tool]) -> Any:
    """Return a native sampler chain; free it with `llama_sampler_free`. Raises `OptionInvalid` on a bad grammar."""
    lib = context.lib
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())

    def add(link: Any) -> None:
        lib.llama_sampler_chain_add(chain, link)

    try:
        grammar = grammar_of(options, tools)
        if grammar:
            link = lib.llama_sampler_init_grammar(context.vocab, grammar.encode(), b"root")
            if not link:
                raise OptionInvalid(
                    "the grammar does not parse", fix="see llama.cpp's grammars/README for GBNF"
                )
            add(link)
        if options.repeat_penalty != 1.0:
            make = lib.llama_sampler_init_penalties
            width = (context.width,) if len(make.argtypes) == 5 else ()  # 0.3.29 does not ask for it
            add(make(*width, PENALTY_WINDOW, options.repeat_penalty, 0.0, 0.0))
        if options.temperature == 0.0:
            add(lib.llama_sampler_init_greedy())
            return chain
        add(lib.llama_sampler_init_top_k(options.top_k))
        add(lib.llama_sampler_init_top_p(options.top_p, 1))
        add(lib.llama_sampler_init_min_p(options.min_p, 1))
        add(lib.llama_sampler_init_temp(options.temperature))
        add(lib.llama_sampler_init_dist(options.seed or 0))
        return chain
    except BaseException:
        lib.llama_sampler_free(chain)
        raise


def kept_tokens(
    context: Context, scores: NDArray[np.float32], options: GenerationOptions
) -> dict[int, float]:
    """Return what llama.cpp may draw from next-token scores (V,): token → probability, once all filters ran."""
    chain = sampler(context, options, ())
    try:
        left = _filtered(context, chain, dict(enumerate(scores.tolist())))
    finally:
        context.lib.llama_sampler_free(chain)
    return {token: p for token, _, p in sorted(left, key=lambda item: -item[2])}


def admits(context: Context, grammar: str, text: str) -> bool:
    """Return whether a GBNF grammar lets `text` pass, as the model would cut it into tokens, and end there.

    Raises `OptionInvalid` for a grammar that does not parse.
    """
    chain = sampler(context, GenerationOptions(grammar=grammar), ())
    rules = context.lib.llama_sampler_chain_get(chain, 0)
    try:
        for token in [*context.tokenize(text, special=False), context.lib.llama_vocab_eos(context.vocab)]:
            ((_, score, _),) = _filtered(context, rules, {token: 0.0})
            if score < 0:  # a grammar gives minus infinity to what it does not admit
                return False
            context.lib.llama_sampler_accept(rules, token)
        return True
    finally:
        context.lib.llama_sampler_free(chain)


def _filtered(context: Context, chain: Any, scores: Mapping[int, float]) -> list[tuple[int, float, float]]:
    """Run tokens and their scores through a sampler; return (token, score, probability) of what it leaves."""
    data = (context.lib.llama_token_data * len(scores))(*((token, s, 0.0) for token, s in scores.items()))
    array = context.lib.llama_token_data_array(data, len(data), -1, False)
    context.lib.llama_sampler_apply(chain, ctypes.byref(array))
    return [(item.id, item.logit, item.p) for item in array.data[: array.size]]


def grammar_of(options: GenerationOptions, tools: Sequence[Tool]) -> str:
    """Return the GBNF text that the options ask for, or an empty string."""
    if options.grammar:
        return options.grammar
    if options.schema is not None:
        return schema_grammar(options.schema)
    if tools and options.tool_choice == "required":
        return tools_grammar(tools)
    return ""


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """Turn a JSON schema into GBNF with llama-cpp-python's converter."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        # JSON has no raw line breaks inside strings; the converter's own class would allow them.
        return str(json_schema_to_gbnf(json.dumps(schema))).replace(r'[^"\\]', r'[^"\\\x7F\x00-\x1F]')
    except Exception as exc:  # the converter raises whatever its recursion meets
        raise OptionInvalid(
            f"the schema cannot become a grammar ({type(exc).__name__}: {exc})"[:200],
            fix="use object, array, string, integer, number, boolean, enum",
        ) from exc


def tools_grammar(tools: Sequence[Tool]) -> str:
    """Allow exactly one or more calls of the offered tools, in Hermes form, with arguments as their schemas say."""
    grammar = schema_grammar(call_schema(tools))
    body = re.sub(r"\broot\b(?=\s*::=)", "one-call", grammar, count=1)
    return f'root ::= tagged ("\\n" tagged)*\ntagged ::= "<tool_call>\\n" one-call "\\n</tool_call>"\n{body}'
