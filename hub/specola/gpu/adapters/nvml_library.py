"""NVIDIA's management library as plain values: GPUs, their MIG instances, what they do.

`nvidia-ml-py` (the extra `gpu`) is imported on first use, and its handles stay in here. Everything blocks; a call that
changes something needs root, or access to the driver's capability `mig/config`.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from specola.gpu.model import ActuatorError

GRAPHICS_UTILISATION = 1
"""NVML_GPM_METRIC_GRAPHICS_UTIL, in per cent"""
MOST_PLACES = 64
ABSENT = ("NOT_SUPPORTED", "NOT_FOUND", "INVALID_ARGUMENT")
"""errors of questions about what a GPU does not have"""
CLOSED = ("NO_PERMISSION",)
LOST = ("GPU_IS_LOST", "UNKNOWN", *CLOSED)


@dataclass(frozen=True)
class Device:
    """One GPU of this machine."""

    uuid: str
    index: int
    name: str
    pci_id: str
    """device and vendor as in `0x20B010DE`"""
    handle: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class Found:
    """One GPU instance: `uuid` is that of its MIG device, empty while it has no compute instance.

    `start` is None where this account may not ask for it.
    """

    uuid: str
    profile_id: int | None
    start: int | None
    size: int | None
    compute: int
    """compute slices"""
    mib: int
    instance: int
    """number of the GPU instance"""
    mig: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DriverProfile:
    """A GPU-instance profile as this driver has it."""

    id: int
    name: str
    compute: int
    mib: int
    maximum: int


class Library:
    """The management library, begun on first use."""

    def __init__(self) -> None:
        self._nvml: Any = None

    @property
    def nvml(self) -> Any:
        """The module, initialised; ActuatorError where there is no driver."""
        if self._nvml is None:
            try:
                nvml = import_module("pynvml")
            except ImportError:
                raise ActuatorError("nvidia-ml-py is not installed: it comes with `specola[gpu]`") from None
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                raise ActuatorError(f"the NVIDIA driver does not answer: {error}") from None
            self._nvml = nvml
        return self._nvml

    def close(self) -> None:
        """Let go of the library."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None

    @contextlib.contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn what the library says into an ActuatorError."""
        nvml = self.nvml
        try:
            yield
        except nvml.NVMLLibraryMismatchError:
            raise ActuatorError(f"{doing}: the driver is too old for this") from None
        except nvml.NVMLError as error:
            why = str(error)
            if error.value == nvml.NVML_ERROR_NO_PERMISSION:
                why = "this account may not (it needs root, or the driver's capability mig/config)"
            elif error.value == nvml.NVML_ERROR_IN_USE:
                why = "a process still uses it"
            elif error.value == nvml.NVML_ERROR_INSUFFICIENT_RESOURCES:
                why = "the slots are not free"
            raise ActuatorError(f"{doing}: {why}") from None

    def _unless(self, codes: tuple[str, ...], ask: Callable[..., Any], *arguments: Any) -> Any:
        """An answer, or None for errors that only say that there is none."""
        try:
            return ask(*arguments)
        except self.nvml.NVMLError as error:
            if error.value in {getattr(self.nvml, f"NVML_ERROR_{code}") for code in codes}:
                return None
            raise

    # ---- looking

    def version(self) -> str:
        """The driver's."""
        with self.explained("the driver's version"):
            return str(self.nvml.nvmlSystemGetDriverVersion())

    def devices(self) -> list[Device]:
        """The GPUs that answer; one that has fallen off the bus is not among them."""
        nvml, found = self.nvml, []
        with self.explained("the list of GPUs"):
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = self._unless(LOST, nvml.nvmlDeviceGetHandleByIndex, index)
                if handle is not None:
                    pci = nvml.nvmlDeviceGetPciInfo(handle).pciDeviceId
                    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
                    found.append(Device(uuid, index, name, f"0x{pci:08X}", handle))
        return found

    def mig_mode(self, device: Device) -> tuple[bool, bool]:
        """Whether MIG mode is on, and whether it will be after the next reset."""
        with self.explained(f"MIG mode of GPU {device.index}"):
            modes = self._unless(ABSENT, self.nvml.nvmlDeviceGetMigMode, device.handle)
        return (bool(modes[0]), bool(modes[1])) if modes else (False, False)

    def profiles(self, device: Device) -> Mapping[int, DriverProfile]:
        """GPU-instance profiles by their id; some drivers show them only in MIG mode."""
        nvml, found = self.nvml, {}
        for profile in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
            with self.explained("GPU-instance profiles"):
                info = self._unless(ABSENT, nvml.nvmlDeviceGetGpuInstanceProfileInfo, device.handle, profile)
            if info is not None:
                name = info.name.decode(errors="replace") if isinstance(info.name, bytes) else str(info.name)
                found[info.id] = DriverProfile(
                    info.id, name.removeprefix("MIG "), info.sliceCount, info.memorySizeMB, info.instanceCount
                )
        return found

    def placements(self, device: Device, profile_id: int) -> tuple[tuple[int, int], ...]:
        """(start, size) of every place that a profile may have on an empty GPU."""
        nvml = self.nvml
        places, count = (nvml.c_nvmlGpuInstancePlacement_t * MOST_PLACES)(), ctypes.c_uint(MOST_PLACES)
        with self.explained(f"places of profile {profile_id}"):
            nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device.handle, profile_id, places, ctypes.byref(count))
        return tuple((place.start, place.size) for place in places[: count.value])

    def instances(self, device: Device, profile_ids: frozenset[int]) -> list[Found]:
        """Every GPU instance; those without a compute instance only where this account may ask for them."""
        with self.explained(f"instances of GPU {device.index}"):
            found = list(self._mig_devices(device))
            known = {one.instance for one in found}
            for profile_id in sorted(profile_ids):
                for gi in self._of_profile(device, profile_id):
                    info = self.nvml.nvmlGpuInstanceGetInfo(gi)
                    if info.id not in known:
                        place = info.placement
                        found.append(Found("", info.profileId, place.start, place.size, 0, 0, info.id))
        return found

    def _mig_devices(self, device: Device) -> Iterator[Found]:
        nvml = self.nvml
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device.handle)):
            mig = self._unless(ABSENT, nvml.nvmlDeviceGetMigDeviceHandleByIndex, device.handle, index)
            if mig is None:
                continue
            number, uuid = nvml.nvmlDeviceGetGpuInstanceId(mig), nvml.nvmlDeviceGetUUID(mig)
            said = nvml.nvmlDeviceGetAttributes(mig)
            compute, mib = said.gpuInstanceSliceCount, said.memorySizeMB
            gi = self._unless(CLOSED, nvml.nvmlDeviceGetGpuInstanceById, device.handle, number)
            info = None if gi is None else self._unless(CLOSED, nvml.nvmlGpuInstanceGetInfo, gi)
            if info is None:
                yield Found(uuid, None, None, None, compute, mib, number, mig)
            else:
                place = info.placement
                yield Found(uuid, info.profileId, place.start, place.size, compute, mib, number, mig)

    def _of_profile(self, device: Device, profile_id: int) -> list[Any]:
        nvml = self.nvml
        handles, count = (nvml.c_nvmlGpuInstance_t * MOST_PLACES)(), ctypes.c_uint(MOST_PLACES)
        told = self._unless(
            CLOSED + ABSENT, nvml.nvmlDeviceGetGpuInstances, device.handle, profile_id, handles, ctypes.byref(count)
        )
        return [] if told is None else list(handles[: count.value])

    def processes(self, handle: Any) -> int:
        """How many compute processes a GPU or MIG device has."""
        with self.explained("the list of processes"):
            return len(self.nvml.nvmlDeviceGetComputeRunningProcesses(handle))

    def memory(self, handle: Any) -> int:
        """Bytes in use on a GPU or MIG device."""
        with self.explained("memory in use"):
            return int(self.nvml.nvmlDeviceGetMemoryInfo(handle).used)

    # ---- engine activity

    def gpm_sample(self, device: Device, instance: int | None) -> Any:
        """A reading of the performance monitor (Hopper and later) for `activity`; None where it cannot be had."""
        nvml = self.nvml
        codes = (*CLOSED, *ABSENT, "FUNCTION_NOT_FOUND")
        with self.explained("the performance monitor"):
            support = self._unless(codes, nvml.nvmlGpmQueryDeviceSupport, device.handle)
            if support is None or not support.isSupportedDevice:
                return None
            sample = nvml.nvmlGpmSampleAlloc()
            if instance is None:
                got = self._unless(codes, nvml.nvmlGpmSampleGet, device.handle, sample)
            else:
                got = self._unless(codes, nvml.nvmlGpmMigSampleGet, device.handle, instance, sample)
            if got is None:
                nvml.nvmlGpmSampleFree(sample)
        return got

    def gpm_free(self, sample: Any) -> None:
        """Give a reading back."""
        with self.explained("the performance monitor"):
            self.nvml.nvmlGpmSampleFree(sample)

    def activity(self, before: Any, after: Any) -> float | None:
        """Share of time with the graphics and compute engine active between two readings."""
        nvml = self.nvml
        ask = nvml.c_nvmlGpmMetricsGet_t()
        ask.version, ask.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 1
        ask.sample1, ask.sample2 = before, after
        ask.metrics[0].metricId = GRAPHICS_UTILISATION
        with self.explained("the performance monitor"):
            told = self._unless((*ABSENT, "NO_DATA"), nvml.nvmlGpmMetricsGet, ask)
        if told is None or told.metrics[0].nvmlReturn != nvml.NVML_SUCCESS:
            return None
        return min(1.0, max(0.0, float(told.metrics[0].value) / 100))

    def utilisation(self, device: Device) -> float | None:
        """Share of time with a kernel on a whole GPU; None in MIG mode, where the library does not support it."""
        with self.explained("utilisation"):
            rates = self._unless(ABSENT, self.nvml.nvmlDeviceGetUtilizationRates, device.handle)
        return None if rates is None else rates.gpu / 100

    # ---- changing

    def switch_mig(self, device: Device, *, on: bool) -> None:
        """Turn MIG mode on or off; ActuatorError, with the GPU as it was, where that needs a reset."""
        nvml = self.nvml
        with self.explained(f"MIG mode of GPU {device.index}"):
            status = nvml.nvmlDeviceSetMigMode(device.handle, int(on))
            if status != nvml.NVML_SUCCESS:
                # a change that waits for a reset would come as a surprise with the next one
                nvml.nvmlDeviceSetMigMode(device.handle, int(not on))
                word = "on" if on else "off"
                raise ActuatorError(
                    f"GPU {device.index} must be reset to turn MIG mode {word}: drain it, then "
                    f"`nvidia-smi -i {device.index} -mig {int(on)}` and `nvidia-smi -i {device.index} --gpu-reset`"
                )

    def create(self, device: Device, profile_id: int, start: int, size: int) -> None:
        """Make a GPU instance at a place, and on it one compute instance with all that it has."""
        nvml = self.nvml
        place = nvml.c_nvmlGpuInstancePlacement_t(start, size)
        with self.explained(f"slots {start} to {start + size - 1} of GPU {device.index}"):
            gi = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device.handle, profile_id, ctypes.byref(place))
            self._fill(gi)

    def complete(self, device: Device, instance: int) -> None:
        """Give a GPU instance the compute instance that it lacks."""
        with self.explained(f"GPU instance {instance} of GPU {device.index}"):
            self._fill(self.nvml.nvmlDeviceGetGpuInstanceById(device.handle, instance))

    def _fill(self, gi: Any) -> None:
        found = self._compute_profiles(gi)
        if not found:
            raise ActuatorError("the driver offers no compute instance for this GPU instance")
        # the first of the largest: later ones are variants of it
        largest = max(slices for _, slices in found)
        self.nvml.nvmlGpuInstanceCreateComputeInstance(gi, next(one for one, slices in found if slices == largest))

    def _compute_profiles(self, gi: Any) -> list[tuple[int, int]]:
        """(id, slices) of the compute instances that a GPU instance may have."""
        nvml, found = self.nvml, []
        for profile in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
            shared = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
            info = self._unless(ABSENT, nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, gi, profile, shared)
            if info is not None:
                found.append((info.id, info.sliceCount))
        return found

    def destroy(self, device: Device, instance: int) -> None:
        """Remove a GPU instance with its compute instances."""
        nvml = self.nvml
        with self.explained(f"GPU instance {instance} of GPU {device.index}"):
            gi = nvml.nvmlDeviceGetGpuInstanceById(device.handle, instance)
            for profile_id, _ in self._compute_profiles(gi):
                handles, count = (nvml.c_nvmlComputeInstance_t * MOST_PLACES)(), ctypes.c_uint(MOST_PLACES)
                nvml.nvmlGpuInstanceGetComputeInstances(gi, profile_id, handles, ctypes.byref(count))
                for ci in handles[: count.value]:
                    nvml.nvmlComputeInstanceDestroy(ci)
            nvml.nvmlGpuInstanceDestroy(gi)
