"""Talk to a model: the answer streams, tools are shown as they are called, and Stop really stops the engine."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from labkit.agents.tools import Guarded
from labkit.engines.base import Model
from labkit.types import GenerationOptions, Message, TokenScore
from labkit.widgets.exchange import Exchange
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.language import tr
from labkit.widgets.log import Log, plain

PACE_S, DOUBT, SHOWN = 0.1, 0.5, 3_000


class Chat(Frame):
    """Chat with a loaded model: `Chat(m, tools=[get_weather])`. Further keywords are `GenerationOptions`.

    Tools are held as an agent's are: 10 s, no files and no network, unless `labkit.agents.Guarded` grants more.
    `exchange` has the messages and, for `AgentTrace`, the trace of the last answer. Verdicts on answers are kept, with
    the conversation, as JSON lines in `verdicts.jsonl` under LABKIT_HOME.
    """

    def __init__(
        self,
        model: Model,
        tools: Sequence[Callable[..., Any] | Guarded] = (),
        system: str = "",
        **options: Any,
    ) -> None:
        self.exchange = Exchange(model, tools, system, GenerationOptions.of(None, **options))
        self.talk, self.scores, self._drawn = Log(label=tr("conversation")), ipywidgets.HTML(), 0.0
        self.prompt = ipywidgets.Text(description=tr("Message"), layout={"width": "auto"})
        self.prompt.on_msg(lambda _, content, __: self.ask() if content.get("event") == "submit" else None)
        actions = {"Send": self.ask, "Stop": self.stop, "Regenerate": self.regenerate}
        rates = {"Good answer": lambda: self.rate("good"), "Bad answer": lambda: self.rate("bad")}
        self.row = buttons({**actions, "Token probabilities": lambda: self.work(self._score), **rates})
        title = tr("Chat with {model}", model=f"{model!r}")
        super().__init__(title, [self.talk, self.scores, self.prompt, self.row])

    def ask(self, text: str = "") -> None:
        """Send `text`, or what is typed; the answer comes in a thread, and `wait()` waits for it."""
        said = text or self.prompt.value.strip()
        if not said:
            return self.say("write a message first")
        if not self.busy:
            self.exchange.messages.append({"role": "user", "content": said})
            self.prompt.value = ""
        self.work(self._answer)

    def regenerate(self) -> None:
        """Drop the last answer and write another, with the next seed."""
        if self.busy or not self.exchange.forget_answer():
            return self.say("there is no answer to write again")
        options = self.exchange.options
        self.exchange.options = GenerationOptions.of(options, seed=(options.seed or 0) + 1)
        self.work(self._answer)

    def rate(self, verdict: str) -> None:
        """Record a verdict, "good" or "bad", on the last answer; the file stays on this machine."""
        said = f"recorded as {verdict} in {{path}}"
        self.work(lambda: self.say(said, path=self.exchange.record(verdict)))

    def _answer(self) -> None:
        self.scores.value = ""
        self.say("at work: Stop ends it")
        try:
            reply = self.exchange.answer(self.stopping, self._show)
        finally:
            self.talk.busy = False
        if self.stopping.is_set():
            return self.say("stopped after {n} tokens; the engine is idle", n=reply.timing.tokens)
        greedy = self.exchange.options.temperature == 0
        self.say(f"{reply.timing}{tr('; greedy, so Regenerate writes the same again') * greedy}")

    def _show(self, text: str | None) -> None:
        """Show all messages and, where a turn grows, its text: at most ten times a second."""
        if text and time.perf_counter() - self._drawn > PACE_S:
            self.talk.tail, self._drawn = plain(text), time.perf_counter()
        if not text:
            with self.talk.hold_sync():  # one message to the browser, not three
                self.talk.busy, self.talk.tail = text is not None, ""
                alias = self.exchange.model.card.alias
                self.talk.blocks = [*self._blocks(), *([[alias, ""]] if text is not None else [])]

    def _blocks(self) -> list[list[str]]:
        names = {"user": tr("you"), "assistant": self.exchange.model.card.alias, "tool": tr("tool")}
        kept = [m for m in self.exchange.messages if m["role"] in names]
        return [[names[m["role"]], plain(_said(m))] for m in kept]

    def _score(self) -> None:
        found = self.exchange.token_scores()
        style = "white-space:pre-wrap;line-height:2.6"
        tokens = "".join(map(_ruby, found))
        self.scores.value = (
            f'<div style="{style}" role="group" aria-label="{tr("token probabilities")}">{tokens}</div>'
        )
        self.say("above each token: its probability [%] after all before it; underlined where below 50 %")

    def __repr__(self) -> str:
        turns = [f"{name}: {text}" for name, text in self._blocks()]
        return plain("\n".join([self.title, *turns, self.said]).rstrip(), SHOWN)


def _said(message: Message) -> str:
    calls = (call["function"] for call in message.get("tool_calls", ()))
    return "\n".join(filter(None, [message["content"], *(f"→ {c['name']}({c['arguments']})" for c in calls)]))


def _ruby(score: TokenScore) -> str:
    chance, tag = math.exp(score.logprob), "u" if math.exp(score.logprob) < DOUBT else "span"
    seen = score.text if score.text.strip(" ") else score.text.replace(" ", "␣")
    text = html.escape(plain(seen)).replace("\n", "↵\n")
    return f'<{tag}><ruby>{text}<rt style="font-size:.75em;padding:0 .4em">{100 * chance:.0f}</rt></ruby></{tag}>'
