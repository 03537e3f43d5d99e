"""`env: ssh` where `ssh` itself cannot be run; the rest is in `tests/clusters`."""

import pytest
from workloads import Lines, Provider

from espnet3.errors import RunStopped
from espnet3.parallel.parallel import parallel_session


def test_ssh_that_cannot_be_run_ends_the_run_at_once(log, out, tmp_path):
    broken = tmp_path / "ssh"
    broken.write_text("#!/no/such/shell\n")
    broken.chmod(0o755)
    options = {"hosts": ["here"], "ssh_command": str(broken)}
    told = "ssh refuses the workers: ssh cannot be started for here: .*No such file"
    with (
        pytest.raises(RunStopped, match=told),
        parallel_session({"env": "ssh", "n_workers": 2, "options": options}),
    ):
        Lines(Provider(log), output_dir=out)(range(3))
