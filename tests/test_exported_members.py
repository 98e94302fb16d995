"""What `import ganzoo` offers, and what it does not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ganzoo


def test_all_is_sorted_and_lists_every_public_name() -> None:
    assert ganzoo.__all__ == sorted(ganzoo.__all__)
    assert set(ganzoo.__all__) == {"__version__", *ganzoo._LAZY}
    assert dir(ganzoo) == ganzoo.__all__


@pytest.mark.parametrize("name", ganzoo.__all__)
def test_every_public_name_resolves_to_what_its_module_defines(name: str) -> None:
    value = getattr(ganzoo, name)
    if name != "__version__":
        assert value is getattr(sys.modules[ganzoo._LAZY[name]], name)
        assert value.__doc__


def test_type_checkers_see_the_same_names_as_users() -> None:
    """The lazy names are told to type checkers by imports under TYPE_CHECKING, which must not fall behind."""
    tree = ast.parse(Path(ganzoo.__file__).read_text(encoding="utf-8"))
    imports = {
        (alias.name, node.module)
        for branch in tree.body
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imports == set(ganzoo._LAZY.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ganzoo' has no attribute 'trian'"):
        ganzoo.trian  # noqa: B018


def test_importing_ganzoo_imports_nothing_heavy() -> None:
    code = (
        "import sys; import ganzoo; from ganzoo import register_generator, GanzooError; import ganzoo.cli.main; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'pydantic', 'PIL', 'rich', 'onnx', 'onnxruntime', 'sklearn', 'matplotlib', 'torchvision'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_library_imports_neither_click_nor_rich_nor_its_own_export_and_prints_nothing() -> None:
    """DESIGN: dependencies point one way, and only reporters and the command line print."""
    root = Path(__file__).resolve().parents[1] / "ganzoo"
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                for module in modules:
                    assert module.partition(".")[0] not in ("click", "rich"), where
                    assert not module.startswith("ganzoo.export"), where
                    assert not module.startswith("ganzoo.cli") or path.name == "__main__.py", where
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", where
