"""The mistakes that each check knows, read from the checks themselves: what they raise as `Wrong`.

Nothing is run: the sentences stand in the code. Where one contains the student's value, … stands for it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import labkit.checks
from labkit.checks.core import FUNCTION

# Two words in a row; else it is a name, or all filled in.
SENTENCE = re.compile(r"[^\W\d_]{2,}[\s,:]+[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class Question:
    """Hold an exercise's name, what its check can tell a student, its hints, and the code that solves it."""

    name: str
    mistakes: tuple[str, ...]
    hints: tuple[str, ...]
    code: str


def questions(lab: str) -> list[Question]:
    """Return the exercises of a lab ("04", "appendix") in their order; none for a lab without checks."""
    name = f"lab{lab}.py" if lab.isdigit() else f"{lab}.py"
    path = Path(labkit.checks.__path__[0]) / name
    if not path.is_file():
        return []
    body = ast.parse(path.read_text("utf-8")).body
    functions: dict[str, ast.stmt] = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    tables: dict[str, ast.stmt] = {ast.unparse(n.targets[0]): n for n in body if isinstance(n, ast.Assign)}
    return [
        _question(node, tables | functions) for node in body if isinstance(node, ast.Assign) and _adds(node)
    ]


def _adds(node: ast.Assign) -> bool:
    return isinstance(node.value, ast.Call) and _calls(node.value, "lab.add")


def _question(node: ast.Assign, defined: dict[str, ast.stmt]) -> Question:
    assert isinstance(node.value, ast.Call)
    given = {word.arg: word.value for word in node.value.keywords}
    told: list[str] = []
    for name in _reached(node.value.args[0], defined):
        one = defined[name]
        told += _raised(one, defined) if isinstance(one, ast.FunctionDef) else ()
    hints = [text for one in ast.walk(given["hints"]) if (text := _text(one))]
    code = _text(given["code"]) or ast.unparse(given["code"])
    return Question(ast.unparse(node.targets[0]), tuple(dict.fromkeys(told)), tuple(hints), code)


def _reached(start: ast.AST, defined: dict[str, ast.stmt]) -> list[str]:
    """Return the names of this module that an expression uses, directly or through another."""
    found: list[str] = []
    waiting = [start]
    while waiting:
        for name in _names(waiting.pop(0)):
            if name in defined and name not in found:
                found.append(name)
                waiting.append(defined[name])
    return found


def _names(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


def _raised(function: ast.FunctionDef, defined: dict[str, ast.stmt]) -> Iterator[str]:
    arguments = [call.args[0] for node in ast.walk(function) for call in _wrongs(node)]
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    told = [_text(one) for one in arguments]
    told += [FUNCTION.format(_text(call.args[1])) for call in calls if _calls(call, "require_function")]
    yield from (text for text in told if len(text) > 2)
    tables = {
        n: defined[n] for one in arguments for n in _names(one) if isinstance(defined.get(n), ast.Assign)
    }
    yield from (text for table in tables.values() for text in _sentences(table))
    if all(told) and not any(_calls(call, "compare") for call in calls):
        return
    # A sentence stands above in the function; its praise is left out.
    praise = {text for one in ast.walk(function) if isinstance(one, ast.Return) for text in _sentences(one)}
    yield from (text for text in _sentences(function) if text not in praise | {ast.get_docstring(function)})


def _wrongs(node: ast.AST) -> list[ast.Call]:
    call = node.exc if isinstance(node, ast.Raise) else None
    return [call] if isinstance(call, ast.Call) and _calls(call, "Wrong") and call.args else []


def _calls(call: ast.Call, name: str) -> bool:
    return ast.unparse(call.func) == name


def _sentences(node: ast.AST) -> Iterator[str]:
    parts = {id(part) for one in ast.walk(node) if isinstance(one, ast.JoinedStr) for part in one.values}
    for one in ast.walk(node):
        if id(one) not in parts and SENTENCE.search(text := _text(one)):
            yield text


def _text(node: ast.AST) -> str:
    """Return a string's text, with … for what is filled in; "" for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
