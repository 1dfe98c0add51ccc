"""Checks rendered manifests: Kubernetes' own schemas, then the rules of a pod that keeps customers' data."""

import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.27", "1.34"]
# Of the Prometheus operator; only its shape is checked here.
CUSTOM = {"ServiceMonitor"}
problems = []


def complain(file, manifest, text):
    problems.append(f"{file}: {manifest['kind']}/{manifest['metadata']['name']}: {text}")


def check_pod(complain, spec):
    security = spec.get("securityContext", {})
    expected = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for key, value in expected.items():
        if security.get(key) != value:
            complain(f"securityContext.{key} is {security.get(key)}, not {value}")
    if spec.get("automountServiceAccountToken") is not False:
        complain("mounts a service account token")
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(forbidden):
            complain(f"has {forbidden}")
    for container in spec["containers"]:
        expected = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        if container.get("securityContext") != expected:
            complain(f"securityContext of {container['name']} is {container.get('securityContext')}")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            complain(f"{container['name']} has no memory limit")
        if container["image"].endswith(":latest"):
            complain(f"{container['name']} has no pinned image")


def check_router(complain, manifest):
    spec = manifest["spec"]
    if spec["replicas"] != 1:
        complain("the embedded store has one owner")
    [container] = spec["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        get = container[probe]["httpGet"]
        if (get["path"], ports.get(get["port"])) != (path, 9090):
            complain(f"{probe} asks {get}")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    if not {"/var/lib/laigu-router", "/etc/laigu-router", "/tmp"} <= mounts:
        complain(f"mounts only {sorted(mounts)}")
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    if unknown := [mount["name"] for mount in container["volumeMounts"] if mount["name"] not in volumes]:
        complain(f"mounts {unknown}, which are no volumes")
    if any("subPath" in mount for mount in container["volumeMounts"]):
        complain("a subPath never sees a changed ConfigMap")
    [claim] = spec["volumeClaimTemplates"]
    if spec["persistentVolumeClaimRetentionPolicy"] != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
        complain(f"{claim['metadata']['name']} may go with the release")


def check_links(file, manifests):
    """Services, policies and budgets must select the pod, and nothing else of the release."""
    [router] = [m for m in manifests if m["kind"] == "StatefulSet"]
    labels = router["spec"]["template"]["metadata"]["labels"]
    others = [m["metadata"]["labels"] for m in manifests if m["kind"] == "Pod"]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = {
            "Service": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "StatefulSet": lambda: spec["selector"]["matchLabels"],
        }.get(manifest["kind"])
        if selector is None:
            continue
        if not selector().items() <= labels.items():
            complain(file, manifest, "does not select the pod")
        if any(selector().items() <= other.items() for other in others):
            complain(file, manifest, "selects the test pod too")
    services = [m for m in manifests if m["kind"] == "Service"]
    if router["spec"]["serviceName"] not in {m["metadata"]["name"] for m in services}:
        complain(file, router, "names a service that is not there")
    for monitor in (m for m in manifests if m["kind"] == "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [m for m in services if wanted <= m["metadata"]["labels"].items()]
        ports = {port["name"] for m in found for port in m["spec"]["ports"]}
        if len(found) != 1 or not {end["port"] for end in monitor["spec"]["endpoints"]} <= ports:
            complain(file, monitor, f"finds {[m['metadata']['name'] for m in found]}")


def check_file(file):
    with open(file) as stream:
        manifests = [manifest for manifest in yaml.safe_load_all(stream) if manifest]
    for manifest in manifests:
        note = lambda text, manifest=manifest: complain(file, manifest, text)
        if manifest["kind"] not in CUSTOM:
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    note(f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
        if manifest["kind"] == "StatefulSet":
            check_pod(note, manifest["spec"]["template"]["spec"])
            check_router(note, manifest)
        if manifest["kind"] == "Pod":
            check_pod(note, manifest["spec"])
    check_links(file, manifests)
    return sorted(manifest["kind"] for manifest in manifests)


for file in sys.argv[1:]:
    print(f"{file}: {', '.join(check_file(file))}")
for problem in problems:
    print(problem, file=sys.stderr)
sys.exit(1 if problems else 0)
