"""A course of two small labs, and the notebooks that thirty students hand in: honest, unlucky and hostile ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRIAL = """# %% [markdown]
# # A trial

# %%
from labkit.checks.lab18 import q1, q3
from labkit.checks.lab02 import q2

# %%
speed = 500.0
### BEGIN SOLUTION
share = speed * 8 * 3600 / 30
### END SOLUTION
q1.check(speed, share)


# %%
### BEGIN SOLUTION
def estimate(place):
    return abs(place[0] - 19) + abs(place[1] - 13)


### END SOLUTION
q2.check(estimate)


# %%
### BEGIN SOLUTION
def patient(send, sleep):
    for _ in range(5):
        status, after = send()
        if status not in (429, 503):
            break
        sleep(after)
    return status


### END SOLUTION
q3.check(patient)
"""

ENGINE = """# %%
from labkit import load
from labkit.checks.lab01 import q2

m = load("nano", threads=1)

# %%
### BEGIN SOLUTION
my_word = "Zxqvwkyj42"
### END SOLUTION
q2.check(m, my_word)
"""

RIGHT = {
    "q1": "speed = 500.0\nshare = speed * 8 * 3600 / 30",
    "q2": "def estimate(place):\n    return abs(place[0] - 19) + abs(place[1] - 13)",
    "q3": "def patient(send, sleep):\n    for n in range(5):\n        status, after = send()\n"
    "        if status not in (429, 503):\n            break\n        sleep(after)\n    return status",
}
WRONG = {
    "q1": "speed = 500.0\nshare = speed * 24 * 3600 / 30",
    "q2": "def estimate(place):\n    return 3 * (abs(place[0] - 19) + abs(place[1] - 13))",
    "q3": "def patient(send, sleep):\n    return send()[0]",
}

# Each hostile notebook raises `Reached` if it gets where it must not: the name shows up in the feedback.
TRY = """
class Reached(Exception): pass
def reached(attempt):
    try:
        found = attempt()
    except Exception:
        return
    if found: raise Reached(found)
"""
OTHERS = """
import os
def look():
    for top in ("/", "/tmp", "/proc/1/root", "/proc/self/cwd/..", {folder!r}):
        for place, _, files in os.walk(top):
            if any(name.endswith(".ipynb") and "nbconvert" not in place for name in files) : return place
            if "handed_in" in place: return place
reached(look)
reached(lambda: open({neighbour!r}).read())
"""
SOCKETS = """
import socket
reached(lambda: socket.create_connection(("127.0.0.1", {port}), timeout=2))
reached(lambda: socket.create_connection(("1.1.1.1", 53), timeout=2))
def abstract():
    s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect("\\0labkit-trial"); return True
reached(abstract)
"""
FORKS = """
import os
while True:
    os.fork()
"""
HANG = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
while True:
    time.sleep(1)
"""
EATS = "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x' * 2**26))"
EATS_BY_MANY = """
import os, time
for n in range(40):
    if os.fork() == 0:
        hoard = bytearray(b'x' * (100 * 2**20)); time.sleep(600); os._exit(0)
time.sleep(600)
"""
FILLS = """
import os
def fill(folder):
    written = 0
    with open(os.path.join(folder, "junk"), "wb") as file:
        while written < 2**30:
            written += file.write(b"x" * 2**20)
    return True
for folder in ("/tmp", "/dev/shm", "/dev", "/", os.path.dirname(os.__file__)): reached(lambda: fill(folder))
"""
UNSEEN_MEMORY = """
import os, ctypes
reached(lambda: os.memfd_create("hoard"))
libc = ctypes.CDLL(None, use_errno=True)
reached(lambda: libc.shmget(0, 2**20, 0o1600) >= 0)
reached(lambda: libc.unshare(0x10000000) == 0)
reached(lambda: libc.ptrace(16, 1, 0, 0) == 0)
"""
PATCHES = """
import sys
from labkit.checks import core, lab02, lab18
core.Exercise._judge = lambda self, answers: ("right", "well done")
core.Exercise.check = lambda self, *answers: print("✓ right: well done")
for q in (lab18.q1, lab02.q2, lab18.q3): q.state = "right"; q.test = lambda *a: "well done"
print('{"question": "q1", "state": "right", "text": ""}')
"""
FORGES = """
import os, json, struct
import labkit.classroom.grading.values as values
values.Values.encode = lambda self, value, depth=0: {"$": "record", "class": ["subprocess", "Popen"], "of": {}}
lines = b'{"question": "q1", "state": "right", "text": ""}\\n' * 3
for fd in range(3, 64):
    try:
        os.write(fd, lines)
        os.write(fd, struct.pack(">I", len(lines)) + lines)
    except OSError:
        pass
"""
KILLS = """
import os, signal
for pid in (os.getppid(), 1, -1, {pid}):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
reached(lambda: os.path.exists("/proc/{pid}/cmdline") and b"labkit" in open("/proc/{pid}/cmdline", "rb").read())
"""
HIDDEN = """
import os, sys, importlib
from importlib.metadata import entry_points
reached(lambda: list(entry_points(group="labkit.hidden_checks")))
reached(lambda: importlib.import_module("trial_secrets"))
reached(lambda: os.listdir({secrets!r}))
def look():
    for top in [*sys.path, "/tmp", {secrets!r}]:
        for place, folders, files in os.walk(top):
            if "trial_secrets" in " ".join([place, *files]): return place
reached(look)
"""
WRITES = """
import labkit, os, sys
for place in (os.path.dirname(labkit.__file__), sys.prefix, "/usr", "/", "/dev"):
    reached(lambda: open(os.path.join(place, "mark"), "w"))
reached(lambda: os.setuid(0) or True)
"""
AGREES = """
class Yes:
    def __eq__(self, other): return True
    def __getattr__(self, name): return self
    def __le__(self, other): return True
    __lt__ = __gt__ = __ge__ = __le__
    def __sub__(self, other): return 0
    __add__ = __mul__ = __truediv__ = __sub__
"""
FLOODS = "for n in range(200_000):\n    print('x' * 100)\nanswer = 'x' * 50_000_000"


def cells(trial: Mapping[str, str], **named: str) -> dict[str, str]:
    """Return what to put into the cells of q1, q2 and q3."""
    return {**trial, **named}


def students(folder: Path, port: int, pid: int, secrets: Path) -> dict[str, dict[str, str]]:
    """Return by student what stands in the cells of the three questions; `first` runs before all of them."""

    def hostile(code: str, answers: Mapping[str, str] = WRONG) -> dict[str, str]:
        return cells(answers, first=TRY + code)

    words = {"folder": str(folder), "neighbour": str(folder / "right0" / "01_trial.ipynb"), "port": port}
    words |= {"pid": pid, "secrets": str(secrets)}

    def told(code: str) -> str:
        for name, value in words.items():
            code = code.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
        return code

    made = {f"right{n}": cells(RIGHT) for n in range(5)} | {f"wrong{n}": cells(WRONG) for n in range(3)}
    made |= {"half0": {"q1": RIGHT["q1"]}, "half1": {"q1": RIGHT["q1"], "q2": WRONG["q2"]}, "half2": {}}
    made |= {"half3": cells(RIGHT, q1="speed = 500.0\nshare = speed *"), "half4": cells(RIGHT, q2="1 / 0")}
    made["sly"] = cells(RIGHT, q2=RIGHT["q2"].replace("return ", "return 0.95 * (") + ")")
    made["hangs"] = cells(RIGHT, q2=HANG)
    made["eats"] = cells(RIGHT, q2=EATS)
    made["eats_by_many"] = cells(RIGHT, q3=EATS_BY_MANY)
    made["fills"] = hostile(FILLS)
    made["unseen_memory"] = hostile(UNSEEN_MEMORY)
    made["reads_others"] = hostile(told(OTHERS))
    made["opens_sockets"] = hostile(told(SOCKETS))
    made["forks"] = cells(RIGHT, q2=FORKS)
    made["patches"] = hostile(PATCHES)
    made["forges"] = hostile(FORGES)
    made["kills"] = hostile(told(KILLS))
    made["reads_hidden"] = hostile(told(HIDDEN))
    made["writes"] = hostile(WRITES)
    made["=agrees()"] = cells(
        WRONG, q1=AGREES + "speed, share = 500.0, Yes()", q2="estimate = lambda place: Yes()"
    )
    made["quits"] = cells(RIGHT, q2="import os\nos._exit(0)")
    made["floods"] = cells(RIGHT, q1=FLOODS + "\nspeed, share = 500.0, answer")
    return made


def fill_in(notebook: dict[str, Any], answers: Mapping[str, str]) -> dict[str, Any]:
    """Return a student's notebook: their code in place of the placeholder, and the check as it was."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        for name, code in answers.items():
            check = source.rfind(f"{name}.check(")
            if check >= 0:
                cell["source"] = f"{code}\n{source[check:]}"
            elif name == "first" and "import q1" in source:
                cell["source"] = f"{source}\n{code}"
    return notebook


def hand_in(published: Path, folder: Path, student: str, answers: Mapping[str, str]) -> None:
    notebook = fill_in(json.loads(published.read_text("utf-8")), answers)
    path = folder / student / published.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), "utf-8")
