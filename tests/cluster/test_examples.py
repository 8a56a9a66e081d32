"""The files in systemd/cluster, by the tools that read them."""

import copy
import pathlib
import subprocess

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError

from examples import EXAMPLES, SECRETS, compose, documents, tool

# What kubernetes.yaml says it is for, and what there is a description of.
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
# Mappings with keys that are the owner's.
FREE = {"labels", "matchLabels", "selector", "data", "requests", "limits", "annotations"}


def mappings(node, path=()):
    """The paths of all mappings with keys of the format's."""
    if isinstance(node, dict):
        yield path
        for key, value in node.items():
            if key not in FREE or isinstance(value, dict) and "matchLabels" in value:
                yield from mappings(value, (*path, key))
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield from mappings(value, (*path, number))


def with_wrong_key(document, path):
    document = copy.deepcopy(document)
    node = document
    for step in path:
        node = node[step]
    node["wrongKey"] = "1"
    return document


def test_compose_takes_the_file():
    told, complaint = compose()
    assert told and not complaint, complaint
    assert set(told["services"]) == {"one", "two", "three", "database", "proxy"}
    # Without the secrets it does not start with empty ones.
    text = (EXAMPLES / "compose.yaml").read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in text and f"${{{name}}}" not in text


def test_compose_refuses_wrong_keys(tmp_path):
    document = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    # Keys of extensions and of variables are the owner's, and so are names.
    kept = {"environment", "services", "networks", "volumes", "x-instance", "x-settings"}
    extensions = {"x-instance", "x-settings"}
    paths = [path for path in mappings(document) if not path or path[-1] not in kept and path[0] not in extensions]
    assert len(paths) > 10
    for path in paths:
        file = tmp_path / "compose.yaml"
        file.write_text(yaml.safe_dump(with_wrong_key(document, path)))
        told, complaint = compose(file)
        assert told is None and "wrongKey" in complaint, (path, complaint)


def test_kubernetes_takes_the_file():
    found = documents()
    kinds = sorted(kind for kind, _ in found)
    assert kinds == ["ConfigMap", "PodDisruptionBudget", "Service", "Service", "Service", "StatefulSet"]
    for version in KUBERNETES:
        for document in found.values():
            kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_refuses_wrong_keys():
    wrong = 0
    for document in documents().values():
        for path in mappings(document):
            with pytest.raises(ValidationError):
                kubernetes_validate.validate(with_wrong_key(document, path), KUBERNETES[-1], strict=True)
            wrong += 1
    assert wrong > 50
    with pytest.raises(SchemaNotFoundError):
        kubernetes_validate.validate(documents()["StatefulSet", "lanrage"] | {"kind": "Stateful"}, KUBERNETES[-1])


def test_kubernetes_names_what_is_there():
    """What no schema says: ports, volumes and labels are named alike wherever they are."""
    found = documents()
    pod = found["StatefulSet", "lanrage"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    ports = {port["name"]: port["protocol"] for port in container["ports"]}
    for (kind, name), document in found.items():
        selector = document.get("spec", {}).get("selector", {})
        if kind == "Service":
            # A label that Kubernetes gives.
            given = {("statefulset.kubernetes.io/pod-name", "lanrage-0")}
            assert selector.items() - given <= pod["metadata"]["labels"].items()
            assert all(ports[port["targetPort"]] == port["protocol"] for port in document["spec"]["ports"]), name
        elif selector:
            assert selector["matchLabels"] == pod["metadata"]["labels"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert ("Service", found["StatefulSet", "lanrage"]["spec"]["serviceName"]) in found
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/", "port": "http"}
    # lanrage's own words for settings and places are held against lanrage in test_instances.py.


def nginx(file, directory):
    command = [tool("nginx", "nginx"), "-t", "-c", file, "-g", f"pid {directory / 'pid'};"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_nginx_takes_the_file_and_refuses_wrong_words(tmp_path):
    run = nginx(EXAMPLES / "nginx.conf", tmp_path)
    assert run.returncode == 0 and "[warn]" not in run.stderr, run.stderr
    text = (EXAMPLES / "nginx.conf").read_text()
    for word in ("proxy_next_upstream", "max_fails", "keepalive", "log_format"):
        wrong = tmp_path / "nginx.conf"
        wrong.write_text(text.replace(word, f"{word}s"))
        run = nginx(wrong, tmp_path)
        assert run.returncode != 0 and f"{word}s" in run.stderr, run.stderr


def test_nginx_knows_the_instances():
    services = compose()[0]["services"]
    text = (EXAMPLES / "nginx.conf").read_text()
    for name in ("one", "two", "three"):
        assert f"server {services[name]['networks']['lanrage']['ipv4_address']}:8667 " in text
    # Nothing sticks to an instance.
    assert not any(word in text for word in ("ip_hash", "hash ", "sticky"))


def promtool(*arguments):
    command = [tool("promtool", "prometheus"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_prometheus_takes_the_alerts(tmp_path):
    run = promtool("check", "rules", EXAMPLES / "alerts.yaml")
    assert run.returncode == 0 and "SUCCESS" in run.stdout, run.stdout + run.stderr
    wrong = tmp_path / "alerts.yaml"
    wrong.write_text((EXAMPLES / "alerts.yaml").read_text().replace("expr:", "exprs:", 1))
    assert promtool("check", "rules", wrong).returncode != 0


def writes(one, two="0x20", three="0x20"):
    named = zip(("one", "two", "three"), (one, two, three))
    return {f'lanrage_instance_writes{{instance="{name}"}}': values for name, values in named}


# What is seen each minute from the start on, and what is said ten minutes later.
TROUBLES = [
    ({}, {"LanrageNobodyWrites"}),
    (writes("1x20"), set()),
    (writes("0x20"), {"LanrageNobodyWrites"}),
    (writes("1x20", "1x20"), {"LanrageTwoWrite"}),
    (writes("1x20") | {'up{job="lanrage", instance="two"}': "1 0x20"}, {"LanrageInstanceAway"}),
    (writes("1x20") | {'up{job="lanrage", instance="two"}': "1x20"}, set()),
    (writes("1x20") | {'lanrage_follower_lag_seconds{instance="two"}': "0+1x20"}, {"LanrageInstanceBehind"}),
    (writes("1x20") | {'lanrage_follower_lag_seconds{instance="two"}': "1x20"}, set()),
    (writes("1x20") | {'lanrage_forward_failures_total{instance="two"}': "0+6x20"}, {"LanrageForwardingFails"}),
    (writes("1x20") | {'lanrage_forward_failures_total{instance="two"}': "0 9x20"}, set()),
    (writes("1x20") | {'lanrage_realm_epoch{instance="two"}': "1+1x20"}, {"LanrageWriterKeepsChanging"}),
    (writes("1x20") | {'lanrage_realm_epoch{instance="two"}': "1 2 3x20"}, set()),
]


@pytest.mark.parametrize("seen, said", TROUBLES)
def test_alerts_come_when_they_should(seen, said, tmp_path):
    rules = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text())["groups"][0]["rules"]
    names = {rule["alert"] for rule in rules}
    assert said <= names and names == set().union(*(alerts for _, alerts in TROUBLES))
    series = [{"series": name, "values": values} for name, values in seen.items()]
    for name in sorted(names):
        # promtool compares all of an alert; whether there is one is enough.
        ask = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
        expected = [{"labels": "{}", "value": 1 if name in said else 0}]
        test = {"interval": "1m", "input_series": series}
        test["promql_expr_test"] = [{"expr": ask, "eval_time": "10m", "exp_samples": expected}]
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump({"rule_files": [str(EXAMPLES / "alerts.yaml")], "tests": [test]}))
        run = promtool("test", "rules", file)
        assert run.returncode == 0, f"{name}: {run.stdout}{run.stderr}"


def test_the_image_has_the_program_where_compose_looks_for_it():
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    services = compose()[0]["services"]
    assert 'ENTRYPOINT ["/lanrage"]' in lines and "COPY lanrage /lanrage" in lines
    assert services["one"]["healthcheck"]["test"][:2] == ["CMD", "/lanrage"]
    assert f"USER {services['one']['user']}" in lines
    # Nothing but what is copied is sent to who builds the image.
    assert (EXAMPLES / ".dockerignore").read_text().split() == ["*", "!lanrage"]
    assert pathlib.Path(services["one"]["build"]["context"]) == EXAMPLES
