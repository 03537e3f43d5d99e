"""The pods of `env: kube`: what is in them, what may be asked for, and whose end is theirs."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from kube_stub import api_server
from kubernetes import client
from kubernetes.config import incluster_config

from espnet3.errors import ConfigError
from espnet3.parallel import clusters
from espnet3.parallel.backends import kube_api, preview
from espnet3.parallel.backends.environment import THREAD_VARIABLES
from espnet3.parallel.backends.kube_options import with_defaults
from espnet3.parallel.backends.kube_pod import worker_pod
from espnet3.parallel.config import ParallelConfig, RunConfig, parse_parallel
from espnet3.parallel.credentials import make_credentials
from espnet3.parallel.worker.entry import _parser

LOGS = Path("logs")
LEAST = {"image": "registry/espnet3:1", "memory": "8GB"}


def pod_of(scheduler="tcp://driver:1", **options):
    """The pod of a worker, checked as the client library checks it."""
    block = {"env": "kube", "options": {**LEAST, **options}}
    parallel, _ = parse_parallel(block)
    pod = worker_pod("espnet3-0-1", scheduler, with_defaults(parallel.options, LOGS), "espnet3-0")
    client.V1Pod.model_validate(pod)
    return pod


def worker_of(pod):
    return pod["spec"]["containers"][0]


def variables_of(pod):
    return {entry["name"]: entry.get("value") for entry in worker_of(pod)["env"]}


def refusal(**options):
    with pytest.raises(ConfigError) as caught:
        pod_of(**options)
    return str(caught.value)


def documented(mark):
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    return yaml.safe_load(page.partition(f"<!-- {mark} -->\n```yaml\n")[2].partition("```")[0])


def test_the_documented_template_makes_a_pod():
    pod = pod_of(pod_template=documented("pod template"))
    assert pod["spec"]["terminationGracePeriodSeconds"] == 120
    assert variables_of(pod)["HOME"] == "/tmp"


def test_the_documented_block_makes_a_pod():
    parallel, _ = parse_parallel(documented("backend: kube")["parallel"])
    pod = pod_of(**parallel.options)
    worker = worker_of(pod)
    assert parallel.env == "kube"
    assert worker["image"] == parallel.options["image"]
    assert worker["resources"]["limits"] == worker["resources"]["requests"]
    (claim,) = pod["spec"]["volumes"]
    assert claim["persistentVolumeClaim"] == {"claimName": "speech-data"}
    assert worker["volumeMounts"] == [{"name": claim["name"], "mountPath": "/data"}]


def test_worker_gets_the_drivers_modules_directory_threads_and_user(monkeypatch, tmp_path):
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    pod = pod_of(cores=4, gpus=1)
    worker, variables = worker_of(pod), variables_of(pod)
    assert set(THREAD_VARIABLES) < variables.keys()
    assert (variables["OMP_NUM_THREADS"], variables["MKL_NUM_THREADS"]) == ("4", "3")
    assert variables["PYTHONPATH"].startswith(f"{tmp_path}:")
    assert worker["workingDir"] == os.getcwd()
    amounts = {"cpu": "4", "memory": "8000000000", "nvidia.com/gpu": "1"}
    assert worker["resources"] == {"requests": amounts, "limits": amounts}
    user = {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    assert pod["spec"]["securityContext"] == user
    assert pod["spec"]["restartPolicy"] == "Never"


def test_worker_command_is_one_that_the_entry_reads():
    command = worker_of(pod_of(worker_extra_args=["--nanny-port", "7000:"]))["command"]
    assert command[:3] == ["python", "-m", "espnet3.parallel.worker.entry"]
    arguments = _parser().parse_args(command[3:])
    assert (arguments.scheduler, arguments.name) == ("tcp://driver:1", "espnet3-0-1")
    assert (arguments.memory_limit, arguments.death_timeout) == ("8000000000", "120")
    assert (arguments.local_directory, arguments.port) == ("/tmp", "7000:")


@pytest.mark.parametrize("security", [None, False], ids=["TLS", "no TLS"])
def test_a_dry_run_shows_the_pod_that_is_created(security):
    config = ParallelConfig("kube", 3, LEAST, security=security)
    (shown,) = preview.starts(config, RunConfig(), LOGS)
    assert shown.what.startswith("pod of worker espnet3-<cluster>-0, where ")
    assert shown.what.endswith("likewise espnet3-<cluster>-1, espnet3-<cluster>-2")
    scheme = "tcp" if security is False else "tls"
    pod = pod_of(f"{scheme}://<driver>:<port>")
    text = yaml.safe_dump(pod, sort_keys=False).replace("espnet3-0-1", "espnet3-<cluster>-0")
    text = text.replace("espnet3-0", "espnet3-<cluster>")
    assert yaml.safe_load(shown.text) == yaml.safe_load(text)


def test_credentials_come_from_a_secret():
    pod = pod_of("tls://driver:1")
    arguments = _parser().parse_args(worker_of(pod)["command"][3:])
    files = (arguments.tls_ca_file, arguments.tls_cert, arguments.tls_key)
    assert [Path(path).name for path in files] == ["certificate.pem", "certificate.pem", "key.pem"]
    (volume,) = pod["spec"]["volumes"]
    (mount,) = worker_of(pod)["volumeMounts"]
    assert volume["secret"] == {"secretName": "espnet3-0"}
    assert mount["name"] == volume["name"]
    assert {str(Path(path).parent) for path in files} == {mount["mountPath"]}


TEMPLATE = """
metadata:
  labels: {team: speech}
  annotations: {sidecar.istio.io/inject: "false"}
spec:
  serviceAccountName: worker
  nodeSelector: {disk: ssd}
  securityContext: {runAsUser: 1234}
  containers:
    - name: decode
      image: registry/other:2
      env:
        - {name: OMP_NUM_THREADS, value: "2"}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: hub, key: token}}}
      resources: {limits: {example.com/fpga: 1}}
      volumeMounts: [{name: shm, mountPath: /dev/shm}]
    - {name: proxy, image: "registry/proxy:1", resources: {requests: {cpu: 0.5}}}
  volumes: [{name: shm, emptyDir: {medium: Memory}}]
"""


@pytest.mark.parametrize("as_file", [True, False])
def test_a_template_gives_the_rest_of_the_pod(tmp_path, as_file):
    (tmp_path / "pod.yaml").write_text(TEMPLATE)
    given = str(tmp_path / "pod.yaml") if as_file else yaml.safe_load(TEMPLATE)
    pod = pod_of(image=None, pod_template=given, volumes={"speech-data": "/data"})
    spec, worker = pod["spec"], worker_of(pod)
    assert pod["metadata"]["name"] == "espnet3-0-1"
    assert pod["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    assert pod["metadata"]["labels"] == {
        "team": "speech",
        "app.kubernetes.io/name": "espnet3-worker",
        "espnet3/cluster": "espnet3-0",
    }
    assert (spec["serviceAccountName"], spec["nodeSelector"]) == ("worker", {"disk": "ssd"})
    assert spec["securityContext"] == {"runAsUser": 1234}
    assert [container["name"] for container in spec["containers"]] == ["decode", "proxy"]
    assert worker["image"] == "registry/other:2"
    assert variables_of(pod)["OMP_NUM_THREADS"] == "2"
    assert len(worker["env"]) == len(variables_of(pod))
    assert worker["env"][-1]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert worker["resources"]["limits"]["example.com/fpga"] == "1"
    assert worker["resources"]["limits"]["memory"] == "8000000000"
    assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/dev/shm", "/data"]
    assert len(spec["volumes"]) == 2


def test_an_image_beside_a_template_is_the_one_that_counts():
    assert worker_of(pod_of(pod_template=yaml.safe_load(TEMPLATE)))["image"] == LEAST["image"]


@pytest.mark.parametrize(("wrong", "words"), [
    ({"memry": "4GB"}, "memry: kube has no such option; did you mean memory?"),
    ({"memory": None}, "memory: is not set"),
    ({"memory": "much"}, "memory: must be an amount of memory, as in 8GB, not the text 'much'"),
    ({"image": None}, "image: is not set"),
    ({"cores": "4"}, "cores: must be a whole number, 1 or more, not the text '4'"),
    ({"gpus": -1}, "gpus: must be a whole number, 0 or more"),
    ({"n_workers": 3}, "n_workers: set parallel.n_workers instead"),
    ({"tolerations": []}, "tolerations: put it into pod_template, in Kubernetes' own words"),
    ({"volumes": ["/data"]}, "volumes: must be a block of `name of a claim: /absolute/path`"),
    ({"volumes": {"claim": "data"}}, "volumes: must be a block of"),
    ({"pod_template": "none.yaml"}, "pod_template: in none.yaml: cannot be read: "),
    ({"pod_template": {"containers": []}}, "containers: a pod has metadata and spec alone"),
    ({"pod_template": {"spec": ["x"]}}, "spec: must be a block of keys, not ['x'] (list)"),
    ({"pod_template": {"spec": {"containers": {"image": "x"}}}}, "containers: must be a list of"),
    ({"pod_template": {"metadata": {"labels": "x"}}}, "metadata.labels: must be a block of keys"),
    ({"pod_template": {"spec": {"containers": [{"env": {"A": "b"}}]}}}, "[0].env: must be a list"),
    ({"pod_template": {"spec": {"restartPolicy": "Never"}}}, "restartPolicy: the driver replaces"),
    ({"pod_template": {"metadata": {"name": "mine"}}}, "metadata.name: each pod gets its own"),
    ({"pod_template": {"spec": {"containers": [{"args": ["x"]}]}}}, "[0].args: the worker's own"),
])  # fmt: skip
def test_options_are_checked_before_anything_is_asked_for(wrong, words):
    assert f"parallel.options.{next(iter(wrong))}: " in refusal(**wrong)
    assert words in refusal(**wrong)


@pytest.mark.parametrize(
    ("memory", "n_bytes"), [("8GB", 8e9), ("8G", 8e9), ("8Gi", 2**33), ("500M", 5e8), (10**9, 1e9)]
)
def test_memory_is_written_as_elsewhere_or_as_in_kubernetes(memory, n_bytes):
    assert worker_of(pod_of(memory=memory))["resources"]["limits"]["memory"] == str(int(n_bytes))


def test_a_template_that_kubernetes_does_not_know_is_refused_in_its_own_words(tmp_path):
    with api_server(tmp_path) as server:
        given = {**LEAST, "kubeconfig": str(server.kubeconfig)}
        given["pod_template"] = {"spec": {"nodeSelecter": {"disk": "ssd"}}}
        options = with_defaults(given, LOGS)
        pods = kube_api.Pods(options, "espnet3-0")
        pod = worker_pod("espnet3-0-1", "tcp://driver:1", options, "espnet3-0")
        assert "nodeSelecter" in pods.create(pod)
        assert server.pods == {}


def test_a_missing_client_library_is_named_with_the_extra_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    config = ParallelConfig("kube", 2, LEAST)
    with pytest.raises(ConfigError, match=re.escape("pip install 'espnet3[kube]'")):
        clusters.start_cluster(config, tmp_path)


@pytest.fixture
def in_pod(tmp_path, monkeypatch):
    """This process believes that it is in the pod `driver` of the stub's namespace."""
    (tmp_path / "namespace").write_text("speech\n")
    monkeypatch.setattr(kube_api, "_OWN_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setattr("socket.gethostname", lambda: "driver")
    with api_server(tmp_path) as server:
        server.hold = lambda pod: ("container", "ContainerCreating", "")
        yield server


def test_pods_are_collected_with_the_pod_of_their_driver(in_pod):
    driver = pod_of()
    driver["metadata"]["name"] = "driver"
    in_pod.create_pod(driver)
    options = with_defaults({**LEAST, "kubeconfig": str(in_pod.kubeconfig)}, LOGS)
    pods = kube_api.Pods(options, "espnet3-0")
    made = worker_pod("espnet3-0-1", "tcp://driver:1", options, "espnet3-0", pods.owner)
    (owner,) = made["metadata"]["ownerReferences"]
    uid = in_pod.pods["driver"].made["metadata"]["uid"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "driver", "uid": uid}
    assert pods.create(made) == ""
    # A pod of another namespace cannot own them.
    elsewhere = kube_api.Pods({**options, "namespace": "other"}, "espnet3-0")
    assert elsewhere.owner is None


def test_a_driver_that_may_not_read_its_own_pod_does_without_an_owner(in_pod):
    options = with_defaults({**LEAST, "kubeconfig": str(in_pod.kubeconfig)}, LOGS)
    assert kube_api.Pods(options, "espnet3-0").owner is None


def test_a_driver_in_a_pod_needs_no_kubeconfig(in_pod, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    for name in ("SERVICE_TOKEN_FILENAME", "SERVICE_CERT_FILENAME"):
        (tmp_path / name).write_text(make_credentials().certificate)
        monkeypatch.setattr(incluster_config, name, str(tmp_path / name))
    pods = kube_api.Pods(with_defaults(LEAST, LOGS), "espnet3-0")
    assert pods.namespace == "speech"
    assert "HTTPSConnection(host='127.0.0.1', port=1): " in pods.create(pod_of())
