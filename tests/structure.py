"""Print the structure of the source: imports between its parts, cycles, sizes and complexity.

Usage: ``python tests/structure.py [DIRECTORY]``; the directory is ``src/hpcml`` of a checkout.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "hpcml"

# Nodes that add a path through a function, as radon counts them (McCabe 1976).
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)


def modules(tree: ast.Module) -> Iterator[str]:
    """Return the modules of hpcml that a module imports, those for type checkers included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("hpcml"))
        elif isinstance(node, ast.ImportFrom) and node.module == "hpcml":
            yield from (f"hpcml.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hpcml."):
            yield str(node.module)


def part(names: tuple[str, ...]) -> str:
    """Return the part that a module belongs to: a top-level module, a package, or a folder of workloads."""
    depth = 2 if names[0] == "workloads" and len(names) > 1 else 1
    return "/".join(names[:depth])


def complexity(function: ast.AST) -> int:
    """Return the number of independent paths through a function, without the functions in it."""
    paths, nodes = 1, list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        paths += isinstance(node, BRANCHES)
        if isinstance(node, ast.BoolOp):
            paths += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            paths += len(node.ifs)
        nodes += ast.iter_child_nodes(node)
    return paths


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of parts that import each other (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def main(root: Path = ROOT) -> None:
    graph: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    functions: list[tuple[int, str]] = []
    for path in sorted(root.rglob("*.py")):
        names = path.relative_to(root).with_suffix("").parts
        tree = ast.parse(path.read_text())
        sizes["/".join(names)] = len(path.read_text().splitlines())
        graph.setdefault(part(names), set())
        if names != ("__init__",):
            imported = {tuple(module.split(".")[1:]) or ("__init__",) for module in modules(tree)}
            graph[part(names)] |= {part(other) for other in imported} - {part(names)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                functions.append((complexity(node), f"{'/'.join(names)}.{node.name}"))
    for name in sorted(graph):
        print(f"{name:28} -> {', '.join(sorted(graph[name])) or '-'}")
    high = sorted((entry for entry in functions if entry[0] > 10), reverse=True)
    arrows = sum(map(len, graph.values()))
    print(f"\nparts {len(graph)}, imports between them {arrows}, cycles {cycles(graph) or 'none'}")
    print(f"modules {len(sizes)}, lines: median {statistics.median(sizes.values()):.0f}, most {max(sizes.values())}")
    print(f"functions {len(functions)}, with a complexity above 10: {len(high)} ({len(high) / len(functions):.1%})")
    print("the highest:", ", ".join(f"{name} {value}" for value, name in high[:10]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
