"""What Python source refers to, read from its text alone: the same on every Python that can read it."""

from __future__ import annotations

import ast
import symtable
import types
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Imported", "References", "references", "references_of_code"]

Chain = tuple[str, ...]
"""A name and the attributes that follow it: `("helpers", "fetch")`."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One import inside the text: `name` is None for a whole module, `level` counts the leading dots."""

    module: str
    name: str | None
    level: int


@dataclass(frozen=True, slots=True)
class References:
    """The chains whose first name is global, and the imports; sorted and each once."""

    chains: tuple[Chain, ...]
    imports: tuple[Imported, ...]


def references(text: str) -> References:
    """Read a piece of source. Raises SyntaxError where it is none by itself."""
    tree = ast.parse(text)
    free = set(_global_names(symtable.symtable(text, "<source>", "exec")))
    chains = {chain for chain in _chains(tree) if chain[0] in free}
    imports = {found for node in ast.walk(tree) for found in _imports(node)}
    return References(
        tuple(sorted(chains)), tuple(sorted(imports, key=lambda one: (one.level, one.module, str(one.name))))
    )


def references_of_code(code: types.CodeType) -> References:
    """Return every name that code may look up, for source that cannot be read by itself, as that of a lambda."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(name for name, *_ in references_of_code(constant).chains)
    return References(tuple((name,) for name in sorted(names)), ())


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    outermost = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_global() or (outermost and symbol.is_referenced()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)


def _chains(node: ast.AST) -> Iterator[Chain]:
    chain = _chain(node)
    if chain is not None:
        yield chain
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _chain(node: ast.AST) -> Chain | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def _imports(node: ast.AST) -> Iterator[Imported]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Imported(alias.name, None, 0)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield Imported(node.module or "", alias.name, node.level)
