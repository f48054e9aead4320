"""Lab 15's checks accept every right answer and explain the wrong ones."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from judging import verdict
from mcp.server import MCPServer

from labkit.agents.mcp_shop import SHELVES, make_shop, over_http
from labkit.agents.permissions import query
from labkit.checks.lab15 import CHANGES, TOOL, attempt, post, q1, q2, q3, q4, questions

OK, DENY = sqlite3.SQLITE_OK, sqlite3.SQLITE_DENY


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_shop(tmp_path / "shop.sqlite")


def served(function: Callable[..., Any], register: bool = True) -> tuple[MCPServer, Callable[..., Any]]:
    server = MCPServer("mine", log_level="CRITICAL")
    if register:
        server.tool()(function)
    return server, function


def rows(shop: Path, sql: str, *values: str) -> str:
    with closing(sqlite3.connect(shop)) as opened:
        return str(opened.execute(sql, values).fetchall())


def test_q1_right(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    def find_products(word: str) -> str:
        """Find the products whose name holds a word."""
        sql = "SELECT name FROM products WHERE name LIKE '%' || ? || '%'"
        return json.dumps(query(shop, sql, [word]))

    def search(part: str) -> list[str]:
        """Search."""
        names = [name for shelf in SHELVES.values() for name in shelf]
        return [name for name in names if part in name]

    for right in (find_products, search):
        state, said = verdict(q1, capsys, *served(right))
        assert state == "right", said
    assert verdict(q1, capsys, MCPServer("mine"), ...)[0] == "not attempted"


def test_q1_wrong(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    def leaks(word: str) -> str:
        """Find."""
        return rows(shop, f"SELECT name, price FROM products WHERE name LIKE '%{word}%'")

    def breaks(word: str) -> str:
        """Find."""
        if "UNION" in word:
            raise ValueError("refused")
        return rows(shop, f"SELECT name FROM products WHERE name LIKE '%{word}%'")

    def everything(word: str) -> str:
        """Find."""
        return rows(shop, "SELECT name FROM products")

    def wordless(word: str) -> str:
        return ""

    def crashes(word: str) -> str:
        """Find."""
        raise RuntimeError("no such table")

    def counts(n: int) -> str:
        """Find."""
        return str(n)

    for wrong, said in (
        (leaks, "phone numbers"),
        (breaks, "apostrophe"),
        (everything, "nothing without milk"),
        (wordless, "docstring"),
        (crashes, "for 'milk' it says"),
        (counts, "types only"),
    ):
        state, text = verdict(q1, capsys, *served(wrong))
        assert (state, said in text) == ("wrong", True), text
    assert "@mine.tool()" in verdict(q1, capsys, *served(leaks, register=False))[1]


def words(tool: dict[str, Any]) -> list[Any]:
    return [tool["name"], tool["description"], tool["inputSchema"]]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_q2(capsys: pytest.CaptureFixture[str]) -> None:
    for right in (
        lambda tool: sha(json.dumps(words(tool), sort_keys=True)),
        lambda tool: sha(json.dumps(tool, sort_keys=True)),
        lambda tool: hashlib.blake2b(json.dumps(tool, sort_keys=True).encode()).digest(),
        lambda tool: hashlib.md5(
            "\n".join(sorted(json.dumps(w, sort_keys=True) for w in words(tool))).encode()
        ).hexdigest(),
    ):
        assert verdict(q2, capsys, right)[0] == "right"
    for wrong, said in (
        (lambda tool: hash(str(tool)), "from one Python process"),
        (lambda tool: str(hash(str(tool))), "from one Python process"),
        (lambda tool: json.dumps(tool, sort_keys=True), "of one length"),
        (lambda tool: sha(str(tool)), "another order"),
        (lambda tool: sha(tool["name"] + tool["description"]), "required arguments"),
        (lambda tool: sha(tool["name"]), "another description"),
        (lambda tool: sha(tool["description"]), "another name"),
        (lambda tool: sha("".join(words(tool)[:2]) + json.dumps(words(tool)[2], sort_keys=True)), "border"),
        (lambda tool: sha(tool["parameters"]), "KeyError"),
    ):
        state, text = verdict(q2, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text
    assert all(json.loads(TOOL.replace(*change)) != json.loads(TOOL) for change in CHANGES.values())


def exact(step: int, first: str | None, *_: Any) -> int:
    if step == sqlite3.SQLITE_READ:
        return OK if first == "products" else DENY
    return OK if step in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION) else DENY


def test_q3(capsys: pytest.CaptureFixture[str]) -> None:
    def by_table(step: int, first: str | None, second: str | None, *_: Any) -> int:
        tables = (None, "products", "")
        return OK if step in (20, 21, 31) and (step != 20 or first in tables) else sqlite3.SQLITE_DENY

    for right in (exact, by_table):
        state, text = verdict(q3, capsys, right)
        assert state == "right", text
    for wrong, said in (
        (lambda *_: OK, "lets 'SELECT phone FROM customers' pass"),
        (lambda *_: DENY, "refuses 'SELECT name"),
        (lambda step, *_: OK if step in (20, 21, 31) else DENY, "lets 'SELECT phone FROM customers' pass"),
        (
            lambda step, *rest: DENY if step == sqlite3.SQLITE_FUNCTION else exact(step, *rest),
            "'SELECT upper",
        ),
        (
            lambda step, first, *_: DENY if first == "customers" else OK,
            "lets 'SELECT sql FROM sqlite_master'",
        ),
        (lambda step, *rest: OK if step == sqlite3.SQLITE_PRAGMA else exact(step, *rest), "lets 'PRAGMA"),
        (lambda step: OK, "refuses 'SELECT name"),
        (None, "lets 'SELECT phone"),
    ):
        state, text = verdict(q3, capsys, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_attempts_are_what_the_lab_says(shop: Path) -> None:
    assert attempt(shop, "SELECT phone FROM customers", mode="ro") == ""
    assert "readonly" in attempt(shop, "DELETE FROM products", mode="ro")
    assert attempt(shop, "DROP TABLE customers") == ""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, url = over_http(make_shop(tmp_path_factory.mktemp("shop") / "shop.sqlite"))
    yield url
    process.stop()


def test_q4(capsys: pytest.CaptureFixture[str], url: str) -> None:
    site, port = "evil.example", url.split(":")[2].split("/")[0]
    for right in (
        {"Host": site, "Origin": f"http://{site}"},
        {"host": f"{site}:{port}", "origin": f"http://{site}:{port}"},
        {"Host": f"www.{site}", "Origin": f"http://www.{site}"},
    ):
        state, text = verdict(q4, capsys, url, right)
        assert state == "right", text
    for wrong, said in (
        ({"Host": f"127.0.0.1:{port}", "Origin": f"http://{site}"}, "address bar"),
        ({"Host": site, "Origin": f"http://127.0.0.1:{port}"}, "address bar"),
        ({"Host": site, "Origin": site}, "its scheme"),
        ({"Host": f"http://{site}", "Origin": f"http://{site}"}, "a host is a name"),
        ({"Host": site}, "give Host and Origin"),
        ("evil.example", "checking it raised"),
    ):
        state, text = verdict(q4, capsys, url, wrong)
        assert (state, said in text) == ("wrong", True), text


def test_a_request_by_hand(url: str) -> None:
    status, text = post(url, "tools/list")
    assert status == 200 and len(json.loads(text)["result"]["tools"]) == 3
    assert post(url, "tools/list", Host="evil.example") == (421, "Invalid Host header")
    assert post(url, "tools/list", Origin="http://evil.example") == (403, "Invalid Origin header")


def test_questions_are_drawn_from_a_seed() -> None:
    assert questions(30) == questions(30) != questions(30, seed=1)
    assert {call.name for _, call in questions(60)} == {
        "get_product_info",
        "list_products",
        "reserve_product",
    }
    for text, call in questions(60):
        assert all(str(value) in text for value in call.arguments.values())
