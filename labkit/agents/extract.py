"""Turn a text into an object of a pydantic class: its JSON schema holds the model to the form, pydantic checks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.engines.base import Model
from labkit.errors import AnswerInvalid
from labkit.types import Message

if TYPE_CHECKING:
    from pydantic import BaseModel
Form = TypeVar("Form", bound="BaseModel")


def extract(
    model: Model,
    text: str,
    form: type[Form],
    *,
    constrained: bool | None = None,
    repairs: int = 1,
    **options: Any,
) -> Form:
    """Return a checked `form`; raise `AnswerInvalid` with each field that failed and what the model wrote.

    The engine is held to the schema where it can be, unless `constrained` says otherwise.
    """
    from pydantic import ValidationError

    schema, why, wrote = form.model_json_schema(), "", ""
    held = model.engine.constrained if constrained is None else constrained
    order = f"Extract data as JSON. Schema: {json.dumps(bare(schema), ensure_ascii=False)}\n{text}"
    messages: list[Message] = [{"role": "user", "content": order}]
    for _ in range(repairs + 1):
        reply = model.chat(messages, schema=schema if held else None, **options)
        wrote = reply.text
        try:
            return form.model_validate_json(wrote[wrote.find("{") : wrote.rfind("}") + 1] or wrote)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            why = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'text'}: {each['msg']}" for each in faults)[
                :500
            ]
        again = f"That is wrong. {why}. Write the JSON again."
        messages += [reply.message, {"role": "user", "content": again}]
    raise AnswerInvalid(
        f"no {form.__name__}: {why}; the model wrote {wrote!r:.200}",
        fix="try another wording, or a bigger model",
    )


def bare(schema: Any) -> Any:
    """Return a schema without pydantic's titles, types first: shorter to read, and what nano was trained on."""
    if not isinstance(schema, dict):
        return [bare(each) for each in schema] if isinstance(schema, list) else schema
    kept = {key: bare(each) for key, each in schema.items() if key != "title" or isinstance(each, dict)}
    return {key: kept[key] for key in sorted(kept, key=lambda key: key != "type")}
