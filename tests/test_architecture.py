"""The layout of the packages, read from their source: who imports whom, and how large modules and folders may be.

Every rule is a function of a `Sources`, so that each one is also shown to fail on a package that breaks it.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CCTBX = {"boost_adaptbx", "cctbx", "chiltbx", "cma_es", "fable", "gltbx", "iotbx", "libtbx", "mmtbx", "scitbx", "smtbx"}
ADAPTERS = ("adapters/edtbx_abtem", "adapters/edtbx_cctbx", "adapters/edtbx_launch")
MAX_LINES = 300
LONGER = {
    "edtbx_cctbx.maps.coefficients": 335,
    "edtbx_cctbx.targets.crystallographic_ls": 336,
}  # modules still to be cut: none may grow, none may join
MAX_MODULES = 12
MAX_ARGUMENTS = 7  # without a keyword
# (module, imported module): imports allowed elsewhere than at the top, and the only way from the plugin to cctbx
LOCAL_IMPORTS = {
    ("edtbx._import_order", "boost_adaptbx.boost.python"),
    ("edtbx._import_order", "numpy"),
    ("edtbx._import_order", "resource"),
    ("edtbx.fitting.nuisance_fit", "scipy.stats"),
    ("edtbx_abtem", "edtbx_abtem.solver"),
    ("edtbx_cctbx.programs.cluster", "distributed"),
    ("edtbx_cctbx.report.map_tables", "edtbx_cctbx.report.map_figure"),
    ("edtbx_cctbx.report.tables", "edtbx_cctbx.report.figure"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    module: str  # where the statement stands
    line: int
    target: str  # the module it loads
    at_top: bool


class Sources:
    """The parsed modules of one package."""

    def __init__(self, package: Path) -> None:
        self.paths = {self._name(package, path): path for path in sorted(package.rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.paths.items()}

    @staticmethod
    def _name(package: Path, path: Path) -> str:
        parts = path.relative_to(package.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self) -> Iterator[Import]:
        """Every import; `from a import b` loads a.b where that is a module of this package, otherwise a."""
        for name, tree in self.trees.items():
            local = {node for block in ast.walk(tree) if isinstance(block, _SCOPES) for node in ast.walk(block)}
            for node in ast.walk(tree):
                for target in self._targets(name, node):
                    yield Import(module=name, line=node.lineno, target=target, at_top=node not in local)

    def _targets(self, name: str, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if not isinstance(node, ast.ImportFrom):
            return []
        assert node.level == 0, f"{name}, line {node.lineno}: relative import (house style: absolute)"
        base = node.module or ""
        return [f"{base}.{a.name}" if f"{base}.{a.name}" in self.trees else base for a in node.names]


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def cctbx_imports(sources: Sources) -> list[str]:
    """Imports of cctbx or of another adapter, besides the guard's."""
    return [
        f"{i.module}, line {i.line}: {i.target}"
        for i in sources.imports()
        if (root := i.target.partition(".")[0]) != i.module.partition(".")[0]
        and (root in CCTBX or root.startswith("edtbx_"))
        and (i.module, i.target) not in LOCAL_IMPORTS
    ]


def kernel_imports(sources: Sources) -> list[str]:
    """Imports of numba: kernels are physics and belong in the plugin."""
    return [f"{i.module}, line {i.line}" for i in sources.imports() if i.target.partition(".")[0] == "numba"]


def foreign_private_imports(sources: Sources) -> list[str]:
    """Imports of the plugin's private modules, besides the guard."""
    return [
        f"{i.module}, line {i.line}: {i.target}"
        for i in sources.imports()
        if i.target.startswith("edtbx.") and "._" in i.target and i.target != "edtbx._import_order"
    ]


def long_modules(sources: Sources) -> list[str]:
    """Modules of more than MAX_LINES lines."""
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in sources.paths.items()}
    most = {name: LONGER.get(name, MAX_LINES) for name in lengths}
    return [f"{name}: {lines} lines, at most {most[name]}" for name, lines in lengths.items() if lines > most[name]]


def full_rooms(sources: Sources) -> list[str]:
    """Folders of more than MAX_MODULES modules."""
    rooms = Counter(path.parent for path in sources.paths.values() if path.name != "__init__.py")
    return [
        f"{room.name}: {number} modules, at most {MAX_MODULES}"
        for room, number in rooms.items()
        if number > MAX_MODULES
    ]


def long_signatures(sources: Sources) -> list[str]:
    """Functions that take more than MAX_ARGUMENTS arguments by place, compiled kernels aside."""
    found = []
    for name, tree in sources.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and "jit" not in "".join(map(ast.unparse, node.decorator_list)):
                places = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
                if len(places) > MAX_ARGUMENTS:
                    found.append(f"{name}, line {node.lineno}: {len(places)} arguments, at most {MAX_ARGUMENTS}")
    return found


def room_cycles(sources: Sources) -> list[str]:
    """Rooms (folders, or modules beside them) that import each other: each has its floor, and imports point down."""
    edges: dict[str, set[str]] = {}
    for i in sources.imports():
        one, other = _room(i.module), _room(i.target)
        if one and other and one != other and i.target in sources.trees:
            edges.setdefault(one, set()).add(other)
    return _cycles(edges)


def _room(module: str) -> str:
    return "".join(module.split(".")[1:2])


def local_imports(sources: Sources) -> list[str]:
    """Imports inside functions and classes that are not on the list."""
    return [
        f"{i.module}, line {i.line}: {i.target}"
        for i in sources.imports()
        if not i.at_top and (i.module, i.target) not in LOCAL_IMPORTS
    ]


def import_cycles(sources: Sources) -> list[str]:
    """Cycles among the modules of the package, each as a chain."""
    edges: dict[str, set[str]] = {name: set() for name in sources.trees}
    for i in sources.imports():
        if i.target in edges and i.target != i.module:
            edges[i.module].add(i.target)
    return _cycles(edges)


def _cycles(edges: dict[str, set[str]]) -> list[str]:
    found: list[str] = []
    finished: set[str] = set()

    def visit(name: str, chain: list[str]) -> None:
        if name in chain:
            found.append(" -> ".join([*chain[chain.index(name) :], name]))
        elif name not in finished:
            for target in sorted(edges.get(name, ())):
                visit(target, [*chain, name])
            finished.add(name)

    for name in edges:
        visit(name, [])
    return found


def parallel_kernels(sources: Sources) -> list[str]:
    """Uses of numba's own threads: beside cctbx's OpenMP stubs each of them runs the whole range, silently."""
    found = []
    for name, tree in sources.trees.items():
        for node in ast.walk(tree):
            prange = (
                (isinstance(node, ast.Name) and node.id == "prange")
                or (isinstance(node, ast.Attribute) and node.attr == "prange")
                or (isinstance(node, ast.alias) and node.name == "prange")
            )
            parallel = (
                isinstance(node, ast.keyword)
                and node.arg == "parallel"
                and not (isinstance(node.value, ast.Constant) and node.value.value is False)
            )
            if prange or parallel:
                found.append(f"{name}, line {node.lineno}: {'prange' if prange else 'parallel=...'}")
    return found


Rule = Callable[[Sources], list[str]]
BOTH: list[Rule] = [
    long_modules,
    full_rooms,
    long_signatures,
    local_imports,
    import_cycles,
    room_cycles,
    parallel_kernels,
]
RULES: list[tuple[str, Rule]] = [
    ("plugin/edtbx", cctbx_imports),
    ("adapters/edtbx_abtem", cctbx_imports),
    *[(package, rule) for package in ADAPTERS for rule in (kernel_imports, foreign_private_imports)],
    *[(package, rule) for package in ("plugin/edtbx", *ADAPTERS) for rule in BOTH],
]
BREACHES: list[tuple[Rule, dict[str, str]]] = [
    (cctbx_imports, {"a": "from cctbx import xray"}),
    (cctbx_imports, {"a": "def f():\n    import iotbx.cif"}),
    (cctbx_imports, {"a": "from edtbx_cctbx import x"}),
    (cctbx_imports, {"a": "from edtbx_abtem import x"}),
    (kernel_imports, {"a": "from numba import njit"}),
    (foreign_private_imports, {"a": "from edtbx._kernels import x"}),
    (long_modules, {"a": "x = 1\n" * (MAX_LINES + 1)}),
    (full_rooms, {f"a{n}": "" for n in range(MAX_MODULES + 1)}),
    (long_signatures, {"a": "class C:\n    def f(self, a, b, c, d, e, f, g, h): ..."}),
    (room_cycles, {"a/x": "from house.b import y", "b/y": "x = 1", "b/z": "from house.a import x"}),
    (local_imports, {"a": "def f():\n    import math"}),
    (local_imports, {"a": "class C:\n    def f(self):\n        from os import path"}),
    (import_cycles, {"a": "from house import b", "b": "import house.a"}),
    (import_cycles, {"a": "from house import b", "b": "from house.c import x", "c": "from house.a import y"}),
    (import_cycles, {"__init__": "from house.a import x", "a": "from house import x"}),
    (parallel_kernels, {"a": "@njit(parallel=True)\ndef f(): pass"}),
    (parallel_kernels, {"a": "from numba import prange as p"}),
    (parallel_kernels, {"a": "for i in numba.prange(3): pass"}),
]


@pytest.mark.parametrize(("package", "rule"), RULES)
def test_rule_holds(repository: Path, package: str, rule: Rule) -> None:
    sources = Sources(repository / package)
    assert sources.trees
    assert rule(sources) == []


@pytest.mark.parametrize(("rule", "modules"), BREACHES)
def test_rule_sees_a_breach(tmp_path: Path, rule: Rule, modules: dict[str, str]) -> None:
    package = tmp_path / "house"
    package.mkdir()
    for name, text in modules.items():
        path = package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert len(rule(Sources(package))) == 1


def test_the_guard_comes_first(repository: Path) -> None:
    for path in (
        "plugin/edtbx/__init__.py",
        "adapters/edtbx_cctbx/__init__.py",
        "adapters/edtbx_cctbx/_import_order.py",
    ):
        tree = ast.parse((repository / path).read_text(encoding="utf-8"))
        first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        assert "_import_order" in ast.unparse(first), path
