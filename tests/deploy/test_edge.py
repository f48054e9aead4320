"""Edge files are read strictly; nodes go on when they are cut off, and agree again afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from labkit.deploy.cluster import Cluster
from labkit.deploy.edge import read_edge
from labkit.deploy.outbox import Outbox, Record
from labkit.deploy.render import FOLDER
from labkit.deploy.wires import Ports, join
from labkit.errors import OptionInvalid, StorageFailed

SHIPPED = FOLDER / "edge"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the shipped cluster with the engine that repeats what it is told."""
    text = (SHIPPED / "cluster.yaml").read_text().replace("alias: nano", "alias: nano, engine: echo")
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def test_the_shipped_files_are_read() -> None:
    cluster, device = read_edge(SHIPPED / "cluster.yaml"), read_edge(SHIPPED / "device.yaml")
    assert [node.id for node in cluster.nodes] == ["north", "south", "depot"]
    assert cluster.having("stock") == ["north", "depot"]
    assert (device.type, device.nodes[0].models[0].tasks) == ("single-device", ("completion", "tools"))
    assert device.nodes[0].agents[0].model == "nano"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("deployment:", "deploiment:", "deploiment"),
        ("distributed-edge", "star", "type cannot be"),
        ("id: south", "id: north", "an id for each"),
        ("id: south", "id: ../../etc", "is no name"),
        ("model: nano, scenario: service", "model: pico, scenario: service", "asks 'pico'"),
        ("scenario: service", "scenario: bank", "no scenario"),
        ("alias: nano, engine: echo", "alias: gpt-9", "no model"),
        ("engine: echo}", "engine: echo, tasks: [vision]}", "cannot 'vision'"),
        ("engine: echo}", "primary: true}, {alias: pico, primary: true}", "more than one model"),
        ("  coordination:", "  hardware: {gpu: none}\n  coordination:", "hardware"),
        ("sync_every: 0.3", "sync_every: -1", "sync_every cannot be"),
        ("failover: automatic", "failover: [a]", "failover cannot be"),
        ("agents:", "agnets:", "agnets"),
        ("deployment:", "deployment: !!python/object/apply:os.system [ls]\nx:", "no YAML"),
        ("deployment:", "deployment: [\nx:", "no YAML"),
    ],
)
def test_a_wrong_file_is_refused(file: Path, old: str, new: str, said: str) -> None:
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(OptionInvalid, match=said):
        read_edge(file)


def test_no_file_is_an_error_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nothing.yaml"):
        read_edge(tmp_path / "nothing.yaml")


def passed(sender: Outbox, name: str, receiver: Outbox, to: str, confirmed: bool = True) -> None:
    """Send what waits, as two nodes do; the confirmation may be lost."""
    records = sender.waiting(to)
    receiver.take(name, [Record(*json.loads(json.dumps(one))) for one in records])
    if confirmed:
        sender.confirm(to, records)


def test_an_outbox_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    a, b = Outbox(tmp_path / "a.sqlite"), Outbox(tmp_path / "b.sqlite")
    for n in range(120):
        a.add(f"a{n}", "a", {"n": n})
    for confirmed in (False, False, True, False, True, True):
        passed(a, "a", b, "b", confirmed)
    assert not a.waiting("b") and not b.waiting("a")
    assert a.all() == b.all() and len(b.all()) == 120


def test_two_answers_of_one_id_end_as_one_everywhere(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    boxes = {name: Outbox(tmp_path / f"{name}.sqlite") for name in names}
    for name in ("c", "b"):
        boxes[name].add("r/done", name, {"answer": name})
    for name in ("c", "a", "b", "c", "a", "b"):  # whatever the order
        for peer in names:
            if peer != name:
                passed(boxes[name], name, boxes[peer], peer)
    assert {box.get("r/done").body["answer"] for box in boxes.values()} == {"b"}  # type: ignore[union-attr]
    assert not any(boxes[a].waiting(b) for a in names for b in names if a != b)


def test_a_request_waits_until_it_is_answered(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "box.sqlite")
    box.add("r", "a", {"agent": "x", "text": "t"}, target="b")
    assert [one.id for one in box.due("b")] == ["r"] and box.due("a") == []
    box.add("r/done", "b", {})
    assert Outbox(box.path).due("b") == []


@pytest.fixture(params=["ports", pytest.param("namespaces", marks=pytest.mark.heavy)])
def cluster(request: pytest.FixtureRequest, file: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Return the shipped cluster, running; with networks of its own where root may make them."""
    with Cluster(file, tmp_path / "state", namespaces=request.param == "namespaces") as running:
        if request.param == "namespaces" and running.network != "network namespaces":
            pytest.skip(running.network)
        yield running


def answers(cluster: Cluster, node: str) -> dict[str, str]:
    found = [one for one in cluster.records(node) if one.id.endswith("/done")]
    return {one.id.removesuffix("/done"): one.body["answer"] for one in found}


def test_a_cut_off_node_goes_on_and_all_agree_afterwards(cluster: Cluster) -> None:
    assert cluster.ask("north", "repairs", "one", id="r-1")["node"] == "depot"
    cluster.cut("depot")
    assert cluster.ask("north", "stock", "two", id="r-2")["node"] == "north"
    assert cluster.ask("depot", "repairs", "three", id="r-3")["node"] == "depot"
    assert cluster.ask("south", "repairs", "four", id="r-4") == {"queued": "r-4", "for": "depot"}
    assert cluster.ask("south", "repairs", "four", id="r-4") == {"queued": "r-4", "for": "depot"}
    psutil.Process(cluster.processes["south"].pid).kill()  # with a promise in its outbox
    cluster.processes["south"].ended(within=10)
    cluster.start("south")
    cluster.mend("depot")
    assert cluster.in_step()
    for node in cluster.nodes:
        assert answers(cluster, node) == {"r-1": "one", "r-2": "two", "r-3": "three", "r-4": "four"}
    assert cluster.ask("south", "repairs", "four", id="r-4")["answer"] == "four"
    pids = [process.pid for process in cluster.processes.values()]
    cluster.stop()
    assert not any(map(psutil.pid_exists, pids))


def test_a_cut_in_the_middle_of_the_day_loses_nothing_and_doubles_nothing(cluster: Cluster) -> None:
    """Customers keep asking everywhere while the depot is cut off and comes back."""
    day, agents = range(12), ("repairs", "stock", "front-desk")
    asked = [(f"{node}-{n}", node, agents[n % 3]) for n in day for node in cluster.nodes]
    cable, said = threading.Lock(), dict[str, dict[str, Any]]()

    def customer(node: str) -> None:
        for n, (id, _, agent) in enumerate(row for row in asked if row[1] == node):
            if node == "north" and n in (4, 8):
                with cable:
                    (cluster.cut if n == 4 else cluster.mend)("depot")
            said[id] = cluster.ask(node, agent, f"text of {id}", id=id)

    customers = [threading.Thread(target=customer, args=(node,)) for node in cluster.nodes]
    for one in customers:
        one.start()
    for one in customers:
        one.join(240)
    assert len(said) == len(asked) and cluster.in_step()
    right = {id: f"text of {id}" for id, *_ in asked}
    assert all(answers(cluster, node) == right for node in cluster.nodes)
    assert all(found.get("answer", right[id]) == right[id] for id, found in said.items())


def test_an_answer_that_a_cut_held_up_is_not_lost_and_the_work_not_done_again(cluster: Cluster) -> None:
    """The request has reached the depot and its answer cannot come back: the line goes between the two."""
    depot = psutil.Process(cluster.processes["depot"].pid)
    with ThreadPoolExecutor() as pool:
        depot.suspend()  # it takes the request, and does nothing yet
        asking = pool.submit(cluster.ask, "south", "repairs", "mend my lamp", "r-1")
        time.sleep(1.0)
        cluster.cut("depot")
        assert asking.result(60) == {"queued": "r-1", "for": "depot"}
        depot.resume()
        cluster.mend("depot")
        assert cluster.in_step()
    (done,) = [one for one in cluster.records("south") if one.id == "r-1/done"]
    assert (done.node, done.body["answer"]) == ("depot", "mend my lamp")


def test_without_namespaces_there_are_ports_and_it_is_said(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wires = join(["a", "b"], namespaces=True)
    try:
        assert (
            isinstance(wires, Ports) and "separate ports, for want of" in wires.name and "apt" in wires.name
        )
    finally:
        wires.close()


def test_a_node_refuses_what_is_no_request(file: Path, tmp_path: Path) -> None:
    with Cluster(file, tmp_path / "state") as cluster:
        url = cluster.url("north")

        def post(path: str, body: bytes, **headers: str) -> int:
            return httpx.post(url + path, content=body, headers=headers, trust_env=False).status_code

        good = b'{"id": "a", "text": "hi"}'
        assert post("/agents/stock", good) == 200
        assert post("/agents/nobody", good) == 404
        assert post("/agents/stock", good, Origin="https://evil.example") == 400
        for wrong in (
            b"",
            b"[]",
            b"{",
            b"[" * 5000,
            b'{"id": "a/b", "text": "x"}',
            b'{"id": "a", "text": 1}',
        ):
            assert post("/agents/stock", wrong) == 400
        for wrong in (b'{"from": "mallory", "records": []}', b'{"from": "south", "records": [[1]]}', b"{}"):
            assert post("/sync", wrong) == 400
        with pytest.raises(OptionInvalid, match="no node"):
            cluster.cut("moon")


def deploy_up(file: Path, state: Path, ask: Callable[[dict[str, str], Callable[[str], None]], None]) -> None:
    """Run `labkit deploy up`, call `ask` with the nodes' addresses and a way to type a line, and end it by SIGTERM."""
    command = [sys.executable, "-m", "labkit", "deploy", "up", str(file), "--state", str(state)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdin and process.stdout
        urls = dict(process.stdout.readline().split()[:2] for _ in range(3))

        def typed(line: str) -> None:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert process.stdout.readline().split(": ")[0] == line.split()[1]

        ask(urls, typed)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    for url in urls.values():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/ready", trust_env=False)


def request(url: str, agent: str, id: str) -> dict[str, Any]:
    body = {"id": id, "text": "How is order A10001?"}
    return httpx.post(f"{url}/agents/{agent}", json=body, timeout=120, trust_env=False).json()  # type: ignore[no-any-return]


def survives_the_cut(urls: dict[str, str], typed: Callable[[str], None]) -> None:
    assert request(urls["north"], "repairs", "r-1")["node"] == "depot"
    typed("cut depot")
    assert request(urls["north"], "repairs", "r-2") == {"queued": "r-2", "for": "depot"}
    assert request(urls["depot"], "repairs", "r-3")["node"] == "depot"
    typed("mend depot")
    until = time.monotonic() + 60
    while "queued" in (found := request(urls["north"], "repairs", "r-2")) and time.monotonic() < until:
        time.sleep(0.2)
    assert found["node"] == "depot"


def test_deploy_up_starts_serves_survives_the_cut_and_stops_cleanly(file: Path, tmp_path: Path) -> None:
    deploy_up(file, tmp_path / "state", survives_the_cut)


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_deploy_up_runs_the_shipped_example_as_it_is(tmp_path: Path) -> None:
    deploy_up(SHIPPED / "cluster.yaml", tmp_path / "state", survives_the_cut)
