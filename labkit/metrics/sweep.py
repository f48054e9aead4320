"""The same bench at every point of a grid (engines × variants × threads × contexts), each in a fresh process.

Records are appended to a file as they come, and a point whose record is in it is not run again: a sweep that was
stopped goes on where it stopped. With Ray the same points run on the machines of a cluster.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from labkit.errors import EngineUnavailable, LabkitError
from labkit.metrics import records
from labkit.metrics.records import Record

RETRIES = 3

Point = dict[str, Any]
Result = Record | str


def grid(
    name: str,
    engines: Sequence[str] = ("auto",),
    variants: Sequence[str | None] = (None,),
    threads: Sequence[int | None] = (None,),
    contexts: Sequence[int | None] = (None,),
    **work: Any,
) -> list[Point]:
    """Return every combination as keywords of `bench`; None leaves the choice to the engine."""
    axes = ("engine", "variant", "threads", "context")
    points = (
        dict(zip(axes, values, strict=True)) for values in product(engines, variants, threads, contexts)
    )
    return [
        {"name": name, **work, **{k: value for k, value in point.items() if value is not None}}
        for point in points
    ]


def sweep(
    points: Sequence[Point],
    path: Path | str,
    *,
    ray: str | None = None,
    progress: Callable[[Point, Result], object] = lambda point, result: None,
) -> tuple[list[Record], list[tuple[Point, str]]]:
    """Measure all points that `path` lacks; return the records of all, in their order, and (point, why skipped).

    `ray` is the address of a cluster: "auto", "host:port", or "local" for one on this machine. `progress` is called
    after each point. Raises `StorageFailed`, and `EngineUnavailable` where Ray is asked for and not installed.
    """
    path, skipped = Path(path), list[tuple[Point, str]]()
    records.write(path, [])  # a file that cannot be written is found before any work is done
    known = {_key(r.about["point"]): r for r in records.read(path) if "point" in r.about}
    todo = [point for point in points if _key(point) not in known]
    runs = _on_ray(todo, ray) if ray else ((point, run_point(point)) for point in todo)
    for point, result in runs:
        if isinstance(result, Record):
            result = replace(result, about={**result.about, "point": point})
            records.write(path, [result])
            known[_key(point)] = result
        else:
            skipped.append((point, result))
        progress(point, result)
    return [known[_key(point)] for point in points if _key(point) in known], skipped


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


def run_point(point: Point, module: str = __name__, timeout: float | None = None) -> Result:
    """Measure one point in a process of its own; return its record, or in words why there is none.

    The process is `python -m module POINT FILE`; `timeout` is seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "record.jsonl"
        command = [sys.executable, "-P", "-m", module, json.dumps(point), str(out)]
        try:
            child = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True,
                encoding="utf-8", errors="replace", timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it took longer than {timeout:g} s"
        if child.returncode == 0:
            return records.read(out)[0]
    said = child.stderr.strip().splitlines()
    return said[-1] if said else f"the process ended with {child.returncode}"


def _on_ray(points: Sequence[Point], address: str) -> Iterator[tuple[Point, Result]]:
    try:
        import ray
    except ImportError as exc:
        raise EngineUnavailable("ray is not installed", fix="pip install 'labkit[ray]'") from exc
    ray.init(address=address, log_to_driver=False)
    try:
        most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
        task, waiting = ray.remote(max_retries=RETRIES)(run_point), dict[Any, Point]()
        for point in points:
            cpus = point.get("threads", 1)
            if cpus > most:  # Ray would wait for such a machine for ever
                yield point, f"no machine of the cluster has {cpus} cores"
            else:
                waiting[task.options(num_cpus=cpus).remote(point)] = point
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            point = waiting.pop(done)
            try:
                yield point, ray.get(done)
            except ray.exceptions.RayError as error:
                yield point, f"given up after {RETRIES} more tries: {type(error).__name__}"
    finally:
        ray.shutdown()


def main(task: str, out: str) -> int:
    """Bench one point in this process; print a `LabkitError`'s reason."""
    from labkit.metrics.bench import bench

    try:
        records.write(out, [bench(**json.loads(task))])
    except LabkitError as error:
        print(" ".join(error.what.split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
