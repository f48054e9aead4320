"""`labkit grade`: run what students handed in where it can do no harm, judge it, and write the grades."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Option = typer.Option


def grade(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds STUDENT/NN_name.ipynb.")],
    labs: Annotated[
        Path | None,
        Option(help="The notebooks as students got them; else the labs here.", show_default=False),
    ] = None,
    rubric: Annotated[
        Path | None, Option(help="Points, as TOML: [01], then q3 = 2; else one each.", show_default=False)
    ] = None,
    out: Annotated[Path, Option(help="Folder for the grades.")] = Path("grades"),
    seconds: Annotated[float, Option(min=1, help="Time for a notebook.")] = 600,
    memory: Annotated[float, Option(min=0.25, help="Memory for a notebook, in GB.")] = 4,
    disk: Annotated[float, Option(min=0.01, help="What a notebook may write, in GB; held in memory.")] = 0.5,
    jobs: Annotated[int, Option(min=1, max=32, help="Notebooks at a time; timings need 1.")] = 1,
) -> None:
    """Grade notebooks: each runs shut in by bubblewrap, and is judged by a process that runs none of its code."""
    from tqdm import tqdm

    from labkit.classroom.grading.grade import grade as grade_all
    from labkit.classroom.grading.grade import read_labs
    from labkit.classroom.grading.jail import Limits
    from labkit.classroom.grading.report import read_rubric, rows, write
    from labkit.classroom.runner import labs_folder
    from labkit.errors import OptionInvalid

    if out.resolve().is_relative_to(folder.resolve()):
        raise OptionInvalid(
            f"--out {out} is inside {folder}", fix="grades go to a folder of their own: --out grades"
        )
    published = read_labs(labs or labs_folder())
    points = read_rubric(rubric, published) if rubric else {}
    limits = Limits(seconds, int(memory * 1e9), int(disk * 1e9))
    with tqdm(desc="grading", unit=" notebooks", disable=None, leave=False) as bar:
        graded = grade_all(folder, published, limits, jobs, lambda done: bar.update())
    homes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    present = {one.submission.student for one in graded}
    print(write(rows(graded, points), [name for name in homes if name not in present], out))
    print(f"Written to {out}: grades.csv, questions.csv, grades.json, report.txt, feedback.json")
