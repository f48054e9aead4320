"""Skills on what was said: memory, identity, copy."""

from __future__ import annotations

from dataclasses import dataclass

from .asking import draw_values, value
from .chain_skills import core, linkable, name_of
from .conversation import Draft, Message, calls, exchange, others, says, small_talk, system, user
from .draw import Draw, put, style
from .phrasing import dress, ending, noisy
from .tools import offer

NOTED = says("Noted.")
UNTOLD = says("You have not told me.")
EXTRA = {"short": 0, "medium": 1, "full": 3, "long": 8}


@dataclass(frozen=True)
class Fact:
    """What a user tells: wordings of it, of the question for it, the answer and the kind of value."""

    told: tuple[str, ...]
    asked: tuple[str, ...]
    answer: str
    kind: str


def fact(d: Draw) -> Fact:
    """Choose a fact on the user, or make one up."""
    if d.chance(0.3):
        kind, told, asked, answer = d.row("own facts")
        return Fact(tuple(f"{text}." for text in told.split("|")), tuple(asked.split("|")), answer, kind)
    label, mine = d.line("label"), d.chance(0.65)
    told_forms, asked_forms = d.lists["my" if mine else "the"], d.lists["my asks" if mine else "the asks"]
    tell, ask = (tuple(put(text, l=label) for text in forms) for forms in (told_forms, asked_forms))
    return Fact(tell, ask, f"{'Your' if mine else 'The'} {label} is {{v}}.", d.line("fact kinds"))


def tell(d: Draw, forms: tuple[str, ...], item: str) -> list[Message]:
    """Word a fact, and note it."""
    text = d.make(d.choice(forms).rstrip("."), {"v": item}, protect=True)
    return [user(dress(d, text, ".", typos=False)), NOTED]


def ask_fact(d: Draw, fact: Fact) -> Message:
    """Word a question for a fact."""
    form = d.choice(fact.asked)
    return user(dress(d, form.rstrip("?!"), ending(form), typos=False))


def memory(d: Draw) -> Draft:
    """Remember what the user told some turns ago."""
    if not d.short and d.chance(0.35):
        return recall_call(d)
    drawn = [fact(d) for _ in range(d.count("112", "112", "122334", "345678"))]
    facts = {row.answer: row for row in drawn}
    known = {key: str(d.sample(row.kind)) for key, row in facts.items()}
    messages = system(d)
    for key, row in facts.items():
        messages += tell(d, row.told, known[key])
        messages += small_talk(d) if not d.short and d.chance(0.25) else []
    if d.chance(0.15):
        key = d.choice(list(facts))
        known[key] = str(d.sample(facts[key].kind))
        correction = put(d.choice(d.lists["corrections"]).replace("{}", facts[key].told[0]))
        messages += tell(d, (correction,), known[key])

    def asked() -> list[Message]:
        found: list[Message] = []
        for key in d.rng.sample(list(facts), d.randint(1, min(2, len(facts)))):
            found += [ask_fact(d, facts[key]), says(put(key, v=known[key]))]
        other = fact(d)
        if d.chance(0.12) and other.answer not in facts:
            found += [ask_fact(d, other), UNTOLD]
        return found

    first = asked()
    tools = offer(d, [], d.randint(1, EXTRA[d.level])) if not d.short and d.chance(0.3) else []
    return Draft([*messages, *first], tools, at=len(messages), again=lambda: [*messages, *asked()])


def recall_call(d: Draw) -> Draft:
    """Call a tool with a value that the user told before."""
    family, param = linkable(d)
    label = name_of(d, param)
    tools = offer(d, [family], others(d))
    values = draw_values(d, tools[0], 0.15)
    values[param.slot] = value(d, param)
    forms = tuple(put(text, l=label) for text in d.lists["my"])
    messages = [*system(d), *tell(d, forms, str(values[param.slot]))]
    for _ in range(d.count("0", "01", "0012", "2345")):
        row = fact(d)
        told = row.answer != f"Your {label} is {{v}}." and d.chance(0.5)
        messages += tell(d, row.told, str(d.sample(row.kind))) if told else small_talk(d)
    at = len(messages)
    text, mark = core(d, tools[0], values, {param.slot: d.line("recalled", l=label)})
    return Draft([*messages, user(dress(d, text, mark)), calls((tools[0], values))], tools, at=at)


def identity(d: Draw) -> Draft:
    """Say who nano is, greet and chat, beside tools or not."""
    tools = offer(d, [], d.randint(1, EXTRA[d.level])) if not d.short and d.chance(0.5) else []
    messages = system(d)
    for _ in range(d.count("1", "12", "1123", "2345")):
        messages += small_talk(d)
    if tools and d.level == "full" and d.chance(0.2):
        messages[-2:-2] = exchange(d, tools[0])
    return Draft(messages, tools)


def copy(d: Draw) -> Draft:
    """Repeat words or an id exactly."""
    kinds = ("word", "word", "id", "name", "integer")
    text = " ".join(str(d.sample(d.choice(kinds))) for _ in range(d.choice((1, 2, 3, 4, 6))))
    if d.chance(0.3):
        words = " ".join(d.line("word") for _ in range(d.choice((1, 2, 2, 3))))
        text = style(words, d.choice(("snake", "camel", "pascal", "flat")))
    return Draft([user(noisy(d, d.make(d.choice(d.lists["copy"]), {"v": text}, protect=True))), says(text)])
