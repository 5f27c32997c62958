"""A mutant: the source of a file with one change in it, named by what was changed and not by its line."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from typing import NamedTuple


class Change(NamedTuple):
    """What a mutant is known by. It stays the same where other lines come and go."""

    file: str
    function: str
    """With the classes and functions around it; `<module>` outside of all."""
    removed: tuple[str, ...]
    """Lines without the space around them."""
    added: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"@@ {self.file} {self.function} @@"]
        lines += [f"-{line}" for line in self.removed]
        lines += [f"+{line}" for line in self.added]
        return "\n".join(lines)


@dataclass(frozen=True)
class Mutant:
    """One change to a file."""

    source: str
    """The whole file with the change in it."""
    line: int
    """The first one that differs, from 1."""
    change: Change


def mutant_of(file: str, before: str, after: str) -> Mutant:
    """Compare a file with its mutant, which must differ."""
    old, new = before.splitlines(), after.splitlines()
    removed: list[str] = []
    added: list[str] = []
    first = 0
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        first = first or a + 1
        removed += (line.strip() for line in old[a:b])
        added += (line.strip() for line in new[c:d])
    return Mutant(after, first, Change(file, _function_at(before, first), tuple(removed), tuple(added)))


def meaning(source: str) -> str:
    """Return what two sources share that do the same: their syntax without annotations, which nobody evaluates.

    Raises:
        SyntaxError: no Python.
    """
    return ast.dump(_WithoutAnnotations().visit(ast.parse(source)))


def _function_at(source: str, line: int) -> str:
    names: list[str] = []
    node: ast.AST = ast.parse(source)
    while True:
        inner = [child for child in ast.walk(node) if child is not node and _holds(child, line)]
        if not inner:
            return ".".join(names) or "<module>"
        node = inner[0]  # ast.walk goes from the outside to the inside
        names.append(getattr(node, "name", ""))


def _holds(node: ast.AST, line: int) -> bool:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    begins = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return begins <= line <= (node.end_lineno or node.lineno)


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node
