"""`env: kube`: the real client library against a stub API server that runs pods as processes."""

import itertools
import json
import logging
import os
import re
import signal

import pytest
from drivers import DEADLINE, await_that, is_running
from kube_stub import meanwhile
from workloads import Lines, Provider, forwards, lines_of, notes, pids, tell

from espnet3.errors import ConfigError, RunFailed, RunStopped
from espnet3.parallel import clusters
from espnet3.parallel.config import parse_parallel
from espnet3.parallel.parallel import set_parallel

QUOTA = 'pods "NAME" is forbidden: exceeded quota: team, requested: pods=1, used: pods=8'
IMAGE = ("container", "ImagePullBackOff", 'Back-off pulling image "registry/espnet3:1"')
NO_ROOM = ("node", "Unschedulable", "0/3 nodes are available: 3 Insufficient memory.")


@pytest.mark.parametrize("security", [None, False], ids=["TLS", "no TLS"])
def test_same_bytes_as_a_local_run_and_nothing_is_left(log, out, kube, server, security):
    set_parallel(kube(3, security=security))
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    assert len(server.created) == 3
    assert server.is_empty


def test_the_key_is_in_a_secret_and_in_nothing_else(log, out, kube, server):
    tell(log, 3, "hold")

    def look():
        await_that(lambda: notes(log, "held"))
        (secret,) = server.secrets.values()
        assert secret["metadata"]["labels"] == server.created[0]["metadata"]["labels"]
        assert "PRIVATE KEY" in secret["stringData"]["key.pem"]
        assert "PRIVATE KEY" not in json.dumps(server.created)
        tell(log, 3, None)

    set_parallel(kube(2))
    with meanwhile(look):
        Lines(Provider(log), output_dir=out)(range(5))
    for path in out.rglob("*"):
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes()
    assert server.is_empty


def test_refusal_of_the_secret_ends_the_run(log, out, kube, server):
    server.may_have_secrets = False
    set_parallel(kube(2))
    with pytest.raises(RunStopped, match='TLS credentials: secrets is forbidden: User "me" cannot'):
        Lines(Provider(log), output_dir=out)(range(5))
    assert server.is_empty
    assert server.created == []


@pytest.mark.parametrize("node_is_lost", [False, True], ids=["killed", "node lost"])
def test_killed_pod_is_replaced_and_nothing_is_lost(log, out, kube, server, quick, node_is_lost):
    tell(log, 15, "hold once")
    tell(log, 25, "hold")  # so that the others do not end the run before there is a new pod

    def kill():
        await_that(lambda: "15" in notes(log, "held"))
        (pid,) = {int(line.split()[1]) for line in notes(log, "forwards") if line[:3] == "15 "}
        (pod,) = (pod for pod in server.pods.values() if os.getpgid(pid) == pod.process.pid)
        if node_is_lost:
            pod.lose()
        else:
            server.delete_pod(pod.name, grace=0)
        await_that(lambda: len(server.created) == 3)
        tell(log, 25, None)

    set_parallel(kube(2))
    with meanwhile(kill):
        assert Lines(Provider(log), output_dir=out)(range(30)) == lines_of(range(30))
    assert server.is_empty


def test_pod_that_is_told_to_leave_commits_and_is_replaced(log, out, kube, server, quick):
    tell(log, 15, "hold")

    def evict():
        await_that(lambda: notes(log, "held"))
        (pod,) = server.pods.values()
        server.delete_pod(pod.name, grace=None)
        await_that(lambda: "leaving: signal SIGTERM" in pod.log.read_text())
        tell(log, 15, None)

    set_parallel(kube(1))
    with meanwhile(evict):
        assert Lines(Provider(log), output_dir=out)(range(30)) == lines_of(range(30))
    assert forwards(log) == [*range(30)]
    assert len(server.created) == 2


def test_item_that_takes_all_memory_of_its_pod_is_set_aside(log, out, kube, server, quick):
    class TakesAll(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx == 7:
                os.killpg(0, signal.SIGKILL)  # as the kernel does it: the nanny with its worker
            return Lines.forward(idx, log=log, **env)

    set_parallel(kube(2))
    with pytest.raises(RunFailed) as caught:
        TakesAll(Provider(log), output_dir=out)(range(20))
    assert [failure["position"] for failure in caught.value.failures] == [7]
    assert set(forwards(log)) == {*range(7), *range(8, 20)}
    assert any("OOMKilled, exit code 137" in x.read_text() for x in (out / "logs").iterdir())
    assert server.is_empty


@pytest.mark.parametrize(("held", "words"), [
    (IMAGE, 'pending (ImagePullBackOff: Back-off pulling image "registry/espnet3:1") for '),
    (NO_ROOM, "pending (Unschedulable: 0/3 nodes are available: 3 Insufficient memory.) for "),
])  # fmt: skip
def test_what_is_waited_for_is_told_in_the_words_of_kubernetes(
    tmp_path, kube, server, quick, held, words
):
    server.hold = lambda pod: held
    parallel, _ = parse_parallel(kube(1))
    with clusters.open_cluster(parallel, tmp_path) as cluster:
        await_that(lambda: words in cluster.watch.waited_for())
        (name,) = server.pods
        assert cluster.watch.waited_for().startswith(f"job {name} ")
    assert server.is_empty


def test_refusal_of_all_pods_ends_the_run_with_the_words_of_kubernetes(log, out, kube, server):
    server.refuse = lambda pod: (403, QUOTA)
    set_parallel(kube(3))
    with pytest.raises(RunStopped) as caught:
        Lines(Provider(log), output_dir=out)(range(5))
    words = re.escape(QUOTA).replace("NAME", r"espnet3-[0-9a-f]{8}-\*")
    assert re.fullmatch(f"kube refuses the pods: {words}", str(caught.value))


@pytest.mark.parametrize("security", [None, False], ids=["TLS", "no TLS"])
def test_a_server_that_is_away_ends_the_run(log, out, kube, server, security):
    block = kube(1, security=security)
    server.stop()
    set_parallel(block)
    with pytest.raises(RunStopped, match=r"kube refuses the (pods|secret .*): .*Connection ref"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_a_namespace_that_is_not_there_ends_the_run(log, out, kube, server):
    set_parallel(kube(2, options={"namespace": "other"}, security=False))
    with pytest.raises(RunStopped, match="kube refuses the pods: no such path: .*/other/pods"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_the_others_go_on_and_a_refused_pod_is_asked_for_again(log, out, kube, server, quick):
    asked = itertools.count()
    server.refuse = lambda pod: (403, QUOTA) if next(asked) in (1, 2, 3) else None
    tell(log, 3, "hold")

    def free():
        await_that(lambda: len(server.pods) == 2)
        tell(log, 3, None)

    set_parallel(kube(2))
    with meanwhile(free):
        assert Lines(Provider(log), output_dir=out)(range(20)) == lines_of(range(20))
    assert next(asked) == 5
    assert server.is_empty


def test_pods_that_end_at_once_stop_the_run_with_what_they_said(log, out, kube, server, quick):
    set_parallel(kube(2, options={"python": "false"}))
    with pytest.raises(RunStopped, match=r"\d jobs in a row ended before their worker") as caught:
        Lines(Provider(log), output_dir=out)(range(5))
    assert re.search(r"pod espnet3-\w+-\d: Error, exit code 1", str(caught.value))
    assert server.is_empty


def test_no_pod_is_left_after_an_error(log, out, kube, server):
    tell(log, 3, "raise")
    set_parallel(kube(2, on_error="raise"))
    with pytest.raises(RunFailed):
        Lines(Provider(log), output_dir=out)(range(20))
    assert server.is_empty


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=str)
def test_no_pod_outlives_an_interrupted_driver(log, out, start_driver, kube, server, numbers):
    tell(log, 15, "hold")
    driver = start_driver(30, **kube(lease_seconds=1e-6))
    await_that(lambda: notes(log, "held"), driver)
    for number in numbers:
        os.kill(driver.pid, number)
        if number is numbers[0]:
            await_that(lambda: "Stopping after" in (log / "driver.txt").read_text(), driver)
    if len(numbers) == 1:
        tell(log, 15, None)
    assert driver.wait(DEADLINE) == 128 + numbers[0]
    assert server.is_empty
    await_that(lambda: not any(map(is_running, pids(log))))


def test_pods_of_a_killed_driver_end_and_are_found_by_their_label(
    log, out, start_driver, kube, server
):
    tell(log, 15, "hold")
    driver = start_driver(30, **kube(1, lease_seconds=1e-6))
    await_that(lambda: notes(log, "held"), driver)
    driver.kill()
    tell(log, 15, None)
    (pod,) = server.pods.values()
    await_that(lambda: pod.process.poll() is not None)
    selector = "app.kubernetes.io/name=espnet3-worker"
    assert [listed["status"]["phase"] for listed in server.listed(selector)] == ["Succeeded"]
    (secret,) = server.secrets.values()  # the key of a cluster that is no more
    assert secret["metadata"]["labels"] == pod.made["metadata"]["labels"]


def test_pods_that_cannot_be_deleted_are_told_with_the_command_that_does(
    log, out, kube, server, caplog
):
    server.may_delete = False
    set_parallel(kube(2))
    Lines(Provider(log), output_dir=out)(range(5))
    (told,) = (r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)
    label = server.created[0]["metadata"]["labels"]["espnet3/cluster"]
    assert told == (
        '3 pods or secrets could not be deleted: pods is forbidden: User "me" cannot delete it; '
        f"try `kubectl delete pods,secrets --namespace speech --selector espnet3/cluster={label}`"
    )


def test_a_driver_that_finds_no_cluster_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    parallel, _ = parse_parallel(
        {"env": "kube", "security": False, "options": {"image": "x", "memory": "1GB"}}
    )
    with pytest.raises(ConfigError, match="kube finds no cluster: .*does `kubectl get pods` work"):
        clusters.start_cluster(parallel, tmp_path)
