"""A kiosk in a shop: products, a basket, orders."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table products (name text primary key, price real, stock integer);
create table basket (item text, quantity integer);
create table orders (id text primary key, status text, arrival text);
"""
THINGS = (
    "kettle toaster lamp chair blanket bicycle helmet backpack speaker keyboard umbrella teapot drill".split()
)
COLORS = "red blue green black white silver".split()


def fill(data: Data, rng: random.Random) -> None:
    """Put 20 products on the shelves and 12 orders on their way."""
    for name in rng.sample([f"{color} {thing}" for color in COLORS for thing in THINGS], 20):
        price, stock = rng.randrange(500, 30_000) / 100, rng.randrange(40)
        data.rows("insert into products values (?, ?, ?)", name, price, stock)
    for number in rng.sample(range(10_000, 99_999), 12):
        status, day = rng.choice(("packed", "shipped", "delivered")), rng.randrange(1, 29)
        data.rows("insert into orders values (?, ?, ?)", f"A{number}", status, f"2026-12-{day:02}")


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what the kiosk can do."""

    def get_product(product: str) -> dict[str, Any]:
        """Get the price and the stock of a product."""
        return data.one("product", "select price, stock from products where name = ?", product)

    def add_to_cart(item: str, quantity: int) -> dict[str, Any]:
        """Add an item to the shopping cart."""
        data.one("product", "select name from products where name = ?", item)
        data.rows("insert into basket values (?, ?)", item, quantity)
        return {"items": sum(row["quantity"] for row in data.rows("select quantity from basket"))}

    def get_order_status(order: str) -> dict[str, Any]:
        """Get the status of an order."""
        return data.one("order", "select status, arrival from orders where id = ?", order)

    def cancel_order(order: str) -> dict[str, Any]:
        """Cancel an order."""
        status = get_order_status(order)["status"]
        if status != "packed":
            return {"status": f"too late, it is {status}"}
        data.rows("update orders set status = 'cancelled' where id = ?", order)
        return {"status": "cancelled"}

    return [get_product, add_to_cart, get_order_status, cancel_order]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of customers."""
    products, orders = data.rows("select * from products"), data.rows("select * from orders")
    while True:
        item, order, count = rng.choice(products), rng.choice(orders), rng.randrange(2, 20)
        name, number = item["name"], order["id"]
        asks = [
            f"How much is the {name}?",
            f"What is the price of the {name}, please?",
            f"What does the {name} cost?",
        ]
        yield wish(rng, asks, "price", "get_product", f"{item['price']:g}", product=name)
        asks = [f"Do you have the {name} in stock?", f"Is the {name} available?"]
        yield wish(rng, asks, "stock", "get_product", str(item["stock"]), product=name)
        asks = [
            f"Put {count} x {name} in my cart.",
            f"I want {count} pieces of {name} in the basket.",
            f"Add {count} {name} to the cart!",
        ]
        yield wish(rng, asks, "cart", "add_to_cart", item=name, quantity=count)
        asks = [
            f"Where is order {number}?",
            f"Has my order {number} arrived?",
            f"Any news on order {number}?",
        ]
        yield wish(rng, asks, "order", "get_order_status", order["status"], order=number)
        asks = [
            f"Cancel order {number}, please.",
            f"I do not want order {number} any more.",
            f"Can you stop order {number}?",
        ]
        said = "cancelled" if order["status"] == "packed" else "late"
        yield wish(rng, asks, "cancel", "cancel_order", said, order=number)


ABOUT = "a kiosk in a shop: products, a basket, orders"
SCENARIO = Scenario("retail", ABOUT, SCHEMA, fill, tools, tasks, "You help customers of a shop.")
