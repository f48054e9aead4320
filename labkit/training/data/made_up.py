"""Tool families made up on the spot."""

from __future__ import annotations

import random

from . import words
from .families import Family, Param
from .lexicon import VERBS

# Verbs that mean about the same: a request may use any of a row, and a sibling tool takes another row.
VERB_ROWS = tuple(
    tuple(row.split(","))
    for row in (
        "get,fetch,look up,show,retrieve",
        "set,change,adjust,update",
        "create,add,make,register",
        "delete,remove,erase",
        "start,launch,run,begin",
        "stop,halt,end",
        "send,dispatch,forward",
        "book,reserve",
        "check,inspect,verify",
        "find,search for,locate",
        "cancel,call off",
        "list,enumerate",
        "calculate,compute,work out",
        "order,buy,purchase",
        "open",
        "close",
        "record,log,note down",
        "assign,allocate",
        "approve,accept",
        "reject,decline",
        "export",
        "print",
        "move",
        "copy",
        "rename",
        "lock",
        "unlock",
        "pause",
        "resume",
        "rate",
        "repair,fix",
    )
)

# Parameters that a sentence brings along by itself: (type, kind, names, fragments).
NATURAL = (
    (
        "string",
        "person",
        "customer,client,owner,guest,patient,employee,recipient,user name,contact",
        "for {}|on behalf of {}",
    ),
    ("string", "place", "city,location,place,site,destination,town,region", "in {}|at {}"),
    ("string", "day", "date,day,due date,start date,on date", "on {}|dated {}"),
    ("string", "hour", "time,hour,start time,at time", "at {}|starting at {}"),
    ("integer", "int:1:99", "quantity,count,number of items,units", "with quantity {}|with a quantity of {}"),
    (
        "integer",
        "int:1:600",
        "minutes,duration,duration minutes,length minutes",
        "for {} minutes|lasting {} minutes",
    ),
    (
        "number",
        "money",
        "amount,price,budget,limit",
        "for an amount of {}|with an amount of {}|at a price of {}",
    ),
    ("string", "email", "email,email address,mail to", "to {}|via {}"),
    (
        "string",
        "phrase",
        "message,note,comment,text,description,reason",
        "with the text {}|saying {}|with the note {}",
    ),
    ("string", "low/medium/high/urgent", "priority,level,urgency", "with {} priority|as {} priority"),
    ("string", "path", "file,path,file name,document", "from the file {}|using the file {}"),
    ("string", "word", "color,category,tag,type,kind,mode", ""),
    ("string", "title", "name,title,project,team,product", "called {}|named {}"),
)

TYPES = (
    ("string", "word"),
    ("string", "id"),
    ("string", "id"),
    ("string", "title"),
    ("string", "person"),
    ("string", "noun"),
    ("integer", "integer"),
    ("integer", "int:0:100"),
    ("number", "decimal"),
    ("boolean", "true/false"),
    ("boolean", "yes/no"),
    ("enum", ""),
    ("array", "word"),
    ("string", "phrase"),
    ("string", "date"),
    ("array", "name"),
    ("integer", "int:1:12"),
)


def labelled(rng: random.Random, slot: str, taken: set[str]) -> Param:
    """Make up a parameter which the request must name."""
    label = words.label(rng)
    while label in taken:
        label = words.label(rng)
    taken.add(label)
    form, kind = rng.choice(TYPES)
    if form == "enum":
        kind = "/".join(
            {words.word(rng) for _ in range(rng.randint(2, 4))} | {words.pseudo(rng)} | {words.noun(rng)}
        )
        kind = "/".join(sorted(kind.split("/")))
    fragments = (
        f"with {label} {{}}",
        f"{label} {{}}",
        f"with the {label} {{}}",
        f"the {label} is {{}}",
        f"{label}: {{}}",
        f"using {{}} as the {label}",
        f"{label} = {{}}",
        f"with {{}} as {label}",
        f"{label} set to {{}}",
    )
    text = f"The {label}" if rng.random() < 0.5 else f"{label.capitalize()} to use"
    return Param(slot, form, kind, (label,), (text,), True, fragments)


def natural(rng: random.Random, slot: str, taken: set[str]) -> Param | None:
    """Make up a parameter whose fragment tells what it is, or return none if its kind is taken."""
    form, kind, names, fragments = rng.choice(NATURAL)
    if kind in taken:
        return None
    taken.add(kind)
    label = rng.choice(names.split(","))
    forms = tuple(fragments.split("|")) if fragments else ()
    forms += (f"with {label} {{}}", f"{label} {{}}", f"the {label} is {{}}")
    return Param(
        slot,
        "enum" if "/" in kind else form,
        kind,
        (label,),
        (f"The {label}", f"{label.capitalize()} of the request"),
        True,
        forms,
    )


def made_params(rng: random.Random, count: int) -> tuple[Param, ...]:
    """Make up `count` parameters, the later ones sometimes optional."""
    taken: set[str] = set()
    params: list[Param] = []
    for i in range(count):
        param = natural(rng, f"p{i}", taken) if rng.random() < 0.45 else None
        param = param or labelled(rng, f"p{i}", taken)
        if i and rng.random() < 0.3:
            param = Param(
                param.slot, param.type, param.kind, param.names, param.texts, False, param.fragments
            )
        params.append(param)
    return tuple(params)


def made_results(rng: random.Random) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Make up the keys and kinds of one result."""
    count = rng.choice((1, 1, 2, 2, 3))
    keys = [
        words.label(rng)
        if rng.random() < 0.6
        else rng.choice(
            ("status", "state", "result", "total", "price", "id", "reference", "date", "name", "level")
        )
        for _ in range(count)
    ]
    kinds = (
        "word",
        "id",
        "integer",
        "decimal",
        "person",
        "date",
        "time",
        "title",
        "done/ok/pending/failed",
        "place",
    )
    return (tuple((key, rng.choice(kinds)) for key in dict.fromkeys(keys)),)


MADE_TEXTS = (
    "{V} the {w}.",
    "{V} a {w}.",
    "Use this to {v} the {w}.",
    "{V} one {w} in the system.",
    "Tool to {v} a {w}.",
    "{V} {w}.",
)
# `{&}` stands for the fragments of the parameters.
MADE_REQUESTS = (
    "{s} (the|a|my|our|this) {w} {&}", "{s} (the|a) {w}: {&}", "{s} (the|one|a new) {w}, {&}",
    "(i need to|i have to|we must) {s} (a|the) {w}, {&}.", "{s} (the|a) {w} {&}",
    "use {tool} with {&}", "{tool}: {&}", "(call|run) {tool} (with|using) {&}",
)  # fmt: skip
MADE_MISSING = ("{s} (the|a|my|our|this) {w} {&}", "(i need to|i have to|we must) {s} (a|the) {w} {&}.")


def made_up(rng: random.Random, *, count: int | None = None, avoid: Family | None = None) -> Family:
    """Make up a family: a verb, a thing and parameters with random names.

    `avoid` asks for a sibling: the same thing under a verb of another meaning.
    """
    rows = [row for row in VERB_ROWS if avoid is None or row[0] not in avoid.verbs]
    verbs = rng.choice(rows) if avoid or rng.random() < 0.7 else (rng.choice(VERBS),)
    thing = avoid.nouns[0] if avoid else words.label(rng)
    whole = f"{thing} of the {words.noun(rng)}" if rng.random() < 0.35 else thing
    params = made_params(rng, rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 4)) if count is None else count)
    verb = rng.choice(verbs)
    text = rng.choice(MADE_TEXTS).format(V=verb.capitalize(), v=verb, w=whole)
    saying = "(" + "|".join(verbs) + ")" if len(verbs) > 1 else verb
    requests = [form.replace("{s}", saying).replace("{w}", whole) for form in MADE_REQUESTS]
    if verbs[0] == "set" and len(params) == 1 and params[0].type != "boolean":
        requests += [f"{saying} (the|our|my) {whole} to {{{params[0].slot}}}"] * 4
    missing = tuple(form.replace("{s}", saying).replace("{w}", whole) for form in MADE_MISSING)
    key = "made:" + thing + verbs[0]
    return Family(key, verbs, (thing,), (text,), params, tuple(requests), missing, made_results(rng), True)
