# SPDX-License-Identifier: Apache-2.0
"""The stub says exactly what the extension has, and documents all of it."""

import ast
import importlib.util
import inspect
import os
import subprocess
import sys

import pytest
from made import ROOT

STUB = ROOT / "bindings/neaptide/_neap.pyi"


def test_stubtest() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    package = str(ROOT / "build/python")
    answer = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "neaptide._neap"],
        env={**os.environ, "PYTHONPATH": package, "MYPYPATH": package},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_everything_public_is_documented() -> None:
    tree = ast.parse(STUB.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if node.name.startswith("_"):
                continue
            assert ast.get_docstring(node), node.name


def test_help_shows_the_stub() -> None:
    import neaptide

    # Loaded by its path: bindings/ext is no package.
    spec = importlib.util.spec_from_file_location(
        "docstrings", ROOT / "bindings/ext/docstrings.py"
    )
    assert spec is not None
    assert spec.loader is not None
    docstrings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docstrings)
    made = (ROOT / "bindings/ext/docstrings.h").read_text()
    assert made == docstrings.header(), "run python3 bindings/ext/docstrings.py"

    for node in ast.parse(STUB.read_text()).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        value = getattr(neaptide, node.name)
        if node.name != "Total":  # the structure sequence adds nothing of its own
            assert inspect.getdoc(value) == ast.get_docstring(node), node.name
        for member in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(member, ast.FunctionDef) and ast.get_docstring(member):
                doc = inspect.getdoc(getattr(value, member.name))
                assert doc == ast.get_docstring(member), (node.name, member.name)
