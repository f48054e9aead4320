"""Record what lab 17 shows where torch is missing: `python tests/bench/record_school.py`, on a quiet machine.

Needs the extra `train`; takes some six minutes on two cores. It trains the shipped nano with lab 17's two rewards and
examines the result where the lab does. Run it again whenever nano's weights are new. Stopped, it goes on if it is
given a folder: `python tests/bench/record_school.py /tmp/school`.
"""

import json
import sys
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

from labkit import load
from labkit.engines.llamacpp_files import shipped_folder, weights_hash
from labkit.metrics.probes import loaded_machine
from labkit.models.catalog import find
from labkit.models.hardware import machine
from labkit.training.school import CLASS, HERE, RECORDING, Entry, Exam, School, measure_levels
from labkit.training.stage import played, thorough, trainable

BUDGET = replace(CLASS, tasks=100, cases=2, minutes=0)  # every step, however long it takes
DEPLOYED = (("llamacpp", "Q8_0"), ("llamacpp", "Q4_K_M"), ("onnx", "fp32"), ("onnx", "int4"))


def short(exam: Exam) -> dict[str, object]:
    others = {skill: [int(mark) for mark in marks] for skill, marks in exam.others.items()}
    return {"stage": [int(mark) for mark in exam.stage], "others": others, "mb": round(exam.mb, 2)}


def tell(entry: Entry) -> None:
    print(json.dumps(entry), flush=True)


def main() -> None:
    assert HERE, "needs torch: pip install 'labkit[train]'"
    with load("nano", "llamacpp", "F16") as nano:
        success = measure_levels(nano, 60)
    print(success, flush=True)
    school = School(trainable(success), Path(sys.argv[1]) if sys.argv[1:] else None, BUDGET)
    about = f"{date.today()}, torch {version('torch')}, {machine().cpu}"
    saved: dict[str, object] = {"about": ", ".join(filter(None, (about, loaded_machine())))}
    saved |= {"weights": weights_hash(shipped_folder(find("nano").refs["onnx"])), "level": school.level}
    saved |= {"success": success, "budget": asdict(BUDGET)}
    logs = {"stage": school.teach("stage", played, tell)}
    logs["long"] = school.teach("long", thorough, tell, kl=0.0, rehearse=0, steps=3 * BUDGET.steps // 8)
    saved["logs"] = {
        name: [{k: round(v, 4) for k, v in entry.items()} for entry in log] for name, log in logs.items()
    }
    exams = {"nano llamacpp F16": school.examine(), "stage llamacpp F16": school.examine("stage")}
    school.to_onnx("stage")
    exams |= {f"stage {engine} {level}": school.examine("stage", engine, level) for engine, level in DEPLOYED}
    saved["exams"] = {name: short(exam) for name, exam in exams.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in saved.items())
    RECORDING.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    for name, exam in exams.items():
        others = exam.all_others()
        print(
            f"{name:22} stage {sum(exam.stage):g} of {len(exam.stage)}, others {sum(others):g} of {len(others)}"
        )


if __name__ == "__main__":
    main()
