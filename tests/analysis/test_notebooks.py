"""The notebooks as they are, with one substitution: Dask's own cluster stands where a facility would give one.

That a cluster of a facility does the same is for the journeys, which run the first notebook inside a spawned server.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LOCAL_CLUSTER = """
import sys, types
import specola_lab
from distributed import LocalCluster

class Cluster(LocalCluster):
    stop = LocalCluster.close

scaleout = types.ModuleType("specola_lab.scaleout")
scaleout.cluster = lambda workers: Cluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
sys.modules["specola_lab.scaleout"] = specola_lab.scaleout = scaleout
"""

GPU_KERNELS = """
import os, sys, types
import specola_lab
from pathlib import Path

os.environ |= {"CUDA_VISIBLE_DEVICES": "MIG-invented", "SPECOLA_SIMULATED_GPU": "invented"}
place, hooks = Path.home() / "saved", []
gpu = types.ModuleType("specola_lab.gpu")


class Wish:
    def wait(self, seconds):
        return {"gib": 4.75, "model": "A100-40GB", "simulated": True}


def release():
    place.mkdir(exist_ok=True)
    hooks[-1][0](place)
    state["weights"], state["steps"] = None, None


gpu.offers, gpu.request = list, lambda gib, minutes: Wish()
gpu.checkpoint = lambda save, load: hooks.append((save, load))
gpu.release, gpu.restore = release, lambda: hooks[-1][1](place)
sys.modules["specola_lab.gpu"] = specola_lab.gpu = gpu
"""


def executed(name: str, home: Path, **replaced: str) -> nbformat.NotebookNode:
    """The notebook after a run in a home directory; ``replaced`` are words to put in the place of others."""
    notebook = nbformat.read(NOTEBOOKS / name, 4)
    for cell in notebook.cells:
        for old, new in replaced.items():
            cell.source = cell.source.replace(old, new)
    for code in (LOCAL_CLUSTER, GPU_KERNELS) if "gpu" in name else (LOCAL_CLUSTER,):
        notebook.cells.insert(0, nbformat.v4.new_code_cell(code))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(home)}})
    # without a font cache of its own, which takes longer than the analysis
    client.execute(env={**os.environ, "HOME": str(home), "MPLCONFIGDIR": mpl.get_cachedir()})
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells wrote to standard output."""
    return "".join(
        out.text for cell in notebook.cells for out in cell.get("outputs", ()) if out.get("name") == "stdout"
    )


def pictures(notebook: nbformat.NotebookNode) -> int:
    """How many pictures the cells drew."""
    return sum("image/png" in out.get("data", ()) for cell in notebook.cells for out in cell.get("outputs", ()))


def test_the_first_notebook_finds_the_published_numbers(cms_files: Path, tmp_path: Path) -> None:
    """84 muons in 66 pairs, 18 muons in 6 pairs, a spectrum, and no cluster left behind."""
    shutil.copytree(cms_files, tmp_path / "data")
    notebook = executed("01-first-analysis.ipynb", tmp_path)
    said = printed(notebook)
    assert "CMS data, 2018: 84 muons, 66 pairs" in said
    assert "Drell–Yan simulation: 18 muons, 6 pairs" in said
    assert said.endswith("The cluster is stopped.\n")
    assert pictures(notebook) == 1


def test_without_data_the_first_notebook_says_what_to_do(tmp_path: Path) -> None:
    """An empty home ends in one sentence that names the folder and the tool."""
    with pytest.raises(CellExecutionError) as caught:
        executed("01-first-analysis.ipynb", tmp_path)
    assert f"{tmp_path / 'data'} has no nano_dimuon.root and no nano_dy.root" in str(caught.value)
    assert "scripts/samples.py" in str(caught.value)


def test_the_second_notebook_compares_three_implementations(tmp_path: Path) -> None:
    """With a tenth of the events, to be quick: they agree, and four plots in two pictures are drawn."""
    notebook = executed("02-vbs.ipynb", tmp_path, **{"40_000": "4_000"})
    said = printed(notebook)
    assert "The three implementations agree in every number." in said
    assert said.endswith("The cluster is stopped.\n")
    assert pictures(notebook) == 2


def test_the_third_notebook_goes_on_where_its_checkpoint_was(tmp_path: Path) -> None:
    """With one kernel for both of its own; that real ones do the same is for the journeys."""
    said = printed(executed("03-gpu.ipynb", tmp_path))
    assert "4.75 GiB of one A100-40GB (simulated) is held for you." in said
    assert "This kernel sees MIG-invented (simulated); " in said
    assert "Restored after 10 steps: " in said
    assert "Now 410 steps: 1.50, -1.98, 0.68" in said


def test_each_cell_of_the_third_notebook_says_its_kernel() -> None:
    notebook = nbformat.read(NOTEBOOKS / "03-gpu.ipynb", 4)
    tags = [tuple(cell.metadata["tags"]) for cell in notebook.cells if cell.cell_type == "code"]
    assert set(tags) == {("cpu",), ("gpu",)}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    """What a reader sees was computed by the reader."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
