"""`labkit serve top`: what a gateway does now, in the terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from labkit.serving.figures import Figures


def top(
    url: Annotated[str, typer.Argument(help="The gateway's address.")] = "http://127.0.0.1:8000",
    every: Annotated[float, typer.Option(min=0.2, help="Seconds from look to look.")] = 2.0,
    looks: Annotated[int, typer.Option(min=0, help="End after so many; 0 is never.")] = 0,
    key_env: Annotated[
        str, typer.Option(metavar="NAME", help="The variable that holds an admin's key.")
    ] = "",
) -> None:
    """Show a gateway's requests, tokens, backends and actions until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from labkit.errors import EngineUnavailable
    from labkit.serving.figures import fetch

    console, before, at = Console(), fetch(url, key_env), time.monotonic()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal and not looks) as live:
        for _ in range(looks or sys.maxsize):
            time.sleep(every)
            try:
                now, then = fetch(url, key_env), time.monotonic()
            except EngineUnavailable as error:  # it may come back
                live.update(error.what, refresh=True)
                continue
            live.update(table(url, now, now.since(before), then - at), refresh=True)
            before, at = now, then


def table(url: str, now: Figures, grown: Figures, seconds: float) -> Table:
    """Return what is there, and what came in the last `seconds`."""
    from rich.table import Table

    def rates(label: str, name: str) -> str:
        found = grown.by(label, f"labkit_{name}_total")
        return "   ".join(f"{key} {value / seconds:,.1f}/s" for key, value in sorted(found.items())) or "-"

    def gauge(name: str) -> str:
        return f"{now.total(f'labkit_{name}'):,.0f}"

    up, memory = now.by("backend", "labkit_backend_up"), now.by("backend", "labkit_backend_memory_bytes")
    states = [f"{name} {'up' if up[name] else 'DOWN'} {memory[name] / 1e6:,.0f} MB" for name in sorted(up)]
    on = [name for name, value in now.by("action", "labkit_action_on").items() if value]
    waits = [f"{grown.quantile(share, 'labkit_ttft_seconds') * 1e3:,.0f} ms" for share in (0.5, 0.95)]
    busy = grown.total("labkit_engine_busy_seconds_total") / seconds
    rows = {
        "users": f"{gauge('active_users')} in ten minutes",
        "requests": f"{gauge('requests_running')} in work, {gauge('queue_depth')} of {gauge('queue_limit')} wait",
        "ended": rates("status", "requests"),
        "tokens": rates("kind", "tokens"),
        "TTFT": "-" if "nan" in waits[0] else f"p50 {waits[0]}   p95 {waits[1]} (from buckets)",
        "engines": f"at work {busy:.0%} of the time",
        "tool calls": rates("outcome", "tool_calls"),
        "backends": "\n".join(states) or "-",
        "actions": ", ".join(on) or "none in force",
    }
    drawn = Table(title=f"{url}, {time.strftime('%H:%M:%S')}, the last {seconds:.1f} s", show_header=False)
    for name, text in rows.items():
        drawn.add_row(name, text)
    return drawn
