"""Render the part of Go's template language that nano's Ollama template uses: text, if, range, variables, eq, …

There is no Go here; this keeps the template honest until a daemon reads it. Anything else in a template is an error.
"""

import json
import re
from typing import Any

TAG = re.compile(r"(?:\{\{-\s|\{\{)(.*?)\}\}", re.DOTALL)
TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()]+')
FUNCTIONS: dict[str, Any] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "len": len,
    "slice": lambda items, first: items[first:],
}


def render(source: str, data: dict[str, Any]) -> str:
    """Return the text; `data` is what `.` and `$` are at the start."""
    pieces: list[tuple[str, str]] = []
    end = 0
    for tag in TAG.finditer(source):
        text = source[end : tag.start()]
        pieces += [("text", text.rstrip() if tag[0].startswith("{{-") else text), ("tag", tag[1].strip())]
        end = tag.end()
    nodes, rest = _block([*pieces, ("text", source[end:])], 0)
    assert rest == len(pieces) + 1, "an end too many"
    out: list[str] = []
    _run(nodes, data, {"$": data}, out)
    return "".join(out)


def _block(pieces: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    """Return the nodes up to the `end` or `else` that closes this block, and where that is."""
    nodes: list[Any] = []
    while at < len(pieces):
        kind, text = pieces[at]
        word, _, rest = text.partition(" ")
        if kind == "tag" and word in ("end", "else"):
            break
        if kind == "tag" and word in ("if", "range"):
            body, at = _block(pieces, at + 1)
            other: list[Any] = []
            closing = pieces[at][1]
            if closing.startswith("else if"):  # the same as an if within the else, closed by the same end
                nested = [*pieces[:at], ("tag", closing[5:]), *pieces[at + 1 :]]
                (node, *_), at = _one(nested, at)
                other = [node]
            nodes.append((word, rest, body, other))
        else:
            nodes.append((kind, text))
        at += 1
    return nodes, at


def _one(pieces: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    body, end = _block(pieces, at + 1)
    assert pieces[end][1] == "end", "an else after an else if is not read"
    return [("if", pieces[at][1].partition(" ")[2], body, [])], end


def _run(nodes: list[Any], dot: Any, names: dict[str, Any], out: list[str]) -> None:
    for kind, text, *blocks in nodes:
        if kind == "text":
            out.append(text)
        elif kind == "if":
            _run(blocks[0] if _value(text, dot, names) else blocks[1], dot, names, out)
        elif kind == "range":
            variables, _, items = text.rpartition(":=")
            for index, item in enumerate(_value(items, dot, names)):
                names |= dict(zip(re.findall(r"\$\w+", variables), (index, item), strict=False))
                _run(blocks[0], item, names, out)
        elif assigned := re.fullmatch(r"(\$\w+) :?= (.*)", text):
            names[assigned[1]] = _value(assigned[2], dot, names)
        else:
            value = _value(text, dot, names)
            out.append(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _value(text: str, dot: Any, names: dict[str, Any]) -> Any:
    tokens = TOKEN.findall(text)

    def term() -> Any:
        token = tokens.pop(0)
        if token == "(":
            value = pipeline()
            assert tokens.pop(0) == ")"
            return value
        if token[0] in '"0123456789':
            return json.loads(token)
        name, *path = token.split(".")
        value = names[name] if name else dot
        for part in filter(None, path):
            value = value[part]
        return value

    def pipeline() -> Any:
        if tokens[0] not in FUNCTIONS:
            return term()
        function, arguments = FUNCTIONS[tokens.pop(0)], []
        while tokens and tokens[0] != ")":
            arguments.append(term())
        return function(*arguments)

    return pipeline()
