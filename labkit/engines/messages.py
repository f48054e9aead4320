"""Check and normalise chat messages before any engine sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkit.errors import OptionInvalid
from labkit.types import Message

ROLES = ("system", "user", "assistant", "tool")
MAX_MESSAGES = 10_000
MAX_PROMPT_CHARS = 4_000_000


def check_messages(messages: str | Sequence[Message]) -> list[Message]:
    """Return OpenAI chat dicts with string contents; raise `OptionInvalid` with what is wrong and where.

    A string becomes one user turn. The caller's own dicts are never changed.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages or len(messages) > MAX_MESSAGES:
        raise OptionInvalid.of("messages", messages, '"text", or [{"role": "user", "content": "text"}]')
    checked = [_turn(turn, place) for place, turn in enumerate(messages)]
    size = sum(len(turn["content"]) for turn in checked)
    if size > MAX_PROMPT_CHARS:
        raise OptionInvalid(
            f"the messages hold {size:,} characters", fix=f"send at most {MAX_PROMPT_CHARS:,}"
        )
    return checked


def _turn(turn: object, place: int) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in ROLES:
        raise OptionInvalid(
            f"messages[{place}] is {repr(turn)[:80]}",
            fix=f'{{"role": …, "content": …}} with a role out of {", ".join(ROLES)}',
        )
    content = _text(turn.get("content"), place)
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise OptionInvalid(
            f"messages[{place}] holds half a character ({exc.reason})", fix="decode the text as UTF-8 first"
        ) from exc
    return {**turn, "content": content}


def _text(content: object, place: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
        return "".join(str(part.get("text", "")) for part in content)
    raise OptionInvalid(
        f"messages[{place}] has content {repr(content)[:80]}",
        fix="text only: this kit's models see no images",
    )
