"""Kubernetes objects as its own API schemas have them, and names as its rules allow them."""

from __future__ import annotations

import re
from itertools import product

import kubernetes_validate
import pytest
import yaml
from specola.gpu.adapters import kubernetes as k8s
from specola.gpu.adapters.profiles import models
from specola.gpu.geometry import WHOLE
from specola.gpu.model import ActuatorError, KubernetesPool, Work

VERSIONS = ("1.34", "1.37")
"""the first release with resource.k8s.io/v1, and the newest that the schemas have"""
QUALIFIED = re.compile(r"[a-z.]+/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
DNS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
EVERY_SHAPE = [(name, shape) for name, model in models().items() for shape in (*model.profiles, WHOLE)]
A100 = models()["A100-40GB"]
WORK = Work(
    "0190-Ab_c",
    "anna",
    "a100",
    "3g",
    3600,
    {"secret": "s3cret"},
    {"SPECOLA_GPU_LEASE": "x", "CUDA_VISIBLE_DEVICES": "y"},
)


def pool(actuator: str, **more: object) -> KubernetesPool:
    return KubernetesPool.model_validate({"actuator": actuator, "model": "A100-40GB", **more})


def valid(manifest: dict) -> dict:
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)
    return manifest


def server(**container: object) -> dict:
    """A pod as a spawner makes it."""
    notebook = {"name": "notebook", "image": "lab", "env": [{"name": "HOME", "value": "/h"}], **container}
    spec = {"containers": [notebook, {"name": "sidecar", "image": "x"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(("name", "shape"), EVERY_SHAPE)
def test_every_slice_of_every_model_is_a_valid_object(name, shape):
    model = models()[name]
    for actuator, strategy in product(("device-plugin", "dra", "mig-parted"), ("mixed", "single")):
        parts = k8s.pod_parts("Our pool", pool(actuator, strategy=strategy, node_selector={"gpu": "yes"}), model, shape)
        assert all(QUALIFIED.fullmatch(limit) for limit in parts.limits)
        assert all(LABEL.fullmatch(label) for label in parts.products)
        assert parts.claim_template is None or DNS.fullmatch(parts.claim_template)
    valid(k8s.claim_template("Our pool", model, [shape], namespace="hub"))


def test_a_pod_of_each_way_is_valid():
    for actuator, strategy in product(("device-plugin", "dra", "mig-parted"), ("mixed", "single")):
        parts = k8s.pod_parts("a100", pool(actuator, strategy=strategy, node_selector={"gpu": "yes"}), A100, "3g")
        pod = valid(parts.into_pod(server(resources={"limits": {"memory": "2Gi"}})))
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "2Gi"
        assert pod["spec"]["containers"][1] == {"name": "sidecar", "image": "x"}
        assert pod["spec"]["nodeSelector"] == {"gpu": "yes"}
    valid(k8s.WITHOUT_GPU.into_pod(server()))


def test_the_mixed_strategy_names_the_profile():
    parts = k8s.pod_parts("a100", pool("device-plugin"), A100, "1g+me")
    assert parts.limits == {"nvidia.com/mig-1g.5gb.me": "1"}
    assert parts.traits() == {
        "node_selector": {},
        "environment": {},
        "extra_resource_limits": {"nvidia.com/mig-1g.5gb.me": "1"},
    }
    assert k8s.resource_name(A100, WHOLE) == "nvidia.com/gpu"


def test_the_single_strategy_names_the_node():
    parts = k8s.pod_parts("a100", pool("device-plugin", strategy="single"), A100, "3g")
    assert parts.limits == {"nvidia.com/gpu": "1"}
    (term,) = parts.traits()["node_affinity_required"]
    assert term["matchExpressions"][0]["values"] == [
        "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb",
        "NVIDIA-A100-PCIE-40GB-MIG-3g.20gb",
    ]


def test_a_claim_names_the_profile_and_leaves_the_limits():
    parts = k8s.pod_parts("a100", pool("dra"), A100, "3g")
    template = k8s.claim_template("a100", A100, ["3g"])
    assert template["metadata"]["name"] == parts.claim_template == "specola-a100-3g"
    assert template["spec"]["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "mig.nvidia.com",
        "selectors": [{"cel": {"expression": "device.attributes['gpu.nvidia.com'].profile == '3g.20gb'"}}],
    }
    assert parts.traits()["extra_pod_config"] == {
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "specola-a100-3g"}]
    }
    assert "extra_container_config" not in parts.traits()
    container = parts.into_container({"name": "a", "resources": {"limits": {"cpu": "1"}}})
    assert container["resources"] == {"limits": {"cpu": "1"}, "claims": [{"name": "gpu"}]}


def test_slices_of_one_claim_lie_on_one_gpu_unless_they_need_not():
    template = valid(k8s.claim_template("a100", A100, ["1g", "2g", WHOLE]))
    devices = template["spec"]["spec"]["devices"]
    assert devices["constraints"] == [
        {"requests": ["mig-0", "mig-1", "gpu-2"], "matchAttribute": "gpu.nvidia.com/parentUUID"}
    ]
    assert devices["requests"][2]["exactly"] == {"deviceClassName": "gpu.nvidia.com"}
    apart = k8s.claim_template("a100", A100, ["1g", "2g"], together=False)
    assert "constraints" not in apart["spec"]["spec"]["devices"]


def test_names_of_different_pools_and_shapes_differ():
    names = {
        k8s.template_name(name, shape)
        for name, shape in product(("a", "A", "a-1g", "ä" * 80), ("1g", "1g+me", "1g-me"))
    }
    assert len(names) == 12
    assert all(DNS.fullmatch(name) for name in names)


def test_a_server_without_a_slice_sees_no_gpu():
    container = k8s.WITHOUT_GPU.into_container({"name": "a", "env": [{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]})
    assert container["env"] == [
        {"name": "CUDA_VISIBLE_DEVICES", "value": "0"},
        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
    ]
    assert "resources" not in container
    assert k8s.WITHOUT_GPU.traits()["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_layout_is_a_document_a_config_map_and_a_label():
    name = k8s.config_name(["3g", "2g", "1g", "1g"])
    assert name == "specola-2x1g-1x2g-1x3g"
    document = k8s.mig_config(A100, {name: ["3g", "2g", "1g", "1g"], "specola-off": []})
    assert document["mig-configs"] == {
        name: [
            {
                "device-filter": list(A100.pci_ids),
                "devices": "all",
                "mig-enabled": True,
                "mig-devices": {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1},
            }
        ],
        "specola-off": [{"device-filter": list(A100.pci_ids), "devices": "all", "mig-enabled": False}],
    }
    stored = valid(k8s.config_map(document, name="specola-mig", namespace="gpu-operator"))
    assert yaml.safe_load(stored["data"]["config.yaml"]) == document
    patch = k8s.node_patch(name)
    valid({"apiVersion": "v1", "kind": "Node", **patch})
    assert LABEL.fullmatch(patch["metadata"]["labels"]["nvidia.com/mig.config"])
    assert k8s.config_name([]) == "specola-off"
    long = k8s.config_name([f"{number}g+me.all" for number in range(9)])
    assert LABEL.fullmatch(long)


@pytest.mark.parametrize("shapes", [["7g", "1g"], [WHOLE], ["5g"]])
def test_a_layout_that_no_gpu_can_have_is_refused(shapes):
    with pytest.raises(ActuatorError, match="do not fit"):
        k8s.mig_config(A100, {"x": shapes})


def test_a_shape_that_the_model_lacks_is_refused():
    with pytest.raises(ActuatorError, match="no slice"):
        k8s.pod_parts("a100", pool("device-plugin"), A100, "5g")


def test_a_node_says_how_far_it_is():
    labels = {k8s.CONFIG_LABEL: "a", k8s.STATE_LABEL: "rebooting"}
    assert k8s.layout_state(labels, "a") == "rebooting"
    assert k8s.layout_state(labels, "b") == "unknown"
    assert k8s.layout_state({k8s.CONFIG_LABEL: "a"}, "a") == "unknown"
    assert k8s.layout_state({k8s.CONFIG_LABEL: "a", k8s.STATE_LABEL: "strange"}, "a") == "unknown"


@pytest.mark.parametrize("actuator", ["device-plugin", "dra"])
def test_a_kernels_pod_is_valid_and_has_its_secret_as_a_file_only(actuator):
    parts = k8s.pod_parts("a100", pool(actuator), A100, "3g")
    secret, pod = (valid(one) for one in k8s.kernel_objects(WORK, parts, image="lab", namespace="hub"))
    assert secret["stringData"] == {"kernel.json": '{"secret": "s3cret"}'}
    assert "s3cret" not in str(pod)
    container = pod["spec"]["containers"][0]
    assert container["env"] == [{"name": "SPECOLA_GPU_LEASE", "value": "x"}]
    assert "ports" not in container
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert DNS.fullmatch(pod["metadata"]["name"])
    assert pod["metadata"]["name"] == secret["metadata"]["name"] == pod["spec"]["volumes"][0]["secret"]["secretName"]
