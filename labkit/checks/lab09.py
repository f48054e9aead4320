"""Checks of lab 09, Ollama."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.checks.core import Exercises, Wrong, compare
from labkit.engines.ollama_daemon import STOPS, Daemon
from labkit.engines.ollama_modelfile import create, read_modelfile
from labkit.engines.process import free_port
from labkit.metrics.alerts import Rule, Sample, alerts
from labkit.models.card import ModelCard
from labkit.models.catalog import catalog

MINE = "my-nano"
CONTEXT, FREE = 4096, 3e9
LIMIT = 0.5  # seconds to the first token
lab = Exercises("09")


def _modelfile(daemon: Daemon, text: str) -> str:
    parts = read_modelfile(text)
    given = parts.get("parameters", {})
    if not parts.get("system", "").strip():
        raise Wrong("there is no SYSTEM text: it is the model's standing instruction")
    if given.get("temperature") != 0:
        raise Wrong(f"temperature is {given.get('temperature')}: PARAMETER temperature 0 makes it greedy")
    if not 1 <= int(given.get("num_predict", -1)) <= 64:
        raise Wrong(f"num_predict is {given.get('num_predict')}: PARAMETER num_predict takes 1 to 64 tokens")
    if STOPS[0] not in given.get("stop", ()):
        raise Wrong(f'without PARAMETER stop "{STOPS[0]}" the model may go on after its turn')
    create(daemon, MINE, text)
    with daemon.errors():
        shown = daemon.client.show(MINE)
    return f"{daemon.who} has made {MINE}: {' '.join((shown.parameters or '').split())}"


q1 = lab.add(
    _modelfile,
    hints=(
        "Add lines to the text: SYSTEM, then a sentence; PARAMETER, then a name and a value, one a line.",
        f'The three parameters: temperature 0, num_predict 60, stop "{STOPS[0]}".',
    ),
    code='modelfile = f"""{start}SYSTEM You answer in one short sentence.\nPARAMETER temperature 0\n'
    f'PARAMETER num_predict 60\nPARAMETER stop "{STOPS[0]}"\n"""',
)


def _speed(answer: Any, speed: float) -> str:
    seconds = answer.eval_duration / 1e9
    right = answer.eval_count / seconds
    reasons = {
        right / 1e9: "a duration is in nanoseconds: / 1e9 makes it seconds",
        1 / right: "that is seconds per token: turn it over",
        answer.eval_count / (answer.total_duration / 1e9): "total_duration counts loading and reading, too",
        len((answer.message.content or "").split()) / seconds: "words are not tokens: eval_count has them",
    }
    compare(float(speed), right, reasons, "eval_count / (eval_duration / 1e9)", within=0.005)
    return f"{right:,.0f} tokens per second, by the daemon's own clock"


q2 = lab.add(
    _speed,
    hints=(
        "eval_count is how many tokens were written, eval_duration how long that took.",
        "Ollama's durations are nanoseconds.",
    ),
    code="speed = answer.eval_count / (answer.eval_duration / 1e9)",
)


def need(card: ModelCard) -> float:
    """Return the estimated memory in bytes: the file at Q4_K_M and the KV cache of `CONTEXT` tokens."""
    return card.variant("Q4_K_M").file_bytes + card.kv_bytes(CONTEXT)


def _choice(choice: str) -> str:
    cards = {card.alias: card for card in catalog().values() if "balanced" in card.tasks}
    name = choice.alias if isinstance(choice, ModelCard) else str(choice).strip()
    if name not in cards:
        raise Wrong(f"{name!r:.60} is none of the class: {', '.join(cards)}")
    fitting = {alias: need(card) for alias, card in cards.items() if need(card) <= FREE}
    if name not in fitting:
        raise Wrong(f"{name} needs {need(cards[name]) / 1e9:.2f} GB with its KV cache, and 3 are free")
    if fitting[name] < max(fitting.values()):
        raise Wrong(f"{name} fits, but a larger one does so, too")
    return f"{name}: {fitting[name] / 1e9:.2f} GB (estimated)"


q3 = lab.add(
    _choice,
    hints=(
        "Go through the cards of the class and compare file + KV cache with 3e9.",
        "card.variant('Q4_K_M').file_bytes + card.kv_bytes(4096); of those that fit, take the largest.",
    ),
    code="choice = max((card for card in balanced if need(card) <= 3e9), key=need).alias",
)


def _health(daemon: Daemon, model: str, health: Callable[[str, str, float], str]) -> str:
    nobody = f"http://127.0.0.1:{free_port()}"
    for case, host, name, limit, right in (
        ("where nobody listens", nobody, model, 60.0, "down"),
        ("for a model that is not there", daemon.url, "no-such-model", 60.0, "no model"),
        ("with 60 s of patience", daemon.url, model, 60.0, "ok"),
        ("with no patience at all", daemon.url, model, 0.0, "slow"),
    ):
        try:
            said = health(host, name, limit)
        except Exception as error:
            raise Wrong(f"{case} it raised {type(error).__name__}: a health check must answer") from error
        if said != right:
            raise Wrong(f"{case} it says {said!r:.60}; it should say {right!r}")
    return "ok, slow, no model and down: told apart, and never an exception"


q4 = lab.add(
    _health,
    hints=(
        "client.list() raises ConnectionError where nobody listens. A name without a tag means :latest.",
        "The first token: next(iter(client.chat(model, messages, stream=True))). Take the time around it.",
    ),
    code="def health(host, model, limit):\n    client = ollama.Client(host, trust_env=False)\n    try:\n"
    "        names = [found.model for found in client.list().models]\n    except ConnectionError:\n"
    '        return "down"\n    if model not in names and f"{model}:latest" not in names:\n'
    '        return "no model"\n    began = time.perf_counter()\n'
    "    next(iter(client.chat(model, HELLO, stream=True)))\n"
    '    return "ok" if time.perf_counter() - began <= limit else "slow"',
)


def spell(*values: float) -> list[Sample]:
    """Return samples ten seconds apart, each with its time to first token."""
    return [{"at": 10.0 * place, "ttft": value} for place, value in enumerate(values)]


SICK = spell(0.1, 0.1, 0.9, 0.8, 1.2, 0.9)


def _rule(rule: Rule) -> str:
    if rule.field != "ttft" or rule.limit != LIMIT:
        raise Wrong(f"it is about a ttft over {LIMIT} s; this rule has {rule.field} and {rule.limit:g}")
    if not alerts(SICK, [rule]):
        raise Wrong("it keeps quiet while four of six answers are slow")
    if alerts(spell(0.1, 0.1, 0.1, 0.1, 0.1, 3.0), [rule]):
        raise Wrong("it fires for one slow answer: ask for a larger share")
    if alerts(spell(0.9, 0.8, 1.2, 0.9, *[0.1] * 8), [rule]) or rule.window > 120:
        raise Wrong("it goes on for more than a minute after the last slow answer: a shorter window")
    return f"one slow answer passes, a bad minute does not: {alerts(SICK, [rule])[0]}"


q5 = lab.add(
    _rule,
    hints=(
        "Samples come every 10 s. A window of 60 s holds six or seven of them.",
        "share=0.5 asks for half of the window, least=3 for three samples at all.",
    ),
    code='rule = Rule("ttft", limit=0.5, window=60, share=0.5, least=3)',
)
