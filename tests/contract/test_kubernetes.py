"""deploy/k8s: valid by Kubernetes' own schemas, with the names that a fleet's cluster has, confined."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.installation import ROOT

K8S = ROOT / "deploy" / "k8s"
VERSIONS = ("1.29", "1.33")
Resource = dict[str, Any]


def documents(path: pathlib.Path) -> list[Resource]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge, as far as these patches need it: lists of named things by name, null removes."""
    if isinstance(base, dict) and isinstance(patch, dict):
        result = {key: merged(base.get(key), value) for key, value in patch.items() if value is not None}
        return {key: value for key, value in base.items() if key not in patch} | result
    if isinstance(base, list) and isinstance(patch, list) and all("name" in each for each in [*base, *patch]):
        patches = {each["name"]: each for each in patch}
        kept = [merged(each, patches.pop(each["name"], {})) for each in base]
        return kept + list(patches.values())
    return copy.deepcopy(patch)


def built(folder: pathlib.Path) -> list[Resource]:
    """What the kustomization gives; images are left as they are named."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
    assert set(kustomization) <= known
    resources: list[Resource] = []
    for name in kustomization.get("resources", []):
        target = folder / name
        resources += built(target.resolve()) if target.is_dir() else documents(target)
    patches = [folder / each["path"] for each in kustomization.get("patches", [])]
    for name in kustomization.get("components", []):
        (component,) = documents(folder / name / "kustomization.yaml")
        patches += [folder / name / each["path"] for each in component["patches"]]
    for patch in (each for path in patches for each in documents(path)):
        (target,) = [each for each in resources if key(each) == key(patch)]
        if patch.pop("$patch", "") == "delete":
            resources.remove(target)
        else:
            resources[resources.index(target)] = merged(target, patch)
    return resources


def key(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def one(resources: list[Resource], kind: str, name: str = "lobwife") -> Resource:
    (found,) = [each for each in resources if key(each) == (kind, name)]
    return found


@pytest.fixture(scope="module", params=["base", "overlays/local", "overlays/prod"])
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return built(K8S / request.param)


@pytest.fixture(scope="module")
def pod(resources: list[Resource]) -> Resource:
    spec: Resource = one(resources, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(resources: list[Resource], version: str) -> None:
    assert len(resources) >= 9
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_resource_that_is_not_valid_is_found() -> None:
    broken = copy.deepcopy(one(built(K8S / "base"), "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "2222"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_names_are_those_of_the_cluster(resources: list[Resource], pod: Resource) -> None:
    deployment = one(resources, "Deployment")
    assert deployment["metadata"]["namespace"] == "lobmob"
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    labels = {"app.kubernetes.io/name": "lobwife"}
    assert (
        deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"] == labels
    )
    assert pod.get("imagePullSecrets", []) in ([], [{"name": "ghcr-pull-secret"}])
    assert pod["serviceAccountName"] == one(resources, "ServiceAccount")["metadata"]["name"] == "lobwife"
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["home"]["persistentVolumeClaim"]["claimName"] == "lobwife-home"
    assert volumes["ssh-keys"]["secret"] | {"defaultMode": 0} == {
        "secretName": "lobwife-ssh-keys",
        "optional": True,
        "defaultMode": 0,
    }
    assert one(resources, "PersistentVolumeClaim", "lobwife-home")["spec"]["resources"]["requests"] == {
        "storage": "1Gi"
    }
    service = one(resources, "Service")["spec"]
    assert service["selector"] == labels
    assert [each["port"] for each in service["ports"]] == [22, 8080, 8081]


def test_both_containers_have_the_fleets_settings_and_the_volume(pod: Resource) -> None:
    assert [each["name"] for each in pod["containers"]] == ["web", "daemon"], "web first: exec and logs reach it"
    for container in pod["containers"]:
        assert container["image"] == "ghcr.io/minsley/lobmob-lobwife"
        fleet = [{"secretRef": {"name": "lobmob-secrets"}}] if container["name"] == "daemon" else []
        assert container["envFrom"] == [
            {"configMapRef": {"name": "lobboss-config"}},
            *fleet,
            {"secretRef": {"name": "lobwife-secrets", "optional": True}},
        ]
        from_secrets = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
        wanted = {"GH_APP_ID", "GH_APP_INSTALL_ID", "GH_APP_PEM", "GH_TOKEN", "LOBWIFE_ALERT_URLS"}
        assert from_secrets == (wanted if container["name"] == "web" else set()), "not the secrets of scripts"
        environment = {each["name"]: each.get("value") for each in container["env"]}
        assert environment["VAULT_PATH"] == "/home/lobwife/vault"
        assert environment["LOBWIFE_STATE_DIR"] == "/home/lobwife/state"
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounts["home"] == "/home/lobwife"
        assert mounts["tmp"] == "/tmp"


def test_probes_ask_health_and_liveness_is_slower_than_readiness(pod: Resource) -> None:
    web = pod["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in web["ports"]}
    assert ports == {"ssh": 22, "http": 8080, "api": 8081}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert web[name]["httpGet"] == {"path": "/health", "port": "http"}
    patience = {
        name: web[name]["periodSeconds"] * web[name]["failureThreshold"] for name in ("readinessProbe", "livenessProbe")
    }
    assert patience["livenessProbe"] >= 10 * patience["readinessProbe"]


def test_nothing_runs_as_root_or_may_become_it(pod: Resource) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_together_they_stay_within_what_the_node_was_asked_for(pod: Resource) -> None:
    total = {"requests": [0, 0], "limits": [0, 0]}
    for container in pod["containers"]:
        for which, sums in total.items():
            asked = container["resources"][which]
            sums[0] += int(asked["cpu"].removesuffix("m"))
            sums[1] += int(asked["memory"][:-2]) * {"Mi": 1, "Gi": 1024}[asked["memory"][-2:]]
    assert total == {"requests": [200, 512], "limits": [1000, 1536]}


def test_rights_are_those_that_scripts_need(resources: list[Resource]) -> None:
    rules = [
        (group, resource, verb)
        for kind in ("Role", "ClusterRole")
        for rule in one(resources, kind)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    read = [("batch", "jobs", verb) for verb in ("get", "list", "watch")]
    read += [("", "pods", verb) for verb in ("get", "list", "watch")]
    assert sorted(rules) == sorted([*read, ("", "nodes", "list"), ("authentication.k8s.io", "tokenreviews", "create")])


def test_the_local_overlay_runs_on_any_node_without_a_registry() -> None:
    pod = one(built(K8S / "overlays" / "local"), "Deployment")["spec"]["template"]["spec"]
    assert "nodeSelector" not in pod
    assert "imagePullSecrets" not in pod
    assert all({"name": "LOBMOB_ENV", "value": "local"} in each["env"] for each in pod["containers"])


def test_the_prod_overlay_brings_the_older_images_scripts() -> None:
    pod = one(built(K8S / "overlays" / "prod"), "Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"lobmob.io/role": "lobwife"}
    assert pod["imagePullSecrets"] == [{"name": "ghcr-pull-secret"}]
    daemon = pod["containers"][1]
    assert {"name": "scripts", "mountPath": "/opt/lobmob/scripts", "readOnly": True} in daemon["volumeMounts"]


@pytest.fixture(scope="module")
def apart() -> list[Resource]:
    """The overlay in which web, daemons and runners are pods of their own."""
    return built(K8S / "overlays" / "postgres")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_of_several_pods_is_valid(apart: list[Resource], version: str) -> None:
    for resource in apart:
        kubernetes_validate.validate(resource, version, strict=True)


def test_several_pods_share_the_database_and_nothing_else(apart: list[Resource]) -> None:
    deployments = [each for each in apart if each["kind"] == "Deployment"]
    assert {each["metadata"]["name"]: each["spec"]["replicas"] for each in deployments} == {
        "lobwife-web": 3,
        "lobwife-daemon": 2,
        "lobwife-runner": 2,
    }
    assert not [each for each in apart if each["kind"] == "PersistentVolumeClaim"]
    for deployment in deployments:
        pod = deployment["spec"]["template"]["spec"]
        assert {"name": "home", "emptyDir": {}} in pod["volumes"]
        for container in [*pod["initContainers"], *pod["containers"]]:
            (url,) = [each for each in container["env"] if each["name"] == "LOBWIFE_DATABASE_URL"]
            assert url["valueFrom"]["secretKeyRef"] == {"name": "lobwife-database", "key": "uri"}
            assert {"secretRef": {"name": "lobwife-secrets"}} in container["envFrom"], "it has the secret key"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_web_is_replaced_one_by_one_and_kept_by_its_budget(apart: list[Resource]) -> None:
    web = one(apart, "Deployment", "lobwife-web")["spec"]
    assert web["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (container,) = web["template"]["spec"]["containers"]
    assert {"name": "LOBWIFE_WEB_REPLICAS", "value": str(web["replicas"])} in container["env"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    labels = web["template"]["metadata"]["labels"]
    for kind, name in (("Service", "lobwife"), ("PodDisruptionBudget", "lobwife-web")):
        selector = one(apart, kind, name)["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels, "web alone"
    assert one(apart, "PodDisruptionBudget", "lobwife-web")["spec"]["minAvailable"] < web["replicas"]


OLDER_POD = {"ssh": 22, "http": 8080, "api": 8081}


@pytest.mark.parametrize("targets", [[22, 8080, 8081], ["ssh", "http", "api"]], ids=["by number", "by name"])
def test_a_service_made_for_the_older_pod_reaches_this_one(pod: Resource, targets: list[int | str]) -> None:
    ports = {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]}
    assert [ports.get(str(target), target) for target in targets] == [22, 8080, 8081]
    assert {"name": "net.ipv4.ip_unprivileged_port_start", "value": "22"} in pod["securityContext"]["sysctls"]


def test_service_and_policy_fit_the_older_pod_too(resources: list[Resource]) -> None:
    """It is what runs again after `kubectl rollout undo`, which leaves both as they are."""
    targets = [each["targetPort"] for each in one(resources, "Service")["spec"]["ports"]]
    policy = [each["port"] for each in one(resources, "NetworkPolicy")["spec"]["ingress"][0]["ports"]]
    assert targets == policy == list(OLDER_POD.values())


@pytest.mark.parametrize("patch", sorted(K8S.glob("*/*/deployment.yaml")), ids=lambda path: path.parent.name)
def test_no_patch_changes_the_order_of_the_containers(patch: pathlib.Path) -> None:
    """kustomize puts the containers of a patch first, in its order; `kubectl exec` reaches the first."""
    (document,) = documents(patch)
    (base,) = documents(K8S / "base" / "deployment.yaml")
    order = [
        [each["name"] for each in deployment["spec"]["template"]["spec"]["containers"]]
        for deployment in (base, document)
    ]
    assert order[0] == order[1]
