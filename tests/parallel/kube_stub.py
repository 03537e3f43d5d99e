"""A Kubernetes API server of the few requests that the driver makes, which runs pods as processes.

A pod's worker container is its command, started here as a process group of its own with its
environment and directory. Whoever has the group killed has the container killed.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

NOW = "2026-01-01T00:00:00Z"


class Pod:
    """One pod; `held` is why it does not start."""

    def __init__(self, made, held, directory):
        self.made, self.held, self.directory = made, held, directory
        self.log = directory / f"{self.name}.log"
        self.made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": NOW}
        self.process, self.is_lost = None, False
        if held is None:
            self._start()

    @property
    def name(self):
        return self.made["metadata"]["name"]

    def _start(self):
        container = self.made["spec"]["containers"][0]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        # Mounts are where their secret is here.
        secrets = {
            mounted[volume["name"]]: str(self.directory / volume["secret"]["secretName"])
            for volume in self.made["spec"]["volumes"]
            if "secret" in volume
        }
        command = container["command"]
        for path, here in secrets.items():
            command = [re.sub(f"^{path}/", f"{here}/", word) for word in command]
        environ = {entry["name"]: entry["value"] for entry in container["env"]}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=container["workingDir"],
                env={"PATH": os.environ["PATH"], **environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, number):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def lose(self):
        """Its node is gone: Kubernetes deletes it, and waits for an answer that never comes."""
        self.made["metadata"]["deletionTimestamp"] = NOW
        self.is_lost = True
        self.signal(signal.SIGKILL)

    def as_listed(self):
        container = self.made["spec"]["containers"][0]
        state, phase, conditions = {"running": {"startedAt": NOW}}, "Running", []
        if self.held is not None:
            kind, reason, message = self.held
            state, phase = {}, "Pending"
            if kind == "container":
                state = {"waiting": {"reason": reason, "message": message}}
            else:
                condition = {"type": "PodScheduled", "status": "False"}
                conditions = [{**condition, "reason": reason, "message": message}]
        elif self.process.poll() is not None and not self.is_lost:
            code = self.process.returncode
            phase = "Failed" if code else "Succeeded"
            # The kernel's own killing and ours look alike: here, it is the kernel's.
            reason = "OOMKilled" if code == -9 else "Error" if code else "Completed"
            code = 128 - code if code < 0 else code
            state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": NOW}}
        status = {"phase": phase, "conditions": conditions}
        if state:
            status["containerStatuses"] = [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": phase == "Running",
                    "restartCount": 0,
                    "state": state,
                }
            ]
        return {**self.made, "status": status}


class Server(ThreadingHTTPServer):
    """Tests decide what becomes of a pod: `refuse` and `hold` are called with each that is made.

    Attributes:
        refuse: gives a status and a message, or None.
        hold: gives what it waits for ("container" or "node", a reason, a message), or None.
        may_delete: whether anything may be deleted.
        kubeconfig: the file by which a client finds this server.
        created: every pod that was ever asked for and not refused, in order.
        started: the same as `Pod`s.
        pods: those that are there, by name.
        may_have_secrets: whether secrets may be created.
        secrets: those that are there, by name.
    """

    daemon_threads = True

    def __init__(self, directory):
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.may_delete = self.may_have_secrets = True
        self.refuse = self.hold = lambda pod: None
        self.created, self.started, self.pods, self.secrets = [], [], {}, {}
        self.guard = threading.Lock()

    @property
    def is_empty(self):
        return not self.pods and not self.secrets

    @property
    def kubeconfig(self):
        return self.directory / "kubeconfig"

    def create_pod(self, made):
        name = made["metadata"]["name"]
        refusal = self.refuse(made)
        if refusal is not None:
            return refusal[0], failure(refusal[0], refusal[1].replace("NAME", name))
        with self.guard:
            if name in self.pods:
                return 409, failure(409, f'pods "{name}" already exists')
            pod = self.pods[name] = Pod(made, self.hold(made), self.directory)
            self.created.append(made)
            self.started.append(pod)
        return 201, pod.as_listed()

    def delete_pod(self, name, grace):
        if not self.may_delete:
            return 403, failure(403, 'pods is forbidden: User "me" cannot delete it')
        with self.guard:
            pod = self.pods.pop(name)
        pod.signal(signal.SIGKILL if grace == 0 else signal.SIGTERM)
        return 200, pod.as_listed()

    def create_secret(self, made):
        if not self.may_have_secrets:
            return 403, failure(403, 'secrets is forbidden: User "me" cannot create it')
        path = self.directory / made["metadata"]["name"]
        path.mkdir()
        for name, text in made["stringData"].items():
            (path / name).write_text(text)
        self.secrets[path.name] = made
        return 201, {**made, "stringData": None}

    def delete_secret(self, name):
        if not self.may_delete:
            return 403, failure(403, 'secrets is forbidden: User "me" cannot delete it')
        shutil.rmtree(self.directory / name)
        del self.secrets[name]
        return 200, {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}

    def listed(self, selector):
        wanted = dict(part.split("=") for part in selector.split(",")) if selector else {}
        with self.guard:
            pods = list(self.pods.values())
        return [
            pod.as_listed()
            for pod in pods
            if wanted.items() <= pod.made["metadata"]["labels"].items()
        ]

    def stop(self):
        self.shutdown()
        self.server_close()
        for pod in self.started:  # those that were deleted may still be leaving
            pod.signal(signal.SIGKILL)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        match = re.fullmatch(r"/api/v1/namespaces/speech/(\w+)(?:/([^/]+)(/log)?)?", url.path)
        kind, name, log = match.groups() if match else (None, None, None)
        if kind not in ("pods", "secrets"):
            self.say(404, failure(404, f"no such path: {url.path}"))
        elif name is not None and name not in getattr(self.server, kind):
            self.say(404, failure(404, f'{kind} "{name}" not found'))
        elif kind == "secrets":
            create = self.command == "POST"
            self.say(
                *(self.server.create_secret(body) if create else self.server.delete_secret(name))
            )
        else:
            self.answer_about_pods(name, log, query, body)

    def answer_about_pods(self, name, log, query, body):
        if log:
            self.say(200, (self.server.directory / f"{name}.log").read_bytes(), "text/plain")
        elif self.command == "POST":
            self.say(*self.server.create_pod(body))
        elif self.command == "DELETE":
            grace = query.get("gracePeriodSeconds")
            self.say(*self.server.delete_pod(name, None if grace is None else int(grace)))
        elif name is not None:
            self.say(200, self.server.pods[name].as_listed())
        else:
            items = self.server.listed(query.get("labelSelector"))
            self.say(200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items})

    do_GET = do_POST = do_DELETE = answer

    def say(self, status, body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def failure(code, message):
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "code": code,
    }


@contextmanager
def api_server(directory):
    """Yields a server that keeps its files in `directory`; at the end no pod is left."""
    server = Server(directory)
    here = {"server": f"http://127.0.0.1:{server.server_port}"}
    context = {"cluster": "lab", "user": "me", "namespace": "speech"}
    server.kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "clusters": [{"name": "lab", "cluster": here}],
                "users": [{"name": "me", "user": {"token": "secret"}}],
                "contexts": [{"name": "lab", "context": context}],
            }
        )
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def meanwhile(action):
    """Run it beside a `with` block; whatever it raises is raised at the end."""
    errors = []

    def run():
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]
