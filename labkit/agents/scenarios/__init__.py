"""Places where an agent works: data, tools on SQLite, a role, and generated tasks that say what is right.

`scenario.py` has what they share; every other module is one place, and is meant to be read and changed.
"""

from labkit.agents.scenarios.scenario import Scenario, Score, Task, by_name, evaluate, names

__all__ = ["Scenario", "Score", "Task", "by_name", "evaluate", "names"]
