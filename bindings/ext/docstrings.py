# SPDX-License-Identifier: Apache-2.0
"""Write bindings/ext/docstrings.h from bindings/neaptide/_neap.pyi.

The stub is the only place where the extension is documented and its signatures stand;
help() shows the same through this header. Run it after each change of the stub:

    python3 bindings/ext/docstrings.py
"""

import ast
import os
import textwrap
from collections.abc import Iterator

HERE = os.path.dirname(os.path.abspath(__file__))
STUB = os.path.join(HERE, "../neaptide/_neap.pyi")
HEADER = os.path.join(HERE, "docstrings.h")

HEAD = """\
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What help() says of the extension. Made from bindings/neaptide/_neap.pyi by
 * bindings/ext/docstrings.py: change the stub and run that, not this.
 */
#ifndef NEAP_BINDINGS_EXT_DOCSTRINGS_H
#define NEAP_BINDINGS_EXT_DOCSTRINGS_H

/* clang-format off */
"""

TAIL = """
/* clang-format on */

#endif
"""


def signature(function: ast.FunctionDef, method: bool) -> str:
    """The text that inspect.signature() reads off a built-in function."""
    own = function.args
    words = ["$self" if method else "$module"]
    positional = own.posonlyargs[method:] if own.posonlyargs else []
    normal = own.args if own.posonlyargs else own.args[method:]
    if not positional:
        words.append("/")
    defaults = [ast.unparse(value) for value in own.defaults]
    arguments = [*positional, *normal]
    missing: list[str | None] = [None] * (len(arguments) - len(defaults))
    for i, (argument, default) in enumerate(
        zip(arguments, missing + defaults, strict=True), 1
    ):
        words.append(argument.arg + ("" if default is None else f"={default}"))
        if i == len(positional):
            words.append("/")
    return f"{function.name}({', '.join(words)})\n--\n\n"


def is_property(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(name) == "property" for name in function.decorator_list)


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names of macros and their texts, in the order of the stub."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node) or ""
            yield node.name, signature(node, method=False) + doc
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, ast.get_docstring(node) or ""
        for member in node.body:
            if not isinstance(member, ast.FunctionDef):
                continue
            doc = ast.get_docstring(member) or ""
            if not is_property(member):
                doc = signature(member, method=True) + doc
            yield f"{node.name}_{member.name}", doc


def literal(text: str) -> str:
    """A C string, one piece a line."""
    pieces = []
    for line in text.splitlines(keepends=True):
        words = textwrap.wrap(
            line.rstrip("\n"), 72, drop_whitespace=False, break_long_words=False
        )
        pieces += words
        if line.endswith("\n"):
            last = pieces.pop() if words else ""
            pieces.append(last + "\n")
    quoted = []
    for piece in pieces:
        escaped = piece.replace("\\", "\\\\").replace('"', '\\"')
        quoted.append('    "' + escaped.replace("\n", "\\n") + '"')
    return " \\\n".join(quoted)


def header() -> str:
    """The whole file."""
    with open(STUB, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    macros = [
        f"#define NEAP_DOC_{name} \\\n{literal(text)}\n"
        for name, text in documented(tree)
        if text
    ]
    return HEAD + "\n".join(["", *macros]) + TAIL


if __name__ == "__main__":
    with open(HEADER, "w", encoding="utf-8") as out:
        out.write(header())
