"""What models and tools say is shown as text, and a frame works in a thread without losing an error."""

import json
import threading
import time

import pytest

from labkit.errors import OptionInvalid
from labkit.testing import finish, watch
from labkit.widgets.frame import Frame, buttons
from labkit.widgets.log import LONGEST, SCRIPT, STYLE, Log, plain


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x08c\x7f", "abc"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("cut off \x1b[", "cut off "),
        ("\u202eright to left", "\u202eright to left"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_terminal_codes_are_dropped_and_all_else_is_kept(said: str, shown: str) -> None:
    assert plain(said) == shown


@pytest.mark.parametrize("million", ["x" * 10**6, "\x1b[" * 500_000, "\x1b]" * 500_000, "\n" * 10**6])
def test_a_million_characters_are_cut_and_said_to_be(million: str) -> None:
    shown = plain(million)
    assert len(shown) < LONGEST + 100
    assert shown.endswith(f" … ({10**6 - LONGEST:,} more characters)")


def test_a_log_puts_text_into_the_page_as_text_only() -> None:
    assert "textContent" in SCRIPT
    assert not any(word in SCRIPT for word in ("innerHTML", "insertAdjacentHTML", "eval", "outerHTML"))


def test_nothing_moves_by_itself_and_colours_are_the_theme_s() -> None:
    assert not any(word in STYLE for word in ("animation", "transition", "@keyframes", "#"))


def test_a_log_is_small() -> None:
    assert len(json.dumps(Log().get_state(drop_defaults=True))) < 3_000


def test_a_frame_says_an_expected_error_and_lets_finish_find_another() -> None:
    def refuse() -> None:
        raise OptionInvalid("no <b>such</b> thing", fix="another one")

    def break_down() -> None:
        raise ZeroDivisionError("by zero")

    before = threading.excepthook
    try:
        watch()
        frame = Frame("a frame", [])
        frame.work(refuse)
        frame.wait()
        assert frame.said == "no <b>such</b> thing\n  → another one"
        finish()
        threading.excepthook, hook = lambda args: None, threading.excepthook
        frame.work(break_down)
        frame.wait()
        assert frame.said == "ZeroDivisionError: by zero"
        threading.excepthook = hook
    finally:
        threading.excepthook = before


def test_a_frame_does_one_thing_at_a_time_and_stops_when_told() -> None:
    frame = Frame("a frame", [])
    done: list[str] = []
    frame.work(lambda: done.append("stopped" if frame.stopping.wait(30) else "not stopped"))
    frame.work(lambda: done.append("second"))
    assert frame.said.startswith("still at work")
    frame.stop()
    assert frame.said == "stopping …"
    frame.wait()
    assert done == ["stopped"] and not frame.busy
    frame.stop()
    assert frame.said == "nothing to stop"


def test_a_frame_shows_escaped_text_without_a_front_end() -> None:
    frame = Frame("<img src=x onerror=alert(1)>", [])
    bundle = frame._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "<img src=x onerror=alert(1)>"
    assert "<img" not in bundle["text/html"] and "<img" not in frame.children[0].value


def test_buttons_are_words_that_act() -> None:
    pressed: list[str] = []
    row = buttons({"One": lambda: pressed.append("1"), "Two": lambda: pressed.append("2")}).children
    assert [button.description for button in row] == ["One", "Two"]
    row[1].click()
    row[0].click()
    assert pressed == ["2", "1"]


def test_the_names_in_the_package_are_found_late() -> None:
    import labkit.widgets as widgets

    assert dir(widgets) == sorted(widgets.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = widgets.Nothing
    began = time.perf_counter()
    assert widgets.Timeline is widgets.Timeline and time.perf_counter() - began < 30
