"""Checks of the appendix on the source guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.checks.core import Exercises, Wrong, compare, require_function
from labkit.deploy.cost import GUIDE

lab = Exercises("appendix")
NAMES = {
    ("json", "loads"): True,
    ("os.path", "join"): True,
    ("json", "nothing"): False,
    ("no_such_package", "Agent"): False,
    ("json.no_such_module", "loads"): False,
}


def _there(there: Callable[[str, str], bool]) -> str:
    require_function(there, "there")
    for (module, name), right in NAMES.items():
        try:
            said = there(module, name)
        except ImportError as error:
            raise Wrong(f"there({module!r}, {name!r}) raised {type(error).__name__}: catch it") from None
        if bool(said) != right:
            raise Wrong(f"there({module!r}, {name!r}) should be {right}, and yours says {said!r}")
    return "a few lines that would have saved the guide's readers an evening"


q1 = lab.add(
    _there,
    hints=(
        "importlib.import_module(module) gives a module by its name, and raises ImportError where there is none.",
        "hasattr(found, name) says whether it has the name.",
    ),
    code="def there(module, name):\n    try:\n        return hasattr(import_module(module), name)\n"
    "    except ImportError:\n        return False",
)

ROOM = 50


def _hole(sizes: Sequence[int]) -> str:
    if (
        isinstance(sizes, str)
        or not isinstance(sizes, Sequence)
        or not all(type(n) is int and n > 0 for n in sizes)
    ):
        raise Wrong("give a list of whole numbers above 0, the oldest message first")
    kept, left = list[int](), ROOM
    for place in range(len(sizes) - 1, -1, -1):
        if sizes[place] <= left:
            kept.insert(0, place)
            left -= sizes[place]
    shown = [sizes[place] for place in kept]
    if len(kept) == len(sizes):
        raise Wrong(f"all of them fit into {ROOM}: nothing is cut")
    if not kept:
        raise Wrong("nothing is kept: let the newest one be small")
    if kept == list(range(kept[0], len(sizes))):
        raise Wrong(f"{shown} are kept, the newest ones without a gap: an older one must fit again")
    return f"of {list(sizes)} it keeps {shown}: an answer whose question is gone"


q2 = lab.add(
    _hole,
    hints=(
        "It begins at the newest message, and skips one that does not fit without stopping there.",
        "Put a message of more than 50 tokens between two short ones.",
    ),
    code="sizes = [10, 90, 10]",
)


def _fewer(percent: float) -> str:
    first, second = GUIDE[0].elastic, GUIDE[1].elastic
    right = 100 * (1 - second / first)
    reasons = {
        right / 100: "give percent",
        100 - right: "that is what is left: how much less is it?",
        37.5: "that is the saving of the whole bill: take the elastic parts alone",
        100 * (first / second - 1): "divide by the first row's elastic part, not by the second's",
    }
    formula = f"the elastic part is ${first:g} in the first row and ${second:g} in the second"
    compare(percent, right, reasons, formula)
    return "and a replica more or less writes no token more or less"


q3 = lab.add(
    _fewer,
    hints=(
        "GUIDE[0].elastic and GUIDE[1].elastic are the two parts.",
        "1 - second / first, in percent.",
    ),
    code="fewer = 100 * (1 - GUIDE[1].elastic / GUIDE[0].elastic)",
)
