"""Two pages of figures give rates and percentiles; `labkit serve top` shows them."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from running_gateway import wait_for
from typer.testing import CliRunner

from labkit.cli.main import app
from labkit.cli.top import table
from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.metrics.live import Live
from labkit.serving.figures import Figures, Step, fetch, steps
from labkit.serving.telemetry import SECONDS, Telemetry


def read(telemetry: Telemetry) -> Figures:
    return Figures.read(telemetry.page().decode())


def test_figures_are_summed_by_a_label() -> None:
    telemetry = Telemetry()
    for status, role in ((200, "student"), (200, "admin"), (503, "student")):
        telemetry.request("/v1/models", role).end(status)
    figures = read(telemetry)
    assert figures.by("status", "labkit_requests_total") == {"200": 2, "503": 1}
    assert figures.by("user_role", "labkit_requests_total") == {"student": 2, "admin": 1}
    assert figures.by("none", "labkit_requests_total") == {"": 3}
    assert figures.total("labkit_requests_total") == 3 and figures.total("labkit_nothing") == 0


def test_what_grew_is_told_also_after_a_restart() -> None:
    telemetry = Telemetry()
    telemetry.thumb("up")
    before = read(telemetry)
    telemetry.thumb("up")
    telemetry.thumb("down")
    assert read(telemetry).since(before).by("vote", "labkit_thumbs_total") == {"up": 1, "down": 1}
    restarted = Telemetry()
    restarted.tokens(completion=3)
    before = read(telemetry)
    assert read(restarted).since(before).total("labkit_tokens_total") == 3
    telemetry.tokens(completion=9)
    assert read(restarted).since(read(telemetry)).total("labkit_tokens_total") == 3, "3 < 9: it began anew"


def test_a_percentile_is_in_the_bucket_where_the_true_one_is() -> None:
    telemetry, values = Telemetry(), np.random.default_rng(0).lognormal(-2, 1, 2000)
    for value in values:
        telemetry.ttft.observe(value)
    for share in (0.1, 0.5, 0.9, 0.99):
        true, told = (
            float(np.percentile(values, 100 * share)),
            read(telemetry).quantile(share, "labkit_ttft_seconds"),
        )
        place = int(np.searchsorted(SECONDS, true))
        assert (0, *SECONDS)[place] <= told <= SECONDS[place]


def test_percentiles_at_the_edges() -> None:
    telemetry = Telemetry()
    assert math.isnan(read(telemetry).quantile(0.5, "labkit_ttft_seconds")), "nothing was observed"
    assert math.isnan(read(telemetry).quantile(0.5, "labkit_nothing"))
    telemetry.ttft.observe(0.03)
    assert read(telemetry).quantile(1.0, "labkit_ttft_seconds") == pytest.approx(0.05)
    telemetry.ttft.observe(1e9)
    assert read(telemetry).quantile(1.0, "labkit_ttft_seconds") == SECONDS[-1], "beyond the last bound"


def test_steps_tell_what_passed_between_two_looks() -> None:
    telemetry = Telemetry()
    looks = [(0.0, read(telemetry))]
    for wait in (1.0, 3.0):
        telemetry.ttft.observe(wait)
    telemetry.request("/v1/models", "student").end(503)
    telemetry.queue_depth.set(4)
    telemetry.action_on.labels("shed_load").set(1)
    looks += [(3.0, read(telemetry)), (6.0, read(telemetry))]
    assert steps(looks) == [Step(3.0, 4, 2, 2.0, 1, ("shed_load",)), Step(6.0, 4, 0, 0.0, 0, ("shed_load",))]
    assert str(steps(looks)[0]).endswith(
        "4 wait;  2 answered after  2.0 s,  1 turned away; in force: shed_load"
    )
    assert steps(looks[:1]) == []


@pytest.mark.parametrize(
    "page", ["", "vllm:num_requests_running 1\n", "<html>", "a{b\n", "labkit_requests_running x\n"]
)
def test_another_page_is_refused(page: str) -> None:
    with pytest.raises(EngineUnavailable):
        Figures.read(page)


def test_the_table_says_what_is_and_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    telemetry = Telemetry()
    before = read(telemetry)
    with telemetry.request("/v1/models", "student", "anna") as request, request.engine("one") as attempt:
        request.first()
        attempt.usage(10, 20)
    telemetry.backend("one", True, 5_000_000)
    telemetry.backend("two", False)
    telemetry.action_on.labels("shed_load").set(1)
    now = read(telemetry)
    Console(width=100).print(table("http://here", now, now.since(before), 2.0))
    said = capsys.readouterr().out
    for words in (
        "200 0.5/s",
        "completion 10.0/s",
        "one up 5 MB",
        "two DOWN 0 MB",
        "shed_load",
        "1 in ten minutes",
    ):
        assert words in said, said
    Console(width=100).print(table("http://here", before, before.since(before), 2.0))
    said = capsys.readouterr().out
    assert "nan" not in said and "none in force" in said


def test_a_gateway_is_watched_from_the_command_line(start: Callable[..., Any]) -> None:
    running = start("echo=echo")
    live = Live(running.url)
    live.scrape()
    assert running.chat("Hello").status_code == 200
    time.sleep(0.1)
    seen = live.scrape()  # what the widget LiveMetrics draws
    assert (
        seen["running"] >= 0 and seen["waiting"] == 0 and seen["server_ttft"] > 0 and seen["token_rate"] > 0
    )
    # The gateway looks at its backends once a second.
    wait_for(lambda: fetch(running.url).by("backend", "labkit_backend_up") == {"echo": 1})
    done = CliRunner().invoke(app, ["serve", "top", running.url, "--every", "0.2", "--looks", "2"])
    assert done.exit_code == 0, done.output
    assert running.url in done.output and re.search(r"backends\W+echo up", done.output), done.output


def test_where_no_gateway_is_top_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["serve", "top", "http://127.0.0.1:1"])
    assert done.exit_code == 1 and "gives no figures" in done.output + done.stderr
    with pytest.raises(OptionInvalid):
        fetch("no url")
    monkeypatch.setenv("MY_KEY", "secret")
    with pytest.raises(OptionInvalid, match="without encryption") as caught:
        fetch("http://elsewhere.example", "MY_KEY")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", "not\nallowed")
    with pytest.raises(EngineUnavailable) as refused:
        fetch("http://127.0.0.1:1", "MY_KEY")
    assert "allowed" not in str(refused.value)


def test_figures_need_an_admin_s_key_where_keys_are(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start("echo=echo", keys=True)
    _, admin = running.gateway.keys.add("boss", "admin")
    _, student = running.gateway.keys.add("anna", "student")
    for key, fine in ((admin, True), (student, False), ("", False)):
        monkeypatch.setenv("MY_KEY", key)
        if fine:
            assert fetch(running.url, "MY_KEY").total("labkit_requests_running") >= 0
        else:
            with pytest.raises(EngineUnavailable, match="gives no figures"):
                fetch(running.url, "MY_KEY")
