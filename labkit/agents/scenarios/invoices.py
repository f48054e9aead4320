"""An office: invoices and the e-mail about them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table invoices (id integer primary key, customer text, amount real, due text, paid integer default 0);
create table outbox (recipient text, subject text);
"""
CUSTOMERS = ("Ada Lovett", "Bruno Sato", "Carla Mendes", "Deniz Aydin", "Emil Krause", "Farah Idris")
SUBJECTS = ("the invoice of May", "a late payment", "the new prices", "the delivery", "the contract")


def fill(data: Data, rng: random.Random) -> None:
    """Write 14 invoices, some of them paid."""
    for number in rng.sample(range(1_000, 9_999), 14):
        amount, due = rng.randrange(50, 5_000), f"2026-12-{rng.randrange(1, 29):02}"
        row = (number, rng.choice(CUSTOMERS), amount, due, rng.randrange(2))
        data.rows("insert into invoices values (?, ?, ?, ?, ?)", *row)


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what the office can do."""

    def create_invoice(customer: str, amount: float) -> dict[str, Any]:
        """Write an invoice to a customer."""
        data.rows("insert into invoices (customer, amount) values (?, ?)", customer, amount)
        return {"status": "sent"}

    def get_invoice(invoice: int) -> dict[str, Any]:
        """Get the amount and the due date of an invoice."""
        return data.one("invoice", "select amount, due from invoices where id = ?", invoice)

    def mark_paid(invoice: int) -> dict[str, Any]:
        """Mark an invoice as paid."""
        data.one("invoice", "select id from invoices where id = ?", invoice)
        data.rows("update invoices set paid = 1 where id = ?", invoice)
        return {"status": "paid"}

    def send_email(to: str, subject: str) -> dict[str, Any]:
        """Send an email: it waits in the outbox of this device."""
        data.rows("insert into outbox values (?, ?)", to, subject)
        return {"status": "queued"}

    return [create_invoice, get_invoice, mark_paid, send_email]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of the people in the office."""
    invoices = data.rows("select * from invoices where paid = 0")
    while True:
        bill, customer, amount = rng.choice(invoices), rng.choice(CUSTOMERS), rng.randrange(20, 3_000)
        number, subject = bill["id"], rng.choice(SUBJECTS)
        address = f"{customer.split()[0].lower()}@example.org"
        asks = [
            f"Write an invoice to {customer} over {amount}.",
            f"Bill {customer} {amount}!",
            f"{customer} owes us {amount}, make an invoice.",
        ]
        yield wish(rng, asks, "write", "create_invoice", customer=customer, amount=amount)
        asks = [f"What is the amount of invoice {number}?", f"How much is invoice {number}?"]
        yield wish(rng, asks, "read", "get_invoice", f"{bill['amount']:g}", invoice=number)
        asks = [f"Invoice {number} is paid.", f"Mark invoice {number} as paid."]
        yield wish(rng, asks, "paid", "mark_paid", invoice=number)
        asks = [f"Mail {address} about {subject}.", f"Send an email to {address} about {subject}."]
        yield wish(rng, asks, "mail", "send_email", to=address, subject=subject)


SCENARIO = Scenario(
    "invoices", "an office: invoices and e-mail", SCHEMA, fill, tools, tasks, "You help in an office."
)
