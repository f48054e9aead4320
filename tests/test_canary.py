"""The canary tells a release that breaks a lab from a lab that is broken anyway: on two tiny environments."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from canary import Outcome, changes, installed, judge, pins, report

VERSIONS = {"pinned": "1.0", "newest": "2.0"}


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two environments that differ in one package, `Fake.Lib`: release 2.0 has lost a function."""
    pythons = {}
    for name, version in VERSIONS.items():
        folder = tmp_path_factory.mktemp(name)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(subprocess.run([python, "-c", asked], capture_output=True, text=True).stdout.strip())
        (site / "shared.pth").write_text(sysconfig.get_path("purelib"))
        (site / "fakelib.py").write_text("def hello(): return 'hello'" if version == "1.0" else "")
        (about := site / f"fake_lib-{version}.dist-info").mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Fake.Lib\nVersion: {version}\n")
        (about / "top_level.txt").write_text("fakelib\n")
        pythons[name] = python
    return pythons


@pytest.mark.parametrize(
    ("code", "ok", "pinned_ok", "suspects"),
    [
        ("1 + 1", True, None, ()),
        ("from fakelib import hello", False, True, ("fake-lib",)),
        ("raise ValueError('always')", False, False, ()),
    ],
)
@pytest.mark.heavy
def test_a_release_is_blamed_only_for_what_it_broke(
    environments: dict[str, Path],
    tmp_path: Path,
    code: str,
    ok: bool,
    pinned_ok: bool | None,
    suspects: tuple[str, ...],
) -> None:
    lab = tmp_path / "01_trial.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab)
    has = installed(environments["newest"])
    changed = changes(
        pins("fake_lib==1.0\nother==3 ; sys_platform == 'linux'\n"), {"fake-lib": "2.0", "other": "4"}
    )
    outcome = judge(lab, environments["newest"], environments["pinned"], changed, has.imports)
    assert (outcome.ok, outcome.pinned_ok, outcome.suspects) == (ok, pinned_ok, suspects)
    assert has.versions["fake-lib"] == "2.0"
    assert ok or ("ImportError" if pinned_ok else "ValueError") in outcome.error


def test_pins_are_compared_by_canonical_name() -> None:
    pinned = pins('# torch==1\nFoo_Bar==1.0\nsame==2\nx==3; sys_platform != "win32"\n')
    assert pinned == {"foo-bar": "1.0", "same": "2", "x": "3"}
    newest = {"foo-bar": "1.1", "same": "2", "new": "5", "labkit": "0.1.0"}
    assert changes(pinned, newest) == {"foo-bar": ("1.0", "1.1"), "new": ("", "5")}


def test_the_report_names_lab_and_release() -> None:
    broke = Outcome("12_calls", False, 3.2, True, ("foo-bar",), "ImportError: a | b")
    text = report([Outcome("01_ok", True, 2.0), broke], {"foo-bar": ("1.0", "1.1")}, {"mcp": ("2.3", "3.0")})
    assert "2 labs, 1 broken by new releases" in text
    assert r"| 12_calls | **fails** | passes | 3 | foo-bar 1.0 → 1.1 | ImportError: a \| b |" in text
    assert "| 01_ok | passes | not run | 2 |  |  |" in text
    assert "| mcp | 2.3 | 3.0 |" in text
