"""Frames in other processes: an executor of the standard library, and a Dask cluster that loses a worker."""

import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import StringIO
from multiprocessing import get_context

import numpy as np
import pytest
from libtbx.utils import Sorry
from test_target import experiment_for, model_in, target_for

from edtbx.execution.executors import frame_executor
from edtbx.levels.sampling_levels import COARSE
from edtbx_cctbx.command_line.progress import ProgramReporter
from edtbx_cctbx.io.cif_pets import read_experiment
from edtbx_cctbx.model_files.structures import read_model
from edtbx_cctbx.programs import refine
from edtbx_cctbx.programs import running as command_line
from edtbx_cctbx.programs.cluster import workers_of
from edtbx_cctbx.targets.theories import DynamicalTarget


def value_and_gradient(target, structure):
    f = target.f_obs().structure_factors_from_scatterers(structure, algorithm="direct", cos_sin_table=False).f_calc()
    result = target(f, True)
    return result.target(), result.derivatives().as_numpy_array()


def test_processes_give_the_same_numbers_as_threads():
    structure = model_in("P 1")
    experiment = experiment_for(structure)
    value, gradient = value_and_gradient(target_for(structure, experiment), structure)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        target = target_for(structure, experiment, nproc=None, executor=processes)
        there = value_and_gradient(target, structure)
    assert there[0] == value
    np.testing.assert_array_equal(there[1], gradient)


def test_threads_and_an_executor_exclude_each_other():
    with ProcessPoolExecutor(1) as processes, pytest.raises(ValueError, match="leave out one"):
        frame_executor(processes, 2)


@pytest.fixture
def scheduler():
    """The address of a scheduler, and what starts a worker process of one thread; all of them are gone afterwards."""
    pytest.importorskip("distributed", reason='needs pip install "edtbx[dask]"')
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    running = []

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
        return running[-1]

    first = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    found = None
    while found is None:
        line = first.stderr.readline()
        assert line, "the scheduler has ended"
        found = re.search(r"Scheduler at:\s+(tcp://\S+)", line)
    address = found.group(1)
    drain(first)

    def worker():
        process = start("dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
        drain(process)
        return process

    yield address, worker
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def cluster(scheduler):
    """The address of a scheduler, and two worker processes, ready."""
    address, worker = scheduler
    workers = [worker(), worker()]
    when_there_are(2, address)
    return address, workers


def drain(process):
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()


def when_there_are(workers, address):
    """Wait for so many workers."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=60)


def test_a_worker_that_dies_changes_nothing(cluster, repository):
    """Killed after the first frames have come back, with others on their way."""
    address, workers = cluster
    structure = read_model(repository / "examples" / "example.cif", log=StringIO())
    experiment = read_experiment(repository / "examples" / "example.cif_pets")
    experiment = experiment.select_frames([frame.id for frame in experiment.frames][:6])
    here = DynamicalTarget(experiment, structure, sampling=COARSE)
    fetched = []

    def watched(frames, total):
        for frame in frames:
            fetched.append(frame.frame_id)
            if len(fetched) == 2:
                workers[0].send_signal(signal.SIGKILL)
                workers[0].wait()
            yield frame

    log = StringIO()
    with workers_of(address, log) as executor:
        there = DynamicalTarget(experiment, structure, sampling=COARSE, nuisance=here.nuisance, executor=executor)
        cubes = there.scattering.cubes(structure, watched)
        value, gradient = value_and_gradient(there, structure)
    assert "workers 2, threads 2" in log.getvalue()
    assert workers[0].returncode == -signal.SIGKILL
    assert workers[1].poll() is None
    assert len(cubes) == len(fetched) > 3
    for cube, expected in zip(cubes, here.scattering.cubes(structure), strict=True):
        np.testing.assert_array_equal(cube.intensities, expected.intensities)
    expected = value_and_gradient(here, structure)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


class Doubled:
    """A function that counts how often it is pickled."""

    pickled = 0

    def __reduce__(self):
        Doubled.pickled += 1
        return partial, (operator.mul, 2)

    def __call__(self, number):
        return 2 * number


def test_a_function_goes_to_a_cluster_once_and_tasks_a_few_at_a_time(cluster):
    address, _ = cluster
    taken = []
    numbers = (taken.append(n) or n for n in range(300))
    with workers_of(address, StringIO()) as executor:
        results = executor.map(Doubled(), numbers)
        assert next(results) == 0
        assert 50 < len(taken) < 80
        assert list(results) == [2 * n for n in range(1, 300)]
    assert len(taken) == 300
    assert Doubled.pickled <= 2


def test_a_refinement_on_a_cluster_that_loses_a_worker_ends_as_on_threads(cluster, repository, tmp_path, monkeypatch):
    address, workers = cluster
    files = [str(repository / "examples" / name) for name in ("example.cif", "example.cif_pets")]
    options = ["frames.last=2", "refinement.cycles=1", "accuracy.tolerance=2"]
    command_line.run(refine.Program, [*files, *options, "nproc=2", f"output.prefix={tmp_path / 'here'}"])

    def fatal_bar(reporter, label):
        def wrap(frames, total):
            for number, frame in enumerate(frames):
                if label == "auto, all frames" and number == 0 and workers[0].poll() is None:
                    workers[0].send_signal(signal.SIGKILL)
                    workers[0].wait()
                yield frame

        return wrap

    monkeypatch.setattr(ProgramReporter, "progress", fatal_bar)
    command_line.run(refine.Program, [*files, *options, f"cluster={address}", f"output.prefix={tmp_path / 'there'}"])
    assert workers[0].returncode == -signal.SIGKILL
    assert workers[1].poll() is None
    here, there = ((tmp_path / f"{name}_reflections.csv").read_text() for name in ("here", "there"))
    assert here == there


def test_a_cluster_without_workers_is_told(scheduler):
    address, _ = scheduler
    said = f"no workers: start some with `dask worker {address}`"
    with pytest.raises(Sorry, match=said), workers_of(address, StringIO()):
        pass


def test_a_cluster_with_another_edtbx_is_told(cluster, monkeypatch):
    address, _ = cluster
    monkeypatch.setattr("edtbx_cctbx.programs.cluster.__version__", "9.9")
    said = r"edtbx differs on .* 9\.9 here, \S+ there; install the same"
    with pytest.raises(Sorry, match=said), workers_of(address, StringIO()):
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [("nonsense", "tcp://host:8786"), ("tcp://127.0.0.1:9", "no Dask scheduler answers")],
)
def test_a_cluster_that_is_not_there_is_told_soon(address, said):
    pytest.importorskip("distributed", reason='needs pip install "edtbx[dask]"')
    began = time.monotonic()
    with pytest.raises(Sorry, match=said), workers_of(address, StringIO()):
        pass
    assert time.monotonic() - began < 20.0


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Sorry, match=r"edtbx\[dask\]"), workers_of("tcp://127.0.0.1:9", StringIO()):
        pass
