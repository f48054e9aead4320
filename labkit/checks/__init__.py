"""WHAT was learned: exercises with `check`, `hint` and `solution`; one module for each lab."""
