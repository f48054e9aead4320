"""A bench at every point of a grid, in child processes and on a Ray cluster; the engine is echo, which is quick."""

from pathlib import Path
from typing import Any

import pytest

from labkit.errors import EngineUnavailable, LabkitError, StorageFailed
from labkit.metrics import records
from labkit.metrics.sweep import Point, Result, grid, run_point, sweep

QUICK = {"prompt": 4, "generate": 2, "repeat": 1}


def echo(*variants: str, **more: Any) -> list[Point]:
    return grid("nano", ["echo"], variants, **QUICK, **more)


def test_the_grid_has_every_combination() -> None:
    points = grid("nano", ["a", "b"], ["X", "Y"], [1, 2], [512, None], repeat=3)
    assert len(points) == 16 and len({str(point) for point in points}) == 16
    assert points[0] == {
        "name": "nano", "repeat": 3, "engine": "a", "variant": "X", "threads": 1, "context": 512
    }  # fmt: skip
    assert "context" not in points[1]  # left to the engine


def test_a_sweep_that_was_stopped_goes_on_and_says_what_it_skips(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    first, skipped = sweep(echo("F16"), path)
    assert [r.about["variant"] for r in first] == ["F16"] and skipped == []
    seen: list[Point] = []

    def note(point: Point, result: Result) -> None:
        seen.append(point)

    points = echo("F16", "Q8_0", threads=[None, 2])
    found, skipped = sweep(points, path, progress=note)
    assert [(r.about["variant"], r.about["point"]) for r in found] == [
        ("F16", points[0]),
        ("Q8_0", points[2]),
    ]
    assert [point["variant"] for point in seen] == ["F16", "Q8_0", "Q8_0"]  # F16 without threads was there
    assert [point for point, _ in skipped] == [points[1], points[3]]
    assert all("echo has no option 'threads'" in why for _, why in skipped)
    assert len(records.read(path)) == 2 and found[0].samples == first[0].samples
    assert sweep(points[::2], path, progress=lambda *_: pytest.fail("ran again")) == (found, [])


def test_another_setting_is_another_point(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    sweep(echo("F16"), path)
    again = [{**point, "generate": 3} for point in echo("F16")]
    assert len(sweep(again, path)[0]) == 1 and len(records.read(path)) == 2


def test_a_child_that_dies_is_a_reason() -> None:
    reason = run_point({"name": "nano", "nonsense": object.__name__, "engine": "no such engine"})
    assert isinstance(reason, str) and "no engine" in reason


def test_a_file_that_cannot_be_used_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        sweep(echo("F16"), tmp_path / "no" / "folder" / "out.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n", "utf-8")
    with pytest.raises(LabkitError, match="line 1"):
        sweep(echo("F16"), bad)


def test_without_ray_the_message_says_what_to_install(tmp_path: Path) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(EngineUnavailable, match="ray is not installed"):
            sweep(echo("F16"), tmp_path / "out.jsonl", ray="local")
    else:
        pytest.skip("ray is installed here")


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_records_though_a_node_dies(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'labkit[ray]'")
    from ray.cluster_utils import Cluster

    points = echo("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", threads=[None])
    points.append({**points[0], "threads": 64})  # more than any node has
    alone, _ = sweep(points[:-1], tmp_path / "alone.jsonl")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = [cluster.add_node(num_cpus=1)]
        cluster.wait_for_nodes()
        done: list[Point] = []

        def one_node_dies(point: Point, result: Result) -> None:
            done.append(point)
            if doomed and len(done) == 3:
                cluster.remove_node(doomed.pop(), allow_graceful=False)

        found, skipped = sweep(points, tmp_path / "ray.jsonl", ray=cluster.address, progress=one_node_dies)
    finally:
        cluster.shutdown()
    assert not doomed and [r.about["point"] for r in found] == [r.about["point"] for r in alone]
    assert [point for point, _ in skipped] == points[-1:] and "64 cores" in skipped[0][1]
    assert len(done) == len(points) and len(records.read(tmp_path / "ray.jsonl")) == len(points) - 1
