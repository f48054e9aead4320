"""What a tool may touch, whatever the model writes into its arguments."""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.agents.permissions import Permissions, query
from labkit.agents.tools import Guarded, Result
from labkit.errors import ToolDenied


def run(function: Callable[..., Any], allow: Permissions, **arguments: Any) -> Result:
    return Guarded(function, allow=allow).start(arguments)()


def read_note(path: str) -> str:
    """Read a note. It trusts the path it is given, as tools do."""
    with open(path) as file:
        return file.read()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with a note and a link that leads out of it; a secret lies beside."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("buy milk")
    (tmp_path / "secret.txt").write_text("1234")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def test_a_file_in_the_folder_is_read(notes: Path) -> None:
    allow = Permissions(read=[notes])
    assert run(read_note, allow, path=f"{notes}/a.txt").text == "buy milk"
    assert run(read_note, allow, path=f"{notes}/../notes/a.txt").ok


@pytest.mark.parametrize(
    "path", ["../secret.txt", "link.txt", "x/../../secret.txt", "/etc/passwd", "//etc/passwd"]
)
def test_paths_that_lead_out_are_refused_and_noted(notes: Path, path: str) -> None:
    told = run(read_note, Permissions(read=[notes]), path=os.path.join(notes, path))
    assert not told.ok and "no permission for reading" in told.text and len(told.denied) == 1
    assert "1234" not in told.text


def test_a_path_with_nul_is_an_error_and_reads_nothing(notes: Path) -> None:
    told = run(read_note, Permissions(read=[notes]), path=f"{notes}/a.txt\0../secret.txt")
    assert not told.ok and "null byte" in told.text


def test_nothing_is_granted_that_was_not_named(notes: Path) -> None:
    assert not run(read_note, Permissions(), path=f"{notes}/a.txt").ok
    assert not run(read_note, Permissions(write=[notes.parent / "other"]), path=f"{notes}/a.txt").ok
    assert read_note(f"{notes}/../secret.txt") == "1234", "only a tool's own thread is held"


def url(address: str) -> Any:
    return urllib.request.urlopen(f"http://{address}:9/", timeout=1)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda p: open(p, "w"), "writing"),
        (lambda p: open(p, "a"), "writing"),
        (lambda p: os.open(p, os.O_RDWR), "writing"),
        (lambda p: Path(p).unlink(), "writing"),
        (lambda p: os.rename(p, p + "x"), "writing"),
        (lambda p: os.chmod(p, 0o777), "writing"),
        (lambda p: os.mkdir(p + "d"), "writing"),
        (lambda p: sqlite3.connect(p), "writing"),
        (lambda p: os.listdir("/"), "reading"),
        (lambda p: os.scandir(), "reading"),
        (lambda p: subprocess.run(["true"]), "processes"),
        (lambda p: os.system("true"), "processes"),
        (lambda p: os.kill(os.getpid(), 0), "processes"),
        (lambda p: url("127.0.0.1"), "the network"),
        (lambda p: socket.create_connection(("127.0.0.1", 9), 1), "the network"),
        (lambda p: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)), "the network"),
        (lambda p: socket.getaddrinfo("secret.example", 80), "the network"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reading_alone_grants_nothing_else(notes: Path, act: Callable[[str], Any], what: str) -> None:
    def tool(path: str) -> str:
        """Do something."""
        act(path)
        return "done"

    told = run(tool, Permissions(read=[notes]), path=f"{notes}/a.txt")
    assert not told.ok and told.denied[0].startswith(what), told
    assert (notes / "a.txt").read_text() == "buy milk"


def test_what_is_granted_works(notes: Path) -> None:
    def save(text: str) -> str:
        """Save a note."""
        (notes / "b.txt").write_text(text)
        return subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, text=True).stdout

    assert run(save, Permissions(write=[notes], processes=True), text="bread").text == "7\n"
    assert (notes / "b.txt").read_text() == "bread"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def ring(port: int) -> None:
            """Open a connection."""
            socket.create_connection(("127.0.0.1", port), 5).close()

        assert run(ring, Permissions(network=True), port=server.getsockname()[1]).ok


def test_a_tool_may_import_what_its_author_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_a_tool.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)

    def ask() -> int:
        """Ask the helper."""
        import helper_of_a_tool  # type: ignore[import-not-found]

        return int(helper_of_a_tool.answer)

    assert run(ask, Permissions()) == Result("42")


def test_two_tools_at_once_keep_their_own_permissions(notes: Path) -> None:
    together = threading.Barrier(2, timeout=20)

    def read_together(path: str) -> str:
        """Read a note, both at once."""
        together.wait()
        return read_note(path)

    free = Guarded(read_together, allow=Permissions(read=[notes])).start({"path": f"{notes}/a.txt"})
    held = Guarded(read_together).start({"path": f"{notes}/a.txt"})
    assert (free().ok, held().ok) == (True, False)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database with two products and a customer's secret."""
    with sqlite3.connect(tmp_path / "shop.db") as made:
        made.execute("create table products (name, price)")
        made.executemany("insert into products values (?, ?)", [("lamp", 20), ("kettle", 30)])
    made.close()
    return tmp_path / "shop.db"


def test_sql_in_an_argument_stays_a_value(shop: Path) -> None:
    def price(product: str) -> Any:
        """Look up a price."""
        return query(shop, "select price from products where name = ?", [product])

    allow = Permissions(read=[shop.parent])
    assert run(price, allow, product="lamp").text == '[{"price": 20}]'
    for attack in ("lamp' or '1'='1", "'; drop table products; --", 'lamp" union select 1 --', "lamp\0", "%"):
        assert run(price, allow, product=attack) == Result("[]"), attack
    assert len(query(shop, "select * from products")) == 2
    assert run(price, Permissions(), product="lamp").denied == (f"reading {str(shop)!r}",)


@pytest.mark.parametrize(
    "sql",
    [
        "drop table products",
        "insert into products values ('x', 1)",
        "update products set price = 0",
        "select 1; drop table products",
        "attach '/tmp/other.db' as other",
        "pragma query_only = 0",
        "pragma writable_schema = 1",
        "vacuum into '/tmp/copy.db'",
        "create temp table x (y)",
        "select load_extension('x')",
        "select zeroblob(1000000000)",
        "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n",
        "select * from nothing",
        "not sql",
        "select '\0'",
    ],
)
def test_a_query_can_only_read(shop: Path, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.agents.permissions.SQL_SECONDS", 0.3)
    before = shop.read_bytes()
    with pytest.raises(ToolDenied, match="SQLite refused"):
        query(shop, sql)
    assert shop.read_bytes() == before


def test_a_query_returns_a_bounded_number_of_rows(shop: Path) -> None:
    many = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n"
    assert len(query(shop, many, rows=7)) == 7
    assert query(shop, "select :a as a", {"a": "'"}) == [{"a": "'"}]
