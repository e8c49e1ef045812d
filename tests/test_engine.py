"""The engine: a real Ray cluster of two nodes gives what this process gives, also where workers are killed."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from workbooks import count, executions, write_notebook

from routellm_lab import evaluate, load_battles
from routellm_lab.encoders import HashingEncoder, SentenceEncoder, make_encoder
from routellm_lab.engine import Engine, check_engine, encoding, engine, parallel, place, processes
from routellm_lab.errors import DataError, MissingExtraError, ParameterError, RoutellmLabError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.evaluation.significance import metric_draws, paired_draws
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import PromptLengthRouter, RidgeRouter
from routellm_lab.settings import settings
from routellm_lab.studies import ValidationSource, ablation, learning_curve, random_groups, validate_router
from routellm_lab.workbook import run_workbook, runner

# read when Ray is imported. A token of this process alone: none is read from or left in the home folder
if os.environ.get("RAY_AUTH_MODE") != "token":  # workers and clients, which import this module too, have it already
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
os.environ.setdefault("RAY_raylet_start_wait_time_s", "600")  # a guard for a machine that does other things as well

pytestmark = pytest.mark.filterwarnings(
    "ignore:Tip. In future versions of Ray:FutureWarning",  # what Ray will do about GPUs, where there are none
    "ignore:unclosed:ResourceWarning",  # Ray leaves sockets and files to the garbage collector
    "ignore:subprocess .* is still running:ResourceWarning",  # and the processes of the cluster
    "ignore::pytest.PytestUnraisableExceptionWarning",  # the same two, said by pytest
)


@pytest.fixture(scope="module")
def cluster(shared_cache):
    """A Ray cluster of two nodes with a core each, which this process has joined."""
    ray = pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # paths of sockets are limited to 107 characters
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see pytestmark
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # workers import this module
        from ray.cluster_utils import Cluster

        client_port = free_port()
        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        head = {**node, "include_dashboard": False, "ray_client_server_port": client_port}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**node)
            nodes.client_port = client_port
            ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def there(cluster):
    with engine("ray") as joined:
        yield joined


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def kill_once(flag, find=os.getpid):
    """Kill a process, as a host that goes down would, the first time; this one by default."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(find(), signal.SIGKILL)


def process_of(pid, words):
    """The youngest process below another one whose command line holds some words."""
    below = psutil.Process(pid).children(recursive=True)
    found = [process for process in below if words in " ".join(process.cmdline())]
    return max(found, key=lambda process: process.create_time()).pid


# --- names and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Ray", "dask", "ray:", "ray://", "ray://host:", "ray://host:port", "local://"])
def test_other_names_are_refused_with_the_ones_there_are(name):
    with pytest.raises(ParameterError, match=r"use local, ray \(a Ray cluster here\) or ray://HOST:PORT"):
        check_engine(name)


@pytest.mark.parametrize("name", ["local", "ray", "ray://host", "ray://10.0.0.1:10001", "ray://[::1]:10001"])
def test_names_of_engines(name):
    assert check_engine(name) == name


def test_an_unknown_engine_is_refused_before_anything_starts(tmp_path):
    write_notebook(tmp_path, "01_one")
    with pytest.raises(ParameterError, match="engine 'spark'"):
        run_workbook(root=tmp_path, engine="spark")
    assert not (tmp_path / "data").exists()


def test_an_address_where_nobody_listens_is_told_without_ray_which_tries_for_minutes(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ParameterError, match=f"nobody answers at 127.0.0.1:{port}"), engine(f"ray://127.0.0.1:{port}"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'routellm-lab\[ray\]'"), engine("ray"):
        pass


def test_the_setting_names_the_engine(monkeypatch):
    monkeypatch.setenv("ROUTELLM_LAB_ENGINE", "elsewhere")
    settings.cache_clear()
    try:
        with pytest.raises(ParameterError, match="engine 'elsewhere'"), engine():
            pass
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_the_command_line_loads_neither_ray_nor_joblib():
    code = "import sys, routellm_lab.cli\nprint({'ray', 'joblib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_cores_are_shared_out_among_jobs_and_stay_on_a_host():
    with engine("local") as here:
        assert here.is_local
        assert here.share(1) == here.cores
        assert here.share(10**6) == 1
    wide = type(here)("ray", hosts=4, cores=128, cores_per_host=32)
    assert [wide.share(jobs) for jobs in (1, 4, 8, 1000)] == [32, 32, 16, 1]


# --- encoding -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three parquet files, of 6,000, none and 5,000 prompts."""
    folder = tmp_path_factory.mktemp("prompts")
    prompts = load_battles("arena_human", data="sample", size=11_000)["prompt"].reset_index(drop=True)
    frame = pd.DataFrame({"number": np.arange(len(prompts)), "text": prompts})
    for name, part in (("a", frame[:6000]), ("b", frame[:0]), ("c", frame[6000:])):
        part.to_parquet(folder / f"{name}.parquet")
    return folder, frame


def check_files(folder, frame, encoder):
    made = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)
    assert made["number"].tolist() == frame["number"].tolist()
    assert made["text"].tolist() == frame["text"].tolist()
    np.testing.assert_array_equal(np.stack(made["vector"]), make_encoder(encoder).transform(frame["text"]))


def test_here_a_stream_of_files_is_encoded_as_transform_does(files, tmp_path):
    with engine("local") as here:
        folder = here.encode(files[0], "hashing:64", tmp_path / "made", column="text")
        check_files(folder, files[1], "hashing:64")
        assert here.encode(files[0] / "c.parquet", "hashing:64", column="text").shape == (5000, 64)
        texts = files[1]["text"].head(50).tolist()
        np.testing.assert_array_equal(here.encode(texts, "hashing:64"), make_encoder("hashing:64").transform(texts))
        assert here.encode([], "hashing:64").shape == (0, 64)


def test_files_that_cannot_be_encoded_are_named(files, tmp_path):
    (tmp_path / "empty").mkdir()
    with engine("local") as here:
        with pytest.raises(ParameterError, match="is there already"):
            here.encode(files[0], "hashing:64", tmp_path, column="text")
        with pytest.raises(ParameterError, match=r"a.parquet: has no column 'prompt'; name .* column="):
            here.encode(files[0], "hashing:64", tmp_path / "made")
        with pytest.raises(ParameterError, match=r"no \*\.parquet in"):
            here.encode(tmp_path / "empty", "hashing:64")
        with pytest.raises(DataError, match="one bare string"):
            here.encode("a prompt", "hashing:64")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["b"], "vector": [0.5]}, r"b.parquet: has a column 'vector' already"),
        ({"prompt": ["b"], "number": [1], "label": ["x"]}, r"b.parquet: differs from .*a.parquet in label"),
        ({"prompt": ["b"]}, r"b.parquet: differs from .*a.parquet in number"),
        ({"prompt": ["b"], "number": ["one"]}, r"b.parquet: differs from .*a.parquet in number"),
    ],
)
def test_files_that_make_no_whole_table_are_refused_before_anything_is_written(tmp_path, columns, message):
    pd.DataFrame({"prompt": ["a"], "number": [1]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(columns).to_parquet(tmp_path / "b.parquet")
    with engine("local") as here, pytest.raises(ParameterError, match=message):
        here.encode(tmp_path, "hashing:64", tmp_path / "made")
    assert not list(tmp_path.glob("*made*"))


def test_columns_may_stand_in_another_order(tmp_path):
    pd.DataFrame({"prompt": ["a"], "number": [1]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"number": [2], "prompt": ["b"]}).to_parquet(tmp_path / "b.parquet")
    with engine("local") as here:
        made = pd.read_parquet(here.encode(tmp_path, "hashing:64", tmp_path / "made"))
    assert made[["prompt", "number"]].to_dict("list") == {"prompt": ["a", "b"], "number": [1, 2]}


def test_on_ray_the_default_encoder_gives_the_same_vectors(there, static_encoder, files):
    texts = files[1]["text"].tolist()
    np.testing.assert_array_equal(there.encode(texts, "static"), static_encoder.transform(texts))


class Fragile(HashingEncoder):
    """Kills the worker that it is in, once."""

    def __init__(self, flag):
        super().__init__(64)
        self.flag = flag

    def encode_texts(self, texts):
        kill_once(self.flag)
        return super().encode_texts(texts)


class Deadly(HashingEncoder):
    """Kills the task that drives the encoding once a worker has encoded something."""

    def __init__(self, flag):
        super().__init__(64)
        self.flag, self.tests, self.seen = flag, os.getpid(), 0

    def encode_texts(self, texts):
        if self.seen:
            kill_once(self.flag, lambda: process_of(self.tests, "ray::_encode_on_ray"))
        self.seen += len(texts)
        return super().encode_texts(texts)


def test_on_ray_a_worker_killed_while_it_encodes_loses_nothing(there, files, tmp_path):
    folder = there.encode(files[0], Fragile(str(tmp_path / "killed")), tmp_path / "made", column="text")
    assert (tmp_path / "killed").exists()
    check_files(folder, files[1], "hashing:64")


def test_on_ray_the_task_that_drives_an_encoding_killed_loses_nothing(there, files, tmp_path):
    folder = there.encode(files[0], Deadly(str(tmp_path / "killed")), tmp_path / "made", column="text")
    assert (tmp_path / "killed").exists()
    check_files(folder, files[1], "hashing:64")
    assert all(path.suffix == ".parquet" for path in folder.iterdir())
    vectors = there.encode(files[0], Deadly(str(tmp_path / "killed again")), column="text")
    assert (tmp_path / "killed again").exists()
    np.testing.assert_array_equal(vectors, make_encoder("hashing:64").transform(files[1]["text"]))


def test_what_ray_gives_up_is_an_error_of_the_package(there, files, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "RETRIES", 0)
    with pytest.raises(RoutellmLabError, match=r"Ray gave up \(.*\): hosts that went down or ran out of memory"):
        there.encode(files[0], Deadly(str(tmp_path / "killed")), tmp_path / "made", column="text")
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


def test_a_sentence_encoder_that_was_used_goes_to_ray_without_its_model(there):
    from tiny_models import tiny

    encoder, texts = SentenceEncoder(tiny()), [f"prompt {number}" for number in range(20)]
    here = encoder._unit(texts)
    encoder._model.bound = threading.Lock()  # which cannot be pickled
    np.testing.assert_allclose(there.encode(texts, encoder), here, atol=1e-6)
    assert encoder._model is not None


def test_a_host_without_the_prompts_says_so(there, tmp_path, monkeypatch):
    monkeypatch.setattr(place, "source_of", lambda *_: [str(tmp_path / "elsewhere.parquet")])
    with pytest.raises(RoutellmLabError, match=r"does not see .*elsewhere.parquet: every host needs the same files"):
        there.encode(tmp_path / "elsewhere.parquet", "hashing:64")


def test_an_error_of_the_package_in_a_worker_is_that_error_here(there, tmp_path):
    pd.DataFrame({"prompt": ["a", None]}).to_parquet(tmp_path / "holes.parquet")
    with pytest.raises(DataError, match="prompt 2 is None, not text"):
        there.encode(tmp_path / "holes.parquet", "hashing:64", tmp_path / "made")
    assert not list(tmp_path.glob("*made*"))


# --- sweeps, bootstraps, ablations ----------------------------------------------------------------------------------


def draw_and_die(flag, seed):
    if seed == 3:
        kill_once(flag)
    return os.getpid(), np.random.default_rng(seed).random(3)


def test_on_ray_a_sweep_survives_a_killed_worker(there, tmp_path):
    flag = str(tmp_path / "killed")
    made = parallel(draw_and_die, ((flag, seed) for seed in range(8)), "draws", 8)
    assert Path(flag).exists()
    assert os.getpid() not in {pid for pid, _ in made}
    np.testing.assert_array_equal([row for _, row in made], [draw_and_die(flag, seed)[1] for seed in range(8)])


def both(there, work):
    """What work gives here and on Ray."""
    from joblib import parallel_config

    with parallel_config(backend="sequential"):
        here = work()
    return here, work()


def test_on_ray_ablations_bootstraps_and_validation_give_the_same_numbers(there, arena, mmlu):
    router = RidgeRouter(SAMPLE_PAIR, encoder="hashing:64")
    some = mmlu.select(np.arange(len(mmlu)) < 400)
    settings_ = {"other": {"alphas": (100.0,)}, "length": [[PromptLengthRouter(SAMPLE_PAIR).fit(arena)]]}
    for work in (
        lambda: ablation({router: settings_}, [arena], {"mmlu": some, "again": some}),
        lambda: learning_curve(router, arena, some, [300, 900]),
        lambda: validate_router(
            router, arena, {"mmlu": ValidationSource(some, (SAMPLE_PAIR,), random_groups(some, 3))}, n_resamples=20
        ),
    ):
        here, far = both(there, work)
        pd.testing.assert_frame_equal(here, far, check_exact=True)
    curves = [evaluate(PromptLengthRouter(SAMPLE_PAIR).fit(arena), some), evaluate(router.fit(arena), some)]
    columns = parallel(metric_draws, [(curve, ["apgr"], Bootstrap(0.95, 60, 7)) for curve in curves], "bootstrap", 2)
    np.testing.assert_array_equal(np.hstack(columns), paired_draws(curves, "apgr", Bootstrap(0.95, 60, 7)))


# --- notebooks ------------------------------------------------------------------------------------------------------


def test_a_stream_of_events_that_breaks_fails_its_notebook_and_the_run_goes_on(tmp_path, monkeypatch):
    write_notebook(tmp_path, "01_breaks", "1 + 1")
    write_notebook(tmp_path, "02_goes_on", "1 + 1")
    start = Engine.start

    def breaking(engine, arguments, environment, cwd, log, cores):
        process = start(engine, arguments, environment, cwd, log, cores)
        if "01_breaks" in str(log):
            process.stdout = contextlib.closing(broken(process.stdout))
        return process

    def broken(events):
        with events:
            yield events.readline()
            raise ConnectionError("the cluster is gone")

    monkeypatch.setattr(Engine, "start", breaking)
    result = run_workbook(root=tmp_path)
    assert result.status == {"01_breaks": "failed", "02_goes_on": "done"}
    assert "its process was lost: the cluster is gone" in result.errors["01_breaks"]


DIES = (
    "import os, psutil, signal\n"
    "flag = {flag!r}\n"
    "if {kill} and not os.path.exists(flag):\n"
    "    open(flag, 'w').close()\n"
    "    run.path('seeds.json').with_name('left.json').write_text('of an attempt that was killed')\n"
    "    os.kill(psutil.Process().parent().ppid(), signal.SIGKILL)\n"
    "    import time; time.sleep(60)"
)


def workbook(root, kill):
    made = "run.path('seeds.json').write_text(str(seed + 1))"
    dies = DIES.format(flag=str(root / "killed"), kill=kill)
    first = (count(root, "01_first"), dies, made, "run.record(threads=os.environ['OMP_NUM_THREADS'])")
    write_notebook(root, "01_first", *first, writes=["seeds.json"])
    write_notebook(root, "02_reads", "run.record(value=int(run.read('seeds.json').read_text()))", reads=["seeds.json"])
    write_notebook(root, "03_alone", "run.record(draw=run.rng.random())")
    return root


def test_on_ray_notebooks_give_the_same_metrics_and_one_is_begun_again_when_its_worker_dies(
    cluster, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(runner.settings(), "cache", tmp_path / "cache")
    here = run_workbook(root=workbook(tmp_path / "here", kill=False), seed=5)
    capsys.readouterr()
    root = workbook(tmp_path / "there", kill=True)
    far = run_workbook(root=root, seed=5, jobs=2, engine="ray")
    assert far.ok, far.errors
    assert "Engine: ray, 2 cores on 2 hosts" in capsys.readouterr().out
    assert (root / "killed").exists()
    assert executions(root, "01_first") == 2
    assert far.metrics == here.metrics
    assert not (far.folder / ".work").exists()
    assert sorted(path.name for path in (far.folder / "artifacts").iterdir()) == ["seeds.json"]
    again = run_workbook(root=root, seed=5, engine="ray")
    assert set(again.status.values()) == {"reused"}


def test_on_ray_a_notebook_fails_as_it_does_here(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.settings(), "cache", tmp_path / "cache")
    write_notebook(tmp_path, "01_fails", "1 / 0")
    write_notebook(
        tmp_path, "02_dies", "import os, psutil\npsutil.Process().parent().kill()\nimport time; time.sleep(60)"
    )
    far = run_workbook(root=tmp_path, engine="ray", jobs=2)
    assert far.status == {"01_fails": "failed", "02_dies": "failed"}
    assert far.errors["01_fails"] == "cell 4 at `1 / 0`: ZeroDivisionError: division by zero"
    assert "its process ended with signal SIGKILL" in far.errors["02_dies"]


def test_on_ray_the_stop_button_ends_notebooks_and_the_run_goes_on_later(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.settings(), "cache", tmp_path / "cache")
    mark = tmp_path / "began"
    slow = (
        f"import os, time\nif not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'w').write(str(os.getpid()))"
    )
    write_notebook(tmp_path, "01_slow", f"{slow}\n    time.sleep(600)")
    wait = runner._Work._wait

    def press(work):
        name = wait(work)
        if until(mark.exists, 20):
            raise KeyboardInterrupt
        return name

    with monkeypatch.context() as pressed:
        pressed.setattr(runner._Work, "_wait", press)
        with pytest.raises(KeyboardInterrupt):
            run_workbook(root=tmp_path, engine="ray")
    assert until(lambda: not psutil.pid_exists(int(mark.read_text())), 20)
    assert run_workbook(root=tmp_path, engine="ray").ok


def until(true, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def test_a_host_without_the_workbook_says_so(there, tmp_path):
    import ray

    folder = tmp_path / "elsewhere"
    task = ray.remote(processes._run_process)
    with pytest.raises(RoutellmLabError, match="every host needs the same files under the same path"):
        ray.get(task.remote(["-V"], {}, tmp_path, folder / "log.txt", folder / "events.jsonl", []))
    assert not folder.exists()


# --- a cluster elsewhere --------------------------------------------------------------------------------------------

CLIENT = """
import sys
import numpy as np
from routellm_lab.encoders import make_encoder
from routellm_lab.engine import engine, parallel
from test_engine import draw_and_die, workbook
from routellm_lab.workbook import run_workbook
from pathlib import Path

with engine(sys.argv[1]) as there:
    assert (there.cores, there.hosts) == (2, 2)
    texts = [f"prompt {number}" for number in range(5000)]
    np.testing.assert_array_equal(there.encode(texts, "hashing:64"), make_encoder("hashing:64").transform(texts))
    rows = parallel(draw_and_die, [(sys.argv[2] + "/killed", seed) for seed in range(4)], "draws", 4)
    assert [row.tolist() for _, row in rows] == [np.random.default_rng(seed).random(3).tolist() for seed in range(4)]
    result = run_workbook(["03"], root=workbook(Path(sys.argv[2]) / "book", False), engine=sys.argv[1])
    assert result.ok, result.errors
print("done")
"""


def test_a_cluster_elsewhere_is_reached_through_its_client_server(cluster, tmp_path):
    port = cluster.client_port
    assert until(lambda: reachable(port), 30)
    command = [sys.executable, "-c", CLIENT, f"ray://127.0.0.1:{port}", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


LOST = """
import sys
from pathlib import Path
from routellm_lab.errors import RoutellmLabError
from routellm_lab.workbook import run_workbook
from test_engine import write_notebook

root = Path(sys.argv[2])
slow = f"import pathlib, time; pathlib.Path({str(root / 'began')!r}).touch(); time.sleep(600)"
write_notebook(root, "01_slow", slow)
write_notebook(root, "02_next", "1 + 1")
try:
    run_workbook(root=root, engine=sys.argv[1])
except RoutellmLabError as error:
    print(error)
"""


def test_a_cluster_elsewhere_that_is_lost_ends_the_run(cluster, tmp_path):
    command = [sys.executable, "-c", LOST, f"ray://127.0.0.1:{cluster.client_port}", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert until((tmp_path / "began").exists, 300)
        os.kill(process_of(os.getpid(), "--mode=specific-server"), signal.SIGKILL)
        said = client.communicate(timeout=600)[0]
    assert "01_slow: FAILED, after its cells: its process was lost: Ray gave up (" in said
    assert said.splitlines()[-1].startswith("Ray gave up (")
    assert client.returncode == 0
