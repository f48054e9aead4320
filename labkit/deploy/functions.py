"""Validators of images and functions: what Docker, Cloudflare, Vercel and Python will read, read by their own tools."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from labkit.deploy.tool import ask
from labkit.errors import EngineUnavailable

# What has no place in an image.
SECRET = (".git/config", ".env", "secrets/key", "labkit/__pycache__/a.pyc", "labkit/b.pyc")
ROUTES = """
const settings = JSON.parse(require("fs").readFileSync(process.argv[1]));
const known = ["rewrites", "redirects", "headers", "cleanUrls", "trailingSlash", "functions"];
const unknown = Object.keys(settings).filter((key) => !known.includes(key));
const { error } = require("@vercel/routing-utils").getTransformedRoutes(settings);
if (unknown.length || error) throw new Error(unknown.join() || error.message);
"""


def docker(file: Path) -> str:
    """Ask dockerfile-utils, the checker behind editors' Docker extensions."""
    return ask(["dockerfile-utils", "lint", str(file)], "npm install -g dockerfile-utils")


def dockerignore(file: Path) -> str:
    """Ask Docker's own library what gets into the image: what the Dockerfile beside it copies, no key, nothing else."""
    try:
        from docker.utils.build import exclude_paths
    except ImportError as exc:
        raise EngineUnavailable("Docker's library for Python is missing", fix="pip install docker") from exc
    text = file.with_name("Dockerfile").read_text("utf-8")
    copied = {w for line in re.findall(r"^COPY (?!--from)(.*) ", text, re.M) for w in line.split()}
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        for name in (*copied, *SECRET, "labkit/a.py"):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if "." in path.name or path.name.isupper() else path.mkdir(exist_ok=True)
        seen = {name.replace(os.sep, "/") for name in exclude_paths(folder, lines)}
    missing, leaked = copied - seen, {one for one in seen if one.partition("/")[0] not in copied} - {""}
    leaked |= seen & {*SECRET}
    return "".join(
        f"{what}: {', '.join(sorted(x))}\n" for what, x in (("left out", missing), ("got in", leaked)) if x
    )


def worker(file: Path) -> str:
    """Ask wrangler to bundle a Worker with its settings, and send it nowhere; its warnings count."""
    command = ["wrangler", "deploy", "--dry-run", "--config", str(file.with_name("wrangler.json"))]
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"WRANGLER_SEND_METRICS": "false", "NO_COLOR": "1", "HOME": folder}
        said = ask([*command, "--outdir", folder], "npm install -g wrangler", loud=True, env=quiet)
    return said if re.search(r"ERROR|WARNING|exit code", said) else ""


def vercel(file: Path) -> str:
    """Ask Vercel's own reader of routes, and look for what they lead to."""
    fix = "npm install -g @vercel/routing-utils; export NODE_PATH=$(npm root -g)"
    said = ask(["node", "-e", ROUTES, str(file)], fix)
    if "Cannot find module" in said:
        raise EngineUnavailable("@vercel/routing-utils is missing", fix=fix)
    if said:
        return said
    ends = [one["destination"] for one in json.loads(file.read_text("utf-8")).get("rewrites", [])]
    return "\n".join(
        f"{end}: no such function" for end in ends if not (file.parent / f"{end[1:]}.py").is_file()
    )


def python(file: Path) -> str:
    """Let Python read a function, and look whether all that it imports is Python's own or listed."""
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except SyntaxError as exc:
        return f"line {exc.lineno}: {exc.msg}"
    listed = next(filter(Path.is_file, (up / "requirements.txt" for up in file.parents[:2])), None)
    known = (
        {re.split(r"[^\w-]", line)[0] for line in listed.read_text("utf-8").splitlines()} if listed else set()
    )
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    missing = {name.partition(".")[0] for name in found} - known - sys.stdlib_module_names
    return "".join(f"{name} is imported, and in no requirements.txt\n" for name in sorted(missing))


def requirements(file: Path) -> str:
    """Ask packaging, which pip goes by; a package without bounds is another one tomorrow."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        loose = [
            one.name for one in map(Requirement, file.read_text("utf-8").splitlines()) if not one.specifier
        ]
    except InvalidRequirement as exc:
        return str(exc)
    return "".join(f"{name} has no version\n" for name in loose)
