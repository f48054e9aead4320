"""Grade students' notebooks: theirs run in one jail, the checks in another.

The threat model, in short (each sentence has a test in `tests/classroom/grading/`):

- A notebook may hold any program at all. It runs in a jail (`jail.py`) without network, other students' work, hidden
  checks or the processes of this machine, and with limits on time, memory, processes, files and what it says.
- What it prints, and what its own copy of `labkit.checks` thinks, is thrown away. After the cell of a question the
  grader asks for the *values* that the published notebook hands to `qN.check(…)`, and judges them in a second process
  that never runs a line of the student's. Values travel as plain data and are rebuilt by name from an allowed list:
  nothing is unpickled. Functions stay where they are, and are called from afar (`wire.py`).
- The second process (`checker.py`) sits in a jail of its own kind: a damaged value that broke it would reach no file.

What it does **not** promise: it cannot say who found an answer (labs show their solutions to whoever asks). A value
that the notebook itself gives or measures is what that notebook says it is: a student can invent a measurement
that fits the answer. Give weight to questions whose answer is a function, and write hidden checks for them. A
function sees what it is called with, and could answer only that; nothing of what it saw leaves the jail. The jail is
the kernel's and bubblewrap's: a hole there is a hole here, so grade on a machine that holds nothing else of value.
An answer that cannot travel (a class of the student's own, an open server) is never called right or wrong by
what the notebook says of it: it is marked `by hand`, for a person to look at.
"""
