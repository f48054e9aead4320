"""A small shop in a SQLite file, and an MCP server for it: `python -m labkit.agents.mcp_shop FILE [PORT]`."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

from mcp import StdioServerParameters
from mcp.server import MCPServer
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

import labkit
from labkit.agents.permissions import query
from labkit.engines.process import ServerProcess, ServerSettings, free_port

SHELVES = {
    "drinks": ("oat milk", "apple juice", "green tea", "cold brew"),
    "baking": ("baker's yeast", "rye flour", "brown sugar", "vanilla"),
    "home": ("blue mug", "garden hose", "desk lamp", "hand soap"),
}
CUSTOMERS = (("Ada", "555-0142"), ("Grace", "555-0170"))  # made up
TABLES = "CREATE TABLE products (name, shelf, price, stock); CREATE TABLE customers (name, phone)"
MODULE = ("-P", "-m", "labkit.agents.mcp_shop")


def make_shop(path: Path, seed: int = 0) -> Path:
    """Write the shop's file anew: products with drawn prices and stocks, and customers, whom no tool here shows."""
    draw = random.Random(seed)
    goods = [(name, shelf) for shelf, names in SHELVES.items() for name in names]
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(TABLES)
        rows = [(*each, draw.randrange(95, 2995) / 100, draw.randrange(60)) for each in goods]
        db.executemany("INSERT INTO products VALUES (?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO customers VALUES (?, ?)", CUSTOMERS)
    return path


def shop_server(path: Path) -> MCPServer:
    """Return the server: two tools that only read, one that writes, a resource and a prompt."""
    shop = MCPServer("shop", log_level="CRITICAL")

    @shop.tool()
    def get_product_info(product: str) -> str:
        """Get the price and the stock of a product."""
        found = query(path, "SELECT price, stock FROM products WHERE name = ?", [product.lower()])
        return json.dumps(found[0] if found else {"error": f"there is no product {product:.80}"})

    @shop.tool()
    def list_products(shelf: Literal["drinks", "baking", "home"]) -> str:
        """List the products on a shelf."""
        return json.dumps(query(path, "SELECT name, price FROM products WHERE shelf = ?", [shelf]))

    @shop.tool()
    def reserve_product(product: str, quantity: Annotated[int, Field(ge=1, le=20)]) -> str:
        """Put a quantity of a product aside."""
        sql = "UPDATE products SET stock = stock - ?1 WHERE name = ?2 AND stock >= ?1"
        with closing(sqlite3.connect(path)) as db, db:
            done = db.execute(sql, [quantity, product.lower()]).rowcount
        return json.dumps({"reserved": quantity if done else 0})

    @shop.resource("shop://hours")
    def hours() -> str:
        """Say when the shop is open."""
        return "Monday to Saturday, 8:00 to 18:30"

    @shop.prompt()
    def welcome(name: str) -> str:
        """Begin to serve a customer."""
        return f"You serve {name} in a small shop. Look prices up; never guess them."

    shop.custom_route("/ready", ["GET"])(ready)
    return shop


async def ready(_: Request) -> Response:
    """Answer whoever waits until the server is there."""
    return Response("ready")


def over_stdio(path: Path) -> StdioServerParameters:
    """Say how to start the server as a child process that is spoken to on its standard input and output."""
    home = str(Path(labkit.__file__).parents[1])
    return StdioServerParameters(command=sys.executable, args=[*MODULE, str(path)], env={"PYTHONPATH": home})


def over_http(path: Path) -> tuple[ServerProcess, str]:
    """Start the server on a free port of this machine's loopback; return its process, to stop it, and its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = (sys.executable, *MODULE, str(path), str(port))
    return ServerProcess(ServerSettings("shop", command, f"{url}/ready")), f"{url}/mcp"


if __name__ == "__main__":
    served = shop_server(Path(sys.argv[1]))
    served.run("streamable-http", port=int(sys.argv[2])) if sys.argv[2:] else served.run()
