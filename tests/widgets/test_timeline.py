"""The timeline shows text and an SVG, with or without a front end."""

from labkit.types import Reply, Timing, Usage
from labkit.widgets import Timeline


def reply(stamps: tuple[float, ...], total: float) -> Reply:
    return Reply("", (), "stop", Usage(100, len(stamps), 20), Timing(stamps, len(stamps), total))


def test_a_bundle_has_text_and_a_picture() -> None:
    bundle = Timeline(reply((0.5, 0.6, 0.7), 1.0))._repr_mimebundle_()
    assert bundle["text/plain"].startswith("[" + "." * 30 + "|" * 30 + "] 1000 ms")
    assert "read 100 tokens (20 from the cache) in 500.0 ms" in bundle["text/html"]
    assert 'role="img"' in bundle["text/html"]
    assert 'width="320.0"' in bundle["text/html"]


def test_it_stays_small_however_long_the_answer() -> None:
    stamps = tuple(i / 1000 for i in range(1, 5001))
    assert len(Timeline(reply(stamps, 5.0))._repr_mimebundle_()["text/html"]) < 8_000


def test_its_labels_never_stand_on_each_other() -> None:
    for first, writing in ((0.001, "54.0"), (0.5, "322.0"), (0.99, "586.0")):
        assert f'x="{writing}" y="10"' in Timeline(reply((first, 1.0), 1.0))._html()


def test_one_token_has_no_pace() -> None:
    assert "nan" not in repr(Timeline(reply((0.1,), 0.2)))


def test_no_output_at_all_is_drawn_as_waiting() -> None:
    bundle = Timeline(reply((), 0.2))._repr_mimebundle_()
    assert "|" not in bundle["text/plain"].splitlines()[0]
    assert 'width="640.0"' in bundle["text/html"]
