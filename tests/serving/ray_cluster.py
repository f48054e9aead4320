"""Kill a node of a local Ray cluster under load, and tell what became of the requests before, meanwhile and after.

python tests/serving/ray_cluster.py     records it for lab 20
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labkit.engines.process import free_port
from labkit.metrics.load import FATES, measure
from labkit.metrics.records import Record
from labkit.serving import ray_app
from labkit.serving.settings import Backend, Settings
from labkit.serving.simulation import Autoscale

RECORDING = Path(__file__).parents[2] / "datasets" / "ray_serve" / "node_killed.jsonl"
PROMPTS = [[{"role": "user", "content": f"Say these {n} words again, one after the other"}] for n in range(8)]


def node_killed(state: Path, requests: int = 60) -> dict[str, tuple[Record, int]]:
    """Return a record of load for each phase, and the replicas that ran at its end."""
    from ray.cluster_utils import Cluster

    found = dict[str, tuple[Record, int]]()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = [cluster.add_node(num_cpus=1)]
        cluster.wait_for_nodes()
        backend = Backend("echo", "echo", options={"delay": 0.05})
        settings = Settings(
            port=free_port(), backends=(backend,), state=str(state), cache="off", requests_per_minute=0
        )
        scale = Autoscale(least=1, most=2, ongoing=2, up_after=0, down_after=600)
        url = ray_app.start(settings, scale, address=cluster.address)

        def load(kill: bool = False) -> Record:
            done: list[float] = []

            def progress() -> None:
                done.append(time.monotonic())
                if kill and doomed and len(done) == requests // 3:
                    cluster.remove_node(doomed.pop(), allow_graceful=False)

            return measure(
                f"{url}/v1",
                PROMPTS,
                concurrency=8,
                requests=requests,
                timeout=120,
                warmup=0,
                progress=progress,
            )

        found["one replica, then two"] = load(), wait_for_replicas(2)
        found["a node is killed"] = load(kill=True), replicas()
        wait_for_replicas(1)
        found["afterwards"] = load(), replicas()
    finally:
        ray_app.stop()
        cluster.shutdown()
    return found


def replicas() -> int:
    """Return how many replicas run now."""
    from ray import serve

    states = serve.status().applications[ray_app.NAME].deployments["gateway"].replica_states
    return int(states.get("RUNNING", 0))


def wait_for_replicas(count: int, seconds: float = 300) -> int:
    """Wait until so many run."""
    return until(lambda: replicas() == count, seconds) and count


def until(truth: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, f"not true within {seconds:g} s"
        time.sleep(0.2)
    return True


def line(phase: str, record: Record, running: int) -> dict[str, Any]:
    """Return what lab 20 shows of a phase."""
    fates = {fate: int(record.figures[fate]) for fate in FATES}
    return {"phase": phase, **fates, "replicas_at_end": running}


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        phases = node_killed(Path(folder), 200)
    lines = [json.dumps(line(phase, *seen)) for phase, seen in phases.items()]
    RECORDING.parent.mkdir(exist_ok=True)
    RECORDING.write_text("\n".join(lines) + "\n", "utf-8")
    print(*lines, sep="\n")
