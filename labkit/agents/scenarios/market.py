"""Market reports: prices, what a portfolio is worth, and how much it swings. All prices are made up."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish
from labkit.types import ToolCall

SCHEMA = """
create table prices (symbol text, day integer, price real);
create table holdings (symbol text primary key, shares integer);
"""
SYMBOLS = ("ALFX", "BRNT", "CDRA", "DLTO", "EKON", "FJRD", "GLMR", "HVNA")
DAYS = 60


def fill(data: Data, rng: random.Random) -> None:
    """Let eight prices walk at random for 60 days; hold five of them."""
    for symbol in SYMBOLS:
        price, swing = rng.uniform(10, 300), rng.uniform(0.005, 0.04)
        for day in range(DAYS):
            data.rows("insert into prices values (?, ?, ?)", symbol, day, round(price, 2))
            price *= 1 + rng.gauss(0, swing)
    for symbol in rng.sample(SYMBOLS, 5):
        data.rows("insert into holdings values (?, ?)", symbol, rng.randrange(5, 200))


def closes(data: Data, symbol: str) -> list[float]:
    """Return a symbol's prices, the oldest first; raise `LookupError` for one that is not traded."""
    data.one("symbol", "select symbol from prices where symbol = ?", symbol)
    return [
        row["price"] for row in data.rows("select price from prices where symbol = ? order by day", symbol)
    ]


def volatility(prices: list[float]) -> float:
    """Return the standard deviation of daily returns, in percent a day."""
    returns = [b / a - 1 for a, b in zip(prices, prices[1:], strict=False)]
    return round(100 * statistics.stdev(returns), 2)


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what an analyst can look up; nothing here can trade."""

    def get_share_price(symbol: str) -> dict[str, Any]:
        """Get the current price of a stock."""
        return {"price": closes(data, symbol)[-1]}

    def get_position(symbol: str) -> dict[str, Any]:
        """Get the value of a position in the portfolio."""
        shares = data.one("position in", "select shares from holdings where symbol = ?", symbol)["shares"]
        return {"shares": shares, "value": round(shares * closes(data, symbol)[-1], 2)}

    def get_risk(symbol: str) -> dict[str, Any]:
        """Get the daily volatility of a stock in percent."""
        return {"volatility": volatility(closes(data, symbol))}

    return [get_share_price, get_position, get_risk]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make questions of an owner of shares."""
    held = data.rows("select * from holdings")
    while True:
        symbol, own = rng.choice(SYMBOLS), rng.choice(held)
        prices, value = closes(data, symbol), own["shares"] * closes(data, own["symbol"])[-1]
        asks = [
            f"What is the share price of {symbol}?",
            f"How much is {symbol} worth?",
            f"Show me the stock price of {symbol}.",
        ]
        yield wish(rng, asks, "price", "get_share_price", f"{prices[-1]:g}", symbol=symbol)
        asks = [
            f"What is the value of my position in {own['symbol']}?",
            f"How many {own['symbol']} do I have in my portfolio?",
        ]
        ask = rng.randrange(2)
        said = str(own["shares"]) if ask else str(round(value, 2)).removesuffix(".0")
        yield Task(asks[ask], (ToolCall("get_position", {"symbol": own["symbol"]}),), (said,), "position")
        asks = [f"What is the risk of {symbol}?", f"How volatile is {symbol}?"]
        yield wish(rng, asks, "risk", "get_risk", f"{volatility(prices):g}", symbol=symbol)


ABOUT = "market reports: prices, positions, risk"
SCENARIO = Scenario("market", ABOUT, SCHEMA, fill, tools, tasks, "You answer questions about shares.")
