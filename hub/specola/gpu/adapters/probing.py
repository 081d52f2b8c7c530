"""What `specola doctor` says about a pool of GPUs: it looks, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specola.core.files import read_regular
from specola.gpu.adapters.nvml_library import Device, Library
from specola.gpu.geometry import GpuModel
from specola.gpu.model import ActuatorError, CondorPool, KubernetesPool, NvmlPool, Pool, SimulatedPool, SlurmPool


@dataclass(frozen=True)
class Seen:
    """One line: `well` is None for what was not tried; `todo` says what to do about what is not well."""

    well: bool | None
    text: str
    todo: str = ""


async def probe(pool: Pool, model: GpuModel, directory: Path, *, library: Library | None = None) -> list[Seen]:
    """What is found; `directory` is where the pool's state lies, which need not be there yet."""
    match pool:
        case SimulatedPool():
            return [_simulated(pool, directory)]
        case NvmlPool():
            return await asyncio.to_thread(lambda: list(_nvml(pool, model, library or Library())))
        case CondorPool() | SlurmPool():
            site = "HTCondor" if isinstance(pool, CondorPool) else "Slurm"
            return [Seen(None, f"{site} decides about its slices; a request shows what it says")]
        case KubernetesPool():
            return [Seen(None, "its slices are those of a Kubernetes cluster, which is not asked from here")]


def _simulated(pool: SimulatedPool, directory: Path) -> Seen:
    held = 0
    for index in range(pool.cards):
        try:
            slices = json.loads(read_regular(directory / f"card-{index}.json"))["slices"]
            held += sum(one["tag"] is not None for one in slices)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            return Seen(
                well=False, text=f"{directory} cannot be read", todo="ask as the facility's account, or as root"
            )
    cards = "1 card" if pool.cards == 1 else f"{pool.cards} cards"
    return Seen(well=True, text=f"simulated: {cards} {pool.model} that compute nothing, {held} slices held")


def _nvml(pool: NvmlPool, model: GpuModel, library: Library) -> Iterator[Seen]:
    try:
        yield Seen(well=True, text=f"driver {library.version()}")
        devices = library.devices()
        mine = [one for one in devices if one.uuid in pool.devices] if pool.devices else devices
        for uuid in pool.devices:
            if uuid not in {one.uuid for one in devices}:
                yield Seen(well=False, text=f"{uuid} does not answer", todo="see nvidia-smi, and `devices` of the pool")
        ours = [one for one in mine if one.pci_id in model.pci_ids or one.name in model.product_names]
        if not ours:
            others = ", ".join(sorted({f"{one.name} ({one.pci_id})" for one in mine})) or "none"
            yield Seen(well=False, text=f"no {model.name} is here; found: {others}", todo="correct `model` of the pool")
        for device in ours:
            yield from _card(pool, model, library, device)
    except ActuatorError as error:
        yield Seen(well=False, text=str(error), todo="install the driver and `specola[gpu]`, or take the pool out")
    finally:
        library.close()


def _card(pool: NvmlPool, model: GpuModel, library: Library, device: Device) -> Iterator[Seen]:
    mig, pending = library.mig_mode(device)
    ids = frozenset(model.geometry.shapes[shape].profile_id for shape in model.profiles)
    slices = f"MIG mode with {len(library.instances(device, ids))} slices" if mig else "without MIG mode"
    yield Seen(well=True, text=f"GPU {device.index} is a {device.name}, {slices}")
    if pending != mig:
        yield Seen(
            well=False,
            text=f"GPU {device.index} changes its MIG mode at the next reset",
            todo=f"drain it and reset it: nvidia-smi -i {device.index} --gpu-reset",
        )
    elif pool.create and not mig and not model.resetless_mig_toggle:
        yield Seen(
            well=False,
            text=f"GPU {device.index} needs a reset before it can be partitioned",
            todo=f"nvidia-smi -i {device.index} -mig 1, then nvidia-smi -i {device.index} --gpu-reset",
        )
    yield from _table(model, library, device)
    reading = library.gpm_sample(device, None)
    if reading is not None:
        library.gpm_free(reading)
    elif not mig:
        yield Seen(None, f"GPU {device.index} has no performance monitor: only whole GPUs have their engine measured")


def _table(model: GpuModel, library: Library, device: Device) -> Iterator[Seen]:
    """Where the driver contradicts the table of models."""
    offered = library.profiles(device)
    for shape in model.profiles:
        known = model.geometry.shapes[shape]
        profile = offered.get(known.profile_id)
        if profile is None:
            continue
        if profile.compute != known.counters.get("compute", profile.compute):
            yield Seen(
                well=False,
                text=f"profile {profile.id} of this driver is {profile.name}, not a slice {shape}",
                todo="report it: Specola's table of models does not know this driver",
            )
