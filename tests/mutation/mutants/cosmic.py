"""The changes that cosmic-ray makes to a source. Nothing else here knows of it."""

from __future__ import annotations

from collections.abc import Iterator

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# Identity for equality and the other way round: they differ only for values that are equal and not the same. Nearly
# all that is compared here are small numbers, names from the source, None and types, of which Python keeps one each.
_SAME_TO_PYTHON = tuple(
    f"core/ReplaceComparisonOperator_{change}" for change in ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")
)
_NOTHING = ("core/NoOp",)


def mutations(source: str) -> Iterator[str]:
    """Yield the source with one change in it, for each change that there is, always in the same order."""
    tree = get_ast(source)
    for name in sorted(operator_names()):
        if name in (*_NOTHING, *_SAME_TO_PYTHON) or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = sum(1 for node in ast_nodes(tree) for _ in operator.mutation_positions(node))
        for occurrence in range(places):
            changed = mutate_code(source, operator, occurrence)
            if changed is not None:
                yield changed
