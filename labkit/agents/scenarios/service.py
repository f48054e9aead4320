"""Customer service: refunds, tickets, passwords, and where an order is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Literal

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table orders (id text primary key, status text, paid real, refunded real default 0);
create table tickets (id integer primary key, title text, priority text, status text default 'open');
create table accounts (email text primary key, resets integer default 0);
"""
PROBLEMS = (
    "the app does not start",
    "the invoice is wrong",
    "a part is missing",
    "the screen is broken",
    "no sound",
)
PRIORITIES = ("low", "medium", "high")


def fill(data: Data, rng: random.Random) -> None:
    """Make 12 orders, 6 open tickets and 8 accounts."""
    for number in rng.sample(range(1_000, 9_999), 12):
        status, paid = rng.choice(("packed", "shipped", "delivered")), rng.randrange(20, 400)
        data.rows("insert into orders (id, status, paid) values (?, ?, ?)", f"B-{number}", status, paid)
    for number in rng.sample(range(100, 999), 6):
        data.rows(
            "insert into tickets (id, title, priority) values (?, ?, 'low')", number, rng.choice(PROBLEMS)
        )
    for name in rng.sample(
        ("mira", "tom", "aisha", "luis", "hanna", "chen", "olga", "paul", "zoe", "ravi"), 8
    ):
        data.rows("insert into accounts (email) values (?)", f"{name}{rng.randrange(10, 99)}@example.org")


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what an agent on duty can do."""

    def get_order_status(order: str) -> dict[str, Any]:
        """Get the status of an order."""
        return data.one("order", "select status from orders where id = ?", order)

    def refund_order(order: str, amount: float) -> dict[str, Any]:
        """Refund an order."""
        left = "select paid - refunded as left from orders where id = ?"
        if amount > data.one("order", left, order)["left"] or amount <= 0:
            return {"status": "refused, more than was paid"}
        data.rows("update orders set refunded = refunded + ? where id = ?", amount, order)
        return {"status": "refunded", "amount": amount}

    def create_ticket(title: str, priority: Literal["low", "medium", "high"]) -> dict[str, Any]:
        """Open a support ticket."""
        data.rows("insert into tickets (title, priority) values (?, ?)", title, priority)
        return {"status": "open"}

    def reset_password(email: str) -> dict[str, Any]:
        """Reset the password of a user."""
        data.one("account", "select email from accounts where email = ?", email)
        data.rows("update accounts set resets = resets + 1 where email = ?", email)
        return {"status": "sent"}

    return [get_order_status, refund_order, create_ticket, reset_password]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of customers."""
    orders, accounts = data.rows("select * from orders"), data.rows("select * from accounts")
    while True:
        order, email = rng.choice(orders), rng.choice(accounts)["email"]
        number, amount = order["id"], rng.randrange(5, int(order["paid"]))
        asks = [
            f"Where is order {number}?",
            f"What is the status of order {number}?",
            f"I am still waiting for order {number}.",
        ]
        yield wish(rng, asks, "status", "get_order_status", order["status"], order=number)
        asks = [f"Refund {amount} for order {number}.", f"I want {amount} back for order {number}."]
        yield wish(rng, asks, "refund", "refund_order", order=number, amount=amount)
        problem, priority = rng.choice(PROBLEMS), rng.choice(PRIORITIES)
        asks = [
            f"Open a {priority} priority ticket: {problem}.",
            f"I have a {priority} priority problem: {problem}.",
        ]
        yield wish(rng, asks, "ticket", "create_ticket", title=problem, priority=priority)
        asks = [
            f"Reset the password of {email}.",
            f"{email} cannot log in.",
            f"I forgot my password, my login is {email}.",
        ]
        yield wish(rng, asks, "password", "reset_password", email=email)


ABOUT = "customer service: orders, refunds, tickets, passwords"
SCENARIO = Scenario("service", ABOUT, SCHEMA, fill, tools, tasks, "You help customers of a shop.")
