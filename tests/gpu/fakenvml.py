"""A stand-in for NVIDIA's library beneath `pynvml`: the C functions that are used, with the library's strictness.

It knows a model's profiles and places, refuses what the documentation says is refused, and hands out opaque handles.
What it cannot know is what hardware does beyond its documentation.
"""

# ruff: noqa: N802 - the names are the library's
from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pynvml as nv
from specola.gpu.adapters.slices import refusal
from specola.gpu.geometry import GpuModel

RESULTS = {name.removeprefix("NVML_ERROR_"): getattr(nv, name) for name in dir(nv) if name.startswith("NVML_ERROR_")}
OK = nv.NVML_SUCCESS


@dataclass
class Gi:
    """A GPU instance."""

    id: int
    shape: str
    start: int
    cis: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    memory: int = 0
    engine: float = 0.0
    alien: int | None = None
    """profile id that nobody knows"""


@dataclass
class Gpu:
    """A GPU."""

    index: int
    mig: bool = False
    pending: bool = False
    gis: list[Gi] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    engine: float = 0.0
    lost: bool = False
    pci: str = ""

    @property
    def uuid(self) -> str:
        return f"GPU-0000000{self.index}-0000-0000-0000-000000000000"


class FakeNvml:
    """What `pynvml.nvmlLib` is in tests."""

    def __init__(self, model: GpuModel, cards: int = 1, *, renamed: str = "") -> None:
        self.model = model
        self.gpus = [Gpu(index, pci=model.pci_ids[0]) for index in range(cards)]
        self.refused: set[str] = set()
        """names of functions that this account may not call"""
        self.failing: dict[str, str] = {}
        """name of a function → name of an error"""
        self.missing: set[str] = set()
        """names of functions that this driver lacks"""
        self.calls: list[str] = []
        self.gpm = model.resetless_mig_toggle
        self.renamed = renamed
        self._numbers = count(1)
        self._samples: dict[int, float | None] = {}

    def __getattribute__(self, name: str):
        if not name.startswith("nvml"):
            return object.__getattribute__(self, name)
        if name in self.missing:
            raise AttributeError(name)
        if name == "nvmlErrorString":
            return lambda result: f"error {result}".encode()
        function = object.__getattribute__(self, f"_{name}")

        def call(*arguments):
            self.calls.append(name)
            if name in self.refused:
                return RESULTS["NO_PERMISSION"]
            if name in self.failing:
                return RESULTS[self.failing[name]]
            answer = function(*arguments)
            return RESULTS[answer] if answer else OK

        return call

    @property
    def samples(self) -> int:
        """Readings of the performance monitor that nobody has given back."""
        return len(self._samples)

    # ---- handles: a GPU is 1000 + index, its GPU instance n (1000 + index) * 1000 + n, both whole numbers as pointers

    def _gpu(self, handle) -> Gpu:
        return self.gpus[_number(handle) - 1000]

    def _place(self, handle) -> tuple[Gpu, Gi]:
        gpu = self.gpus[_number(handle) // 1000 - 1000]
        return gpu, next(gi for gi in gpu.gis if gi.id == _number(handle) % 1000)

    def _is_mig(self, handle) -> bool:
        return _number(handle) >= 1_000_000

    # ---- functions

    def _nvmlInitWithFlags(self, _flags):
        return None

    def _nvmlShutdown(self):
        return None

    def _nvmlSystemGetDriverVersion(self, buffer, _size):
        buffer.value = b"580.00"

    def _nvmlDeviceGetCount_v2(self, found):
        found._obj.value = len(self.gpus)

    def _nvmlDeviceGetHandleByIndex_v2(self, index, found):
        if self.gpus[index.value].lost:
            return "GPU_IS_LOST"
        _put(found, 1000 + index.value)
        return None

    def _nvmlDeviceGetPciInfo_v3(self, handle, found):
        found._obj.pciDeviceId = int(self._gpu(handle).pci, 16)

    def _nvmlDeviceGetName(self, handle, buffer, _size):
        ours = self._gpu(handle).pci in self.model.pci_ids
        buffer.value = self.model.product_names[0].encode() if ours else b"NVIDIA T4"

    def _nvmlDeviceGetUUID(self, handle, buffer, _size):
        if self._is_mig(handle):
            gpu, gi = self._place(handle)
            buffer.value = f"MIG-{gpu.index}{gi.id:07}-0000-0000-0000-{gi.start:012}".encode()
        else:
            buffer.value = self._gpu(handle).uuid.encode()

    def _nvmlDeviceGetMigMode(self, handle, current, pending):
        gpu = self._gpu(handle)
        current._obj.value, pending._obj.value = gpu.mig, gpu.pending

    def _nvmlDeviceSetMigMode(self, handle, mode, status):
        gpu = self._gpu(handle)
        status._obj.value = OK
        if bool(mode) == gpu.mig:
            gpu.pending = gpu.mig
        elif gpu.gis or gpu.processes:
            return "IN_USE"
        elif self.model.resetless_mig_toggle:
            gpu.mig = gpu.pending = bool(mode)
        else:
            gpu.pending = bool(mode)
            status._obj.value = RESULTS["RESET_REQUIRED"]
        return None

    def _profiles(self):
        return sorted(self.model.profiles.values(), key=lambda one: -self._shape(one.shape).profile_id)

    def _shape(self, name):
        return self.model.geometry.shapes[name]

    def _nvmlDeviceGetGpuInstanceProfileInfoV(self, _handle, profile, found):
        if profile >= len(self.model.profiles):
            return "NOT_SUPPORTED"
        known = self._profiles()[profile]
        info = found._obj
        info.id, info.sliceCount = self._shape(known.shape).profile_id, self._shape(known.shape).counters["compute"]
        info.instanceCount, info.memorySizeMB = known.maximum, int(known.gib * 1024)
        info.name = f"MIG {self.renamed or known.name}".encode()
        return None

    def _nvmlDeviceGetGpuInstancePossiblePlacements_v2(self, _handle, profile_id, places, found):
        shape = next(one for one in self.model.geometry.shapes.values() if one.profile_id == profile_id)
        for index, start in enumerate(shape.starts):
            places[index].start, places[index].size = start, shape.size
        found._obj.value = len(shape.starts)

    def _nvmlDeviceGetMaxMigDeviceCount(self, handle, found):
        found._obj.value = 7 if self._gpu(handle).mig else 0

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index, found):
        gpu = self._gpu(handle)
        devices = [gi for gi in gpu.gis for _ in gi.cis]
        if index.value >= len(devices):
            return "NOT_FOUND"
        _put(found, (1000 + gpu.index) * 1000 + devices[index.value].id)
        return None

    def _nvmlDeviceGetGpuInstanceId(self, handle, found):
        found._obj.value = self._place(handle)[1].id

    def _nvmlDeviceGetAttributes_v2(self, handle, found):
        _, gi = self._place(handle)
        found._obj.gpuInstanceSliceCount = self._shape(gi.shape).counters["compute"]
        found._obj.memorySizeMB = int(self.model.profiles[gi.shape].gib * 1024)

    def _nvmlDeviceGetGpuInstanceById(self, handle, number, found):
        gpu = self._gpu(handle)
        if not any(gi.id == number for gi in gpu.gis):
            return "NOT_FOUND"
        _put(found, (1000 + gpu.index) * 1000 + number)
        return None

    def _nvmlDeviceGetGpuInstances(self, handle, profile_id, handles, found):
        gpu = self._gpu(handle)
        if not gpu.mig:
            return "NOT_SUPPORTED"
        some = [gi for gi in gpu.gis if gi.alien is None and self._shape(gi.shape).profile_id == profile_id]
        for index, gi in enumerate(some):
            _put_at(handles, index, (1000 + gpu.index) * 1000 + gi.id)
        found._obj.value = len(some)
        return None

    def _nvmlGpuInstanceGetInfo(self, handle, found):
        _, gi = self._place(handle)
        info, shape = found._obj, self._shape(gi.shape)
        info.id, info.profileId = gi.id, shape.profile_id if gi.alien is None else gi.alien
        info.placement.start, info.placement.size = gi.start, shape.size

    def _nvmlDeviceCreateGpuInstanceWithPlacement(self, handle, profile_id, placement, found):
        gpu, place = self._gpu(handle), placement._obj
        if not gpu.mig:
            return "NOT_SUPPORTED"
        shape = next(one for one in self.model.geometry.shapes.values() if one.profile_id == profile_id)
        if place.start not in shape.starts or place.size != shape.size:
            return "INVALID_ARGUMENT"
        if refusal(self.model, [(gi.shape, gi.start) for gi in gpu.gis], (), shape.name, place.start):
            return "INSUFFICIENT_RESOURCES"
        gi = Gi(next(self._numbers), shape.name, place.start)
        gpu.gis.append(gi)
        _put(found, (1000 + gpu.index) * 1000 + gi.id)
        return None

    def _nvmlGpuInstanceDestroy(self, handle):
        gpu, gi = self._place(handle)
        if gi.cis:
            return "IN_USE"
        gpu.gis.remove(gi)
        return None

    def _nvmlGpuInstanceGetComputeInstanceProfileInfoV(self, handle, profile, _engine, found):
        _, gi = self._place(handle)
        most = self._shape(gi.shape).counters["compute"]
        slices = (1, 2, 3, 4, 7, 8, 6, 1, 7)[profile]
        if slices > most:
            return "NOT_SUPPORTED"
        found._obj.id, found._obj.sliceCount = 10 + profile, slices
        return None

    def _nvmlGpuInstanceCreateComputeInstance(self, handle, profile_id, found):
        _, gi = self._place(handle)
        if gi.cis:
            return "INSUFFICIENT_RESOURCES"
        assert profile_id == 10 + (1, 2, 3, 4, 7).index(self._shape(gi.shape).counters["compute"])
        gi.cis.append(profile_id)
        _put(found, _number(handle))
        return None

    def _nvmlGpuInstanceGetComputeInstances(self, handle, profile_id, handles, found):
        _, gi = self._place(handle)
        some = [one for one in gi.cis if one == profile_id]
        for index in range(len(some)):
            _put_at(handles, index, _number(handle))
        found._obj.value = len(some)

    def _nvmlComputeInstanceDestroy(self, handle):
        _, gi = self._place(handle)
        if gi.processes:
            return "IN_USE"
        gi.cis.pop()
        return None

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, handle, found, array):
        processes = self._place(handle)[1].processes if self._is_mig(handle) else self._gpu(handle).processes
        if array is None:
            found._obj.value = len(processes)
            return "INSUFFICIENT_SIZE" if processes else None
        found._obj.value = len(processes)
        for index, pid in enumerate(processes):
            array[index].pid = pid
        return None

    def _nvmlDeviceGetMemoryInfo(self, handle, found):
        found._obj.used = self._place(handle)[1].memory if self._is_mig(handle) else 0

    def _nvmlDeviceGetUtilizationRates(self, handle, found):
        if self._gpu(handle).mig:
            return "NOT_SUPPORTED"
        found._obj.gpu = int(100 * self._gpu(handle).engine)
        return None

    def _nvmlGpmQueryDeviceSupport(self, _handle, found):
        found._obj.isSupportedDevice = self.gpm

    def _nvmlGpmSampleAlloc(self, found):
        number = next(self._numbers)
        self._samples[number] = None
        _put(found, number)

    def _nvmlGpmSampleFree(self, sample):
        del self._samples[_number(sample)]

    def _nvmlGpmSampleGet(self, handle, sample):
        if self._gpu(handle).mig:
            return "NOT_SUPPORTED"
        self._samples[_number(sample)] = self._gpu(handle).engine
        return None

    def _nvmlGpmMigSampleGet(self, handle, number, sample):
        self._samples[_number(sample)] = next(gi.engine for gi in self._gpu(handle).gis if gi.id == number)

    def _nvmlGpmMetricsGet(self, found):
        ask = found._obj
        if ask.version != nv.NVML_GPM_METRICS_GET_VERSION:
            return "ARGUMENT_VERSION_MISMATCH"
        assert (ask.numMetrics, ask.metrics[0].metricId) == (1, nv.NVML_GPM_METRIC_GRAPHICS_UTIL)
        assert _number(ask.sample1) in self._samples
        ask.metrics[0].nvmlReturn = OK
        ask.metrics[0].value = 100 * (self._samples[_number(ask.sample2)] or 0.0)
        return None


def _number(handle) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _put(reference, number: int) -> None:
    _write(ctypes.addressof(reference._obj), number)


def _put_at(array, index: int, number: int) -> None:
    _write(ctypes.addressof(array) + 8 * index, number)


def _write(address: int, number: int) -> None:
    pointer = ctypes.c_void_p(number)  # kept until it is copied
    ctypes.memmove(address, ctypes.addressof(pointer), 8)


@contextlib.contextmanager
def beneath(fake: FakeNvml | None) -> Iterator[None]:
    """Let `pynvml` find the stand-in instead of a driver."""
    before = nv.nvmlLib
    nv._nvmlGetFunctionPointer_cache.clear()
    nv.nvmlLib = fake
    try:
        yield
    finally:
        nv._nvmlGetFunctionPointer_cache.clear()
        nv.nvmlLib = before
