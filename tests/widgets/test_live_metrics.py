"""Live figures come from replies, from a server's page and from the machine; a view sends few messages."""

import json
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ipywidgets.embed import dependency_state

from labkit.engines.base import Model
from labkit.engines.registry import load
from labkit.errors import EngineUnavailable, OptionInvalid
from labkit.metrics.cases import data_folder
from labkit.metrics.live import Live, read_page
from labkit.metrics.records import METRICS, read
from labkit.widgets import LiveMetrics
from labkit.widgets.sparklines import NAMES, SCRIPT, draw, lines

LLAMA = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
llamacpp:tokens_predicted_total {tokens}
llamacpp:requests_processing 2
llamacpp:requests_deferred 3
"""


class Page:
    """Serve one text at /metrics."""

    def __init__(self, text: str) -> None:
        self.text, self.url, self.server = text, "", None


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page(LLAMA.format(tokens=100))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            body = page.text.encode()
            self.send_response(200 if self.path == "/metrics" and body else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        page.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield page
        server.shutdown()
        thread.join()


@pytest.fixture
def slow() -> Iterator[Model]:
    with load("nano", "echo", script=["one two three four five six " * 5] * 4, delay=0.02) as model:
        yield model


def press(live: LiveMetrics, name: str) -> None:
    row = next(child for child in live.children if type(child).__name__ == "HBox")
    next(button for button in row.children if button.description == name).click()


def test_a_view_of_a_reply_sends_few_messages_and_knows_every_token(slow: Model, tmp_path: Path) -> None:
    with LiveMetrics(slow, hertz=10, folder=tmp_path) as live:
        began = time.perf_counter()
        reply = slow.chat("go")
        took = time.perf_counter() - began
    figures = live.live.window()
    assert figures["ttft"] == [reply.timing.ttft]
    assert figures["itl"] == pytest.approx(list(reply.timing.itl))
    assert figures["kv_tokens"] == [reply.usage.total_tokens]
    assert 0 < live.messages <= 10 * took + 5, "one picture a look, and no message for each token"
    assert vars(slow).get("stream") is None, "the model is left as it was"
    press(live, "Save figures")
    (path,) = tmp_path.glob("*.jsonl")
    (record,) = read(path)
    assert record.samples["itl"] == figures["itl"] and record.about["engine"] == "echo"
    assert str(path) in live.said


def test_nano_s_speed_is_seen() -> None:
    with load("nano", "llamacpp", threads=1) as model:
        live = Live()
        live.attach(model)
        live.look()
        reply = model.chat("Hello!", max_tokens=48, ignore_eos=True)
        time.sleep(0.1)  # a rate over less than 50 ms is not given
        live.look()
        figures = live.window()
        assert len(figures["itl"]) == reply.timing.tokens - 1
        assert figures["token_rate"][-1] > 0 and figures["rss"][-1] > 10_000_000


def test_who_waits_and_who_is_answered_is_counted(slow: Model) -> None:
    live = Live()
    live.attach(slow)
    both = [threading.Thread(target=slow.chat, args=("go",)) for _ in range(2)]
    for thread in both:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in both):
        live.look()
        seen.add((live.window()["running"][-1], live.window()["waiting"][-1]))
        time.sleep(0.02)
    live.look()
    assert (1, 1) in seen, "one stream at a time: the other waits"
    assert (live.window()["running"][-1], live.window()["waiting"][-1]) == (0, 0)


def test_an_answer_that_is_broken_off_is_no_longer_counted(slow: Model) -> None:
    live = Live()
    live.attach(slow)
    stream = slow.stream("go")
    next(stream)
    live.look()
    stream.close()
    live.look()
    assert live.window()["running"] == [1, 0]


def test_a_second_view_takes_the_model_over(slow: Model) -> None:
    first = LiveMetrics(slow, hertz=10)
    with LiveMetrics(slow, hertz=10) as second:
        first.wait(5)
        assert not first.busy and first.said == "another view watches this model now"
        slow.chat("go", max_tokens=3)
    assert second.live.window()["ttft"] and "ttft" not in first.live.window()


def test_pause_sends_nothing_and_go_on_watches_again(slow: Model) -> None:
    live = LiveMetrics(slow, hertz=10)
    press(live, "Pause")
    live.wait()
    sent = live.messages
    time.sleep(0.4)
    assert live.messages == sent and live.said == "paused"
    press(live, "Go on")
    assert live.busy
    press(live, "Pause")
    press(live, "Go on")
    assert live.busy and live.said == "watching", "a pause that has just begun is no obstacle"
    live.stop()
    live.wait()


def test_a_view_that_is_closed_ends() -> None:
    live = LiveMetrics(hertz=10)
    live.close()
    live.wait(5)
    assert not live.busy


def test_vllm_s_page_is_read() -> None:
    page = read_page((data_folder("vllm") / "metrics.txt").read_text("utf-8"))
    figures = Live("http://vllm:8000").figures(page)
    assert figures["running"] == 8 and figures["waiting"] == 4
    assert 0 < figures["kv_cache_usage"] < 1


def test_means_and_rates_are_those_since_the_page_before() -> None:
    name = "vllm:time_to_first_token_seconds"
    text = 'vllm:generation_tokens_total{{engine="0"}} {}\n{}_sum{{a="}} 1"}} {}\n{}_count{{}} {}\n'
    live = Live("http://vllm:8000/metrics")
    assert "server_ttft" not in live.figures(read_page(text.format(10, name, 5.0, name, 10)))
    time.sleep(0.1)
    figures = live.figures(read_page(text.format(30, name, 5.5, name, 12)))
    assert figures["server_ttft"] == pytest.approx(0.25)
    assert 0 < figures["token_rate"] <= 20 / 0.1


def test_engines_of_one_server_are_summed_and_bad_lines_are_passed_over() -> None:
    page = 'a_total{e="0"} 1\na_total{e="1"} 2 1700000000\nb NaN\n# a_total 9\nc{\n\x00\nd five\n'
    found = read_page(page + 'vllm:kv_cache_usage_perc{e="0"} 0.2\nvllm:kv_cache_usage_perc{e="1"} 0.7\n')
    assert found["a_total"] == 3 and found["vllm:kv_cache_usage_perc"] == 0.7
    assert "c" not in found and "d" not in found


def test_a_server_that_goes_away_is_a_remark_and_one_that_never_was_an_error(page: Page) -> None:
    with LiveMetrics(page.url, hertz=10) as live:
        live.live.look()
        assert live.live.window()["waiting"][-1] == 3
        page.text = ""
        deadline = time.monotonic() + 20
        while "gives no metrics" not in live.said and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "gives no metrics" in live.said and live.busy
    page.text = "something_else 1\n"
    with pytest.raises(EngineUnavailable, match="no metrics of vLLM or llama.cpp"):
        LiveMetrics(page.url)
    with pytest.raises(EngineUnavailable, match="gives no metrics"):
        LiveMetrics("http://127.0.0.1:1/<script>")


def test_llama_cpp_s_server_is_watched_through_its_page() -> None:
    pytest.importorskip("xllamacpp")
    with load("nano", "llamaserver", threads=1, slots=1) as model:
        live = Live(model.engine.metrics_url)  # type: ignore[attr-defined]
        live.scrape()
        model.chat("Hello!", max_tokens=16, ignore_eos=True)
        time.sleep(0.1)
        figures = live.scrape()
    assert figures["running"] == figures["waiting"] == 0 and figures["token_rate"] > 0


def test_files_that_cannot_be_written_are_said(slow: Model, tmp_path: Path) -> None:
    with LiveMetrics(slow, folder=tmp_path / "none") as live:
        for name in ("Save figures", "Save SVG"):
            press(live, name)
            assert "cannot be written" in live.said or "cannot write" in live.said


def test_the_picture_is_saved_as_svg_and_the_browser_s_png_as_it_comes(slow: Model, tmp_path: Path) -> None:
    with LiveMetrics(slow, folder=tmp_path) as live:
        slow.chat("go", max_tokens=3)
    press(live, "Save SVG")
    (path,) = tmp_path.glob("*.svg")
    assert ET.fromstring(path.read_text("utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
    press(live, "Save PNG")
    assert "browser" in live.said
    live.picture._handle_custom_msg({}, [memoryview(b"\x89PNG")])
    (path,) = tmp_path.glob("*.png")
    assert path.read_bytes() == b"\x89PNG"


def test_a_picture_says_in_words_what_it_shows() -> None:
    window = {"token_rate": [0.0, 1234.0], "itl": [0.001, 0.002, 0.003], "memory_used": [5e9]}
    assert lines(window)[0] == ("speed", "1,234 tokens/s", "0 to 1,234 tokens/s")
    assert lines(window)[1] == ("ITL", "median 2.00 ms", "0 to 3.00 ms, 3 gaps")
    picture = ET.fromstring(draw(window))
    assert picture.attrib["role"] == "img" and "speed 1,234 tokens/s" in picture.attrib["aria-label"]
    assert "nothing measured yet" in ET.fromstring(draw({})).attrib["aria-label"]


def test_a_line_ends_where_its_last_value_is() -> None:
    values = [0.0, 5.0, 5.0, 5.0, 10.0, 2.5]
    path = next(ET.fromstring(draw({"cpu": values})).iter("{http://www.w3.org/2000/svg}path")).attrib["d"]
    start, steps = path.removeprefix("M0 ").split("l")
    moves = [int(n) for n in steps.split()]
    assert sum(moves[::2]) == len(values) - 1
    assert int(start) + sum(moves[1::2]) == -6, "a quarter of the height, which is 24"


def test_every_row_has_a_definition_and_a_name() -> None:
    assert set(NAMES) <= set(METRICS)


def test_a_full_window_is_a_message_of_a_few_kb() -> None:
    noisy = [float(i * 7919 % 100) for i in range(200)]
    assert len(draw({name: noisy for name in NAMES})) < 22_000
    assert len(draw({"cpu": noisy, "rss": [1e9] * 200, "token_rate": noisy, "running": [1.0] * 200})) < 5_000
    assert len(SCRIPT) < 1_600


def test_it_is_text_without_a_front_end_and_small(slow: Model) -> None:
    with LiveMetrics(slow) as live:
        slow.chat("go", max_tokens=5)
    bundle = live._repr_mimebundle_()
    assert "TTFT" in bundle["text/plain"] and "<svg " in bundle["text/html"]
    assert len(json.dumps(dependency_state([live], drop_defaults=True))) + len(json.dumps(bundle)) < 16_000


@pytest.mark.parametrize("chosen", [{"hertz": 11}, {"hertz": 0}, {"points": 201}, {"points": 1}])
def test_a_view_that_would_cost_too_much_is_refused(chosen: dict[str, int]) -> None:
    with pytest.raises(OptionInvalid, match="hertz"):
        LiveMetrics(**chosen)  # type: ignore[arg-type]
