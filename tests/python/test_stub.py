# SPDX-License-Identifier: Apache-2.0
"""The stub says exactly what the extension has, and documents all of it."""

import ast
import importlib.util
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
