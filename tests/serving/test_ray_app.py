"""The gateway on Ray Serve: replicas follow the load, and a killed node takes down only what it had in hand."""

from pathlib import Path

import pytest

from labkit.errors import EngineUnavailable
from labkit.metrics.load import FATES
from labkit.serving import ray_app
from labkit.serving.settings import Settings
from labkit.serving.simulation import Autoscale


def test_what_was_simulated_is_what_ray_is_told() -> None:
    told = ray_app.autoscaling(Autoscale(2, 9, 3.0, 4.0, 50.0))
    assert told == {
        "min_replicas": 2,
        "max_replicas": 9,
        "target_ongoing_requests": 3.0,
        "upscale_delay_s": 4.0,
        "downscale_delay_s": 50.0,
    }


def test_ray_knows_these_words() -> None:
    config = pytest.importorskip("ray.serve.config", reason="ray is not installed: pip install 'labkit[ray]'")
    known = config.AutoscalingConfig(**ray_app.autoscaling(Autoscale(2, 9, 3.0, 4.0, 50.0)))
    assert (known.min_replicas, known.max_replicas, known.target_ongoing_requests) == (2, 9, 3.0)


def test_without_ray_the_message_says_what_to_install() -> None:
    try:
        import ray.serve  # noqa: F401
    except ImportError:
        with pytest.raises(EngineUnavailable, match="Ray Serve is not installed"):
            ray_app.start(Settings())
    else:
        pytest.skip("ray is installed here")


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("default")
def test_a_cluster_serves_on_though_a_node_dies(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'labkit[ray]'")
    from ray_cluster import node_killed

    phases = node_killed(tmp_path)
    (before, scaled), (killed, _), (after, left) = phases.values()
    for record in (before, killed, after):  # each request has one end, and nobody waits for ever
        assert sum(record.figures[fate] for fate in FATES) == 60
    assert before.figures["ok"] == after.figures["ok"] == 60, (before.about, after.about)
    assert killed.figures["ok"] >= 60 - 2 * 8, killed.about[
        "reasons"
    ]  # what the node had in hand, and what came to it
    assert (scaled, left) == (2, 1)  # the queue called the second one; then there is room for one
