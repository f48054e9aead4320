"""Build llama.cpp's sampler chain from `GenerationOptions`, grammars for tools and schemas included."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

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
