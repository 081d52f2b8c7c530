"""Kubernetes objects for slices of GPUs, as pure functions: nothing here asks a cluster.

Three ways, chosen for each pool. `device-plugin`: a slice is an extended resource; with the *mixed* strategy each
profile is a resource of its own, with the *single* one every slice is `nvidia.com/gpu` and a label of the node says
which. `dra`: a claim names the profile, and the scheduler chooses the place. `mig-parted`: the layout of a whole,
drained node is a document and a label; its slices are then had through the device plugin.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from specola.gpu.adapters.slices import hidden, lay_out
from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.model import ActuatorError, KubernetesPool, Work

CLAIM = "gpu"
CONFIG_LABEL = "nvidia.com/mig.config"
STATE_LABEL = "nvidia.com/mig.config.state"
PRODUCT_LABEL = "nvidia.com/gpu.product"
LONGEST_LABEL = 63
SETTINGS = "kernel.json"
PLACE = "/run/specola"

LayoutState = Literal["unknown", "pending", "rebooting", "success", "failed"]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class PodParts:
    """What a pod needs for one slice, beside all else that it has."""

    limits: Mapping[str, str] = field(default_factory=dict)
    """extended resources; requests are the same, Kubernetes fills them in"""
    claim_template: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    products: tuple[str, ...] = ()
    """values of the node's product label, one of which it must have"""
    environment: Mapping[str, str] = field(default_factory=dict)

    def traits(self) -> Manifest:
        """Settings of KubeSpawner; a claim needs `into_container` in its `modify_pod_hook` besides.

        `extra_container_config` cannot carry the claim: it would replace the limits of memory and processor.
        """
        traits: Manifest = {"node_selector": dict(self.node_selector), "environment": dict(self.environment)}
        if self.limits:
            traits["extra_resource_limits"] = dict(self.limits)
        if self.claim_template is not None:
            traits["extra_pod_config"] = {"resourceClaims": self._claims()}
        if self.products:
            traits["node_affinity_required"] = [self._product_term()]
        return traits

    def into_container(self, container: Manifest) -> Manifest:
        """A container with the slice added to what it has already."""
        resources = dict(container.get("resources", {}))
        if self.limits:
            resources["limits"] = dict(resources.get("limits", {})) | dict(self.limits)
        if self.claim_template is not None:
            resources["claims"] = [*resources.get("claims", []), {"name": CLAIM}]
        known = {entry["name"] for entry in container.get("env", [])}
        more = [{"name": name, "value": value} for name, value in self.environment.items() if name not in known]
        changed = {**container, "env": [*container.get("env", []), *more]}
        return changed | ({"resources": resources} if resources else {})

    def into_pod(self, pod: Manifest) -> Manifest:
        """A pod whose first container has the slice."""
        spec = dict(pod["spec"])
        spec["containers"] = [self.into_container(spec["containers"][0]), *spec["containers"][1:]]
        if self.node_selector:
            spec["nodeSelector"] = dict(spec.get("nodeSelector", {})) | dict(self.node_selector)
        if self.claim_template is not None:
            spec["resourceClaims"] = [*spec.get("resourceClaims", []), *self._claims()]
        if self.products:
            required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [self._product_term()]}}
            spec["affinity"] = dict(spec.get("affinity", {})) | {"nodeAffinity": required}
        return {**pod, "spec": spec}

    def _claims(self) -> list[Manifest]:
        return [{"name": CLAIM, "resourceClaimTemplateName": self.claim_template}]

    def _product_term(self) -> Manifest:
        values = list(self.products)
        return {"matchExpressions": [{"key": PRODUCT_LABEL, "operator": "In", "values": values}]}


WITHOUT_GPU = PodParts(environment=hidden())
"""For a server without a slice: on a node with GPUs the container runtime would show it all of them."""


def pod_parts(name: str, pool: KubernetesPool, model: GpuModel, shape: str) -> PodParts:
    """What a pod needs for a slice of the pool `name`."""
    if pool.actuator == "dra":
        return PodParts(claim_template=template_name(name, shape), node_selector=pool.node_selector)
    if pool.strategy == "single":
        # every slice of such a node is of one profile, and the resource's name does not say which
        labels = [product_label(product, _profile(model, shape)) for product in model.product_names]
        # a longer one cannot be a label: nodes of that product are found by `node_selector` alone
        products = tuple(label for label in labels if len(label) <= LONGEST_LABEL)
        return PodParts({"nvidia.com/gpu": "1"}, node_selector=pool.node_selector, products=products)
    return PodParts({resource_name(model, shape): "1"}, node_selector=pool.node_selector)


def resource_name(model: GpuModel, shape: str) -> str:
    """The extended resource of a shape under the mixed strategy."""
    profile = _profile(model, shape)
    return "nvidia.com/gpu" if profile is None else f"nvidia.com/mig-{profile.replace('+', '.')}"


def product_label(product: str, profile: str | None) -> str:
    """What GPU feature discovery writes into a node's label under the single strategy."""
    plain = product.replace(" ", "-")
    return plain if profile is None else f"{plain}-MIG-{profile.replace('+', '.')}"


def _profile(model: GpuModel, shape: str) -> str | None:
    if shape == WHOLE:
        return None
    if shape not in model.profiles:
        raise ActuatorError(f"{model.name} has no slice of the shape {shape}")
    return model.profiles[shape].name


# ---- claims


def template_name(name: str, shape: str) -> str:
    """The name of a claim template: a DNS label, different for different pools and shapes."""
    return _dns(f"specola-{name}-{shape}")


def claim_template(
    name: str, model: GpuModel, shapes: Sequence[str], *, namespace: str | None = None, together: bool = True
) -> Manifest:
    """A ResourceClaimTemplate (resource.k8s.io/v1) for one slice, or for several that lie on one GPU."""
    requests = [_device_request(model, shape, number) for number, shape in enumerate(shapes)]
    devices: Manifest = {"requests": requests}
    if together and len(requests) > 1:
        names = [request["name"] for request in requests]
        devices["constraints"] = [{"requests": names, "matchAttribute": "gpu.nvidia.com/parentUUID"}]
    metadata: Manifest = {"name": template_name(name, "-".join(shapes)), "labels": {"specola.pool": _dns(name)}}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": metadata,
        "spec": {"spec": {"devices": devices}},
    }


def _device_request(model: GpuModel, shape: str, number: int) -> Manifest:
    profile = _profile(model, shape)
    if profile is None:
        return {"name": f"gpu-{number}", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
    expression = f"device.attributes['gpu.nvidia.com'].profile == '{profile}'"
    selectors = [{"cel": {"expression": expression}}]
    return {"name": f"mig-{number}", "exactly": {"deviceClassName": "mig.nvidia.com", "selectors": selectors}}


# ---- layouts of whole nodes


def mig_config(model: GpuModel, layouts: Mapping[str, Sequence[str]]) -> Manifest:
    """mig-parted's document: each layout is what every GPU of this model gets; `[]` turns MIG mode off."""
    return {
        "version": "v1",
        "mig-configs": {name: [_config(model, shapes)] for name, shapes in layouts.items()},
    }


def _config(model: GpuModel, shapes: Sequence[str]) -> Manifest:
    config: Manifest = {"device-filter": list(model.pci_ids), "devices": "all", "mig-enabled": bool(shapes)}
    if shapes:
        if WHOLE in shapes or lay_out(model, shapes) is None:
            raise ActuatorError(f"the slices {', '.join(shapes)} do not fit on one {model.name}")
        config["mig-devices"] = dict(Counter(model.profiles[shape].name for shape in sorted(shapes)))
    return config


def config_name(shapes: Sequence[str]) -> str:
    """A name for a layout that may be the value of a label."""
    if not shapes:
        return "specola-off"
    counted = sorted(Counter(shapes).items())
    name = "specola-" + "-".join(f"{count}x{shape.replace('+', '.')}" for shape, count in counted)
    return _short(name)


def config_map(document: Manifest, *, name: str, namespace: str) -> Manifest:
    """The ConfigMap that the MIG manager of the GPU operator reads its document from."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"config.yaml": yaml.safe_dump(document, sort_keys=False)},
    }


def node_patch(config: str) -> Manifest:
    """A merge patch that asks the MIG manager of a node for a layout; the node must be drained, and may reboot."""
    return {"metadata": {"labels": {CONFIG_LABEL: config}}}


def layout_state(labels: Mapping[str, str], config: str) -> LayoutState:
    """How far a node is with a layout; the state is that of the layout which its label asks for."""
    if labels.get(CONFIG_LABEL) != config:
        return "unknown"
    state = labels.get(STATE_LABEL, "unknown")
    return state if state in {"pending", "rebooting", "success", "failed"} else "unknown"  # type: ignore[return-value]


# ---- a kernel where the slice is


def kernel_objects(
    work: Work, parts: PodParts, *, image: str, namespace: str, python: str = "python3", uid: int = 1000
) -> list[Manifest]:
    """The Secret with a worker's settings, and the pod that runs it: no port, no account of the cluster's."""
    name = _dns(f"gpu-{work.lease}")
    labels = {"app.kubernetes.io/name": "specola-gpu-kernel", "specola.lease": _dns(work.lease)}
    metadata: Manifest = {"name": name, "namespace": namespace, "labels": labels}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "immutable": True,
        "stringData": {SETTINGS: json.dumps(dict(work.settings))},
    }
    # the device plugin names the devices itself; our own names would hide them
    environment = {name: value for name, value in work.environment.items() if "VISIBLE_DEVICES" not in name}
    container: Manifest = {
        "name": "kernel",
        "image": image,
        "args": [python, "-P", "-m", "specola_worker.kernel", f"{PLACE}/{SETTINGS}"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [{"name": "settings", "mountPath": PLACE, "readOnly": True}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "fsGroup": uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "settings", "secret": {"secretName": name, "defaultMode": 0o440}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return [secret, parts.into_pod(pod)]


def _dns(text: str) -> str:
    """A DNS label for any text, different for different texts."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return plain if plain == text and len(plain) <= LONGEST_LABEL else f"{plain[:54].rstrip('-')}-{_digest(text)}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[:54]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
