"""The CMS files, from where ``scripts/test`` puts them or else from the package index, and a Dask cluster."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from distributed import Client, LocalCluster

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """``scripts/samples.py`` as a module."""
    spec = importlib.util.spec_from_file_location("samples", TOP / "scripts" / "samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cms_files(samples: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two CMS files."""
    installed = Path(sys.prefix, "share", "specola", "skeleton", "data")
    if samples.complete(installed):
        return installed
    folder = tmp_path_factory.mktemp("cms")
    samples.provide(folder)
    return folder


@pytest.fixture(scope="module")
def dask() -> Iterator[Client]:
    """A client of two Dask workers in this process."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client
