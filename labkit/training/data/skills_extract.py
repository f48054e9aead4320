"""The skill to extract data from a text as JSON."""

from __future__ import annotations

import json
import random
from typing import Any

from . import kinds, words
from .skills import Draft, says, user
from .stories import KINDS, story

# Attributes with everyday wordings: (key names, kind, forms).
COMMON = (
    (
        "name,customer,client,full_name",
        "person",
        "{} wrote to us|this is {}|the customer {} called|signed by {}",
    ),
    ("date,day,due_date", "date", "it was on {}|the day was {}|dated {}"),
    ("city,place,location,town", "place", "it happened in {}|they live in {}|we met in {}"),
    ("email,mail,contact_email", "email", "mail to {}|write to {}"),
    ("amount,total,price", "money", "it cost {}|the bill was {}|we paid {} in total"),
    ("order_id,order,reference", "id", "about order {}|order {} is meant"),
    ("phone,phone_number,tel", "phone", "call {}|the number is {}"),
    ("quantity,count,items", "int:1:90", "{} pieces were sent|there were {} of them"),
    ("time,hour,start_time", "time", "it starts at {}|we begin at {}"),
    ("product,item,article", "label", "they bought the {}|the {} was ordered"),
)


def field(rng: random.Random) -> tuple[str, Any, str]:
    """Make up a field: its key, its value and a sentence that holds it."""
    if rng.random() < 0.4:
        names, kind, forms = rng.choice(COMMON)
        key = rng.choice(names.split(","))
        item = kinds.sample(rng, kind)
        forms += f"|the {key.replace('_', ' ')} is {{}}|{key.replace('_', ' ')}: {{}}"
        return key, plain(item), rng.choice(forms.split("|")).format(item)
    label = words.label(rng)
    item = kinds.sample(rng, rng.choice(KINDS))
    form = rng.choice(
        (
            "the {l} is {}",
            "{l}: {}",
            "the {l} was {}",
            "with {} as {l}",
            "{l} = {}",
            "its {l} is {}",
            "they gave {} as the {l}",
            "{} is the {l}",
            "our {l} is {}",
        )
    )
    return label, plain(item), form.replace("{l}", label).format(item)


def plain(item: Any) -> Any:
    """Turn a text of digits only into the number it reads as."""
    return int(item) if isinstance(item, str) and item.isdigit() and item[0] != "0" else item


def fields(rng: random.Random, count: int) -> dict[str, tuple[Any, str]]:
    """Make up `count` fields whose values and keys differ."""
    found: dict[str, tuple[Any, str]] = {}
    kinds: set[str] = set()
    while len(found) < count:
        key, item, sentence = field(rng)
        group = next((names for names, _, _ in COMMON if key in names.split(",")), key)
        if group not in kinds:
            kinds.add(group)
            found[key] = (item, sentence)
    return found


ASKS = (
    "Extract {k} as JSON.",
    "Extract these keys as JSON: {k}.",
    "Return JSON with {k}.",
    "Give me {k} as JSON.",
    "Read {k} from the text and answer in JSON.",
    "JSON only, keys: {k}.",
    "Pull out {k} and write JSON.",
    "Fill in {k}. Answer with JSON only.",
    "Which {k} are in the text? Use JSON.",
    "Turn the text into JSON with the keys {k}.",
)


SCHEMA_ASKS = (
    "Answer with JSON that fits this schema:", "Extract data as JSON. Schema:",
    "Use this JSON schema:", "Schema:",
)  # fmt: skip
MARKS = (". ", ". ", ". ", ", ", "; ", "\n")


def order(rng: random.Random, wanted: dict[str, Any], short: bool) -> str:
    """Word what to extract, by names or by a JSON schema."""
    names = list(wanted)
    if short or rng.random() < 0.65:
        listing = ", ".join(names)
        if len(names) > 1 and rng.random() < 0.4:
            listing = ", ".join(names[:-1]) + " and " + names[-1]
        return rng.choice(ASKS).format(k=listing)
    schema = {"type": "object", "properties": {name: {"type": kind(item)} for name, item in wanted.items()}}
    return rng.choice(SCHEMA_ASKS) + " " + json.dumps(schema, ensure_ascii=False)


def extract(rng: random.Random, short: bool) -> Draft:
    """Write JSON with the wanted keys, null for what the text does not say."""
    found = fields(rng, rng.choice((1, 1, 2, 2, 3) if short else (2, 3, 3, 4, 5, 6)))
    form = rng.choice(("snake", "snake", "camel"))
    given = list(found)
    wanted = rng.sample(given, rng.randint(max(1, len(given) - 2), len(given)))
    gone = {key for key in wanted if rng.random() < (0.08 if short else 0.15)}
    told = [found[key][1] for key in given if key not in gone]
    text = story(rng, told, 0 if short else rng.choice((0, 0, 1, 2)), MARKS) or "Nothing."
    task = order(rng, {words.style(key, form): found[key][0] for key in wanted}, short)
    data = {words.style(key, form): None if key in gone else found[key][0] for key in wanted}
    reply = says(json.dumps(data, ensure_ascii=False))
    if rng.random() < 0.4 and not short:
        return [{"role": "system", "content": task}, user(text), reply], []
    bodies = (f"{task}\n{text}", f"{task}\n\nText: {text}", f"{text}\n{task}", f"{text}\n\n{task}")
    return [user(rng.choice(bodies)), reply], []


def kind(item: Any) -> str:
    """Return a value's JSON type."""
    return "integer" if isinstance(item, int) else "number" if isinstance(item, float) else "string"
