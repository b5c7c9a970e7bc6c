"""Compilation goes on where no cache can be kept, and a debugger gets plain Python."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.robot
KERNEL = """
from controllers.compiled import kernel

@kernel
def twice(value):
    return 2.0 * value
"""


def test_without_a_folder_to_write_to_every_process_compiles_for_itself(tmp_path, monkeypatch):
    (tmp_path / "law.py").write_text(KERNEL)
    (tmp_path / "__pycache__").write_text("no folder")  # neither beside the source
    for variable in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):  # nor below the home of the user
        monkeypatch.setenv(variable, str(tmp_path / "law.py"))
    spec = importlib.util.spec_from_file_location("law", tmp_path / "law.py")
    assert spec is not None
    assert spec.loader is not None
    law = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(law)
    assert law.twice(1.5) == 3.0


def test_laws_run_as_plain_python_without_a_compiler():
    source = "from controllers.motion import braking_speed as f; print(f(6.0, 1.0, 1.0), type(f).__name__)"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", source]
    result = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.stdout.split() == ["3.0", "function"], result.stderr


def test_a_cache_that_names_a_type_which_is_gone_is_renewed(tmp_path, monkeypatch):
    """The index of a cache holds the types of the arguments; after a rename it cannot be read any more."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    law = (
        "from typing import NamedTuple\nfrom controllers.compiled import kernel\n\n"
        "class {name}(NamedTuple):\n    gain: float\n\n"
        "@kernel\ndef twice(gains):\n    return 2.0 * gains.gain\n\nprint(twice({name}(1.5)))\n"
    )
    for name in ("Gains", "Renamed"):
        (tmp_path / "renamed_law.py").write_text(law.format(name=name))
        command = [sys.executable, "-c", "import renamed_law"]
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert result.stdout.split() == ["3.0"], result.stderr


def test_a_cache_shared_with_a_type_that_this_process_lacks_is_begun_anew(tmp_path, monkeypatch):
    """One kernel, called with types of two modules, of which the second process finds one alone."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "shared_law.py").write_text(
        "from controllers.compiled import kernel\n\n@kernel\ndef twice(gains):\n    return 2.0 * gains.gain\n"
    )
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_law.py").write_text(
            "from typing import NamedTuple\nfrom shared_law import twice\n\n"
            "class Gains(NamedTuple):\n    gain: float\n\nprint(twice(Gains(1.5)))\n"
        )
        path = [tmp_path / "shared", tmp_path / name, Path(__file__).parents[2]]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
        command = [sys.executable, "-c", f"import {name}_law"]
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert result.stdout.split() == ["3.0"], result.stderr


def test_of_two_processes_that_need_a_kernel_at_one_moment_one_compiles_it_and_the_other_loads_it(tmp_path):
    """Both wait for each other before the call; without turns both would compile, and write one index."""
    (tmp_path / "shared_law.py").write_text(
        "import sys\nfrom controllers.compiled import kernel\n\n"
        "@kernel\ndef inner(value):\n    return 2.0 * value\n\n"
        "@kernel\ndef twice(value):\n    return inner(value)\n\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "value = 1.5 if sys.argv[1] == 'number' else 3\n"
        "print(twice(value), sum(twice.stats.cache_misses.values()), sum(twice.stats.cache_hits.values()))\n"
    )
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def outcomes(*kinds: str) -> list[list[str]]:
        both = [
            subprocess.Popen(
                [sys.executable, str(tmp_path / "shared_law.py"), kind], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for kind in kinds
        ]  # fmt: skip
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=120)[0].split() for process in both]

    assert sorted(outcomes("number", "number")) == [["3.0", "0", "1"], ["3.0", "1", "0"]]
    assert outcomes("number", "whole") == [["3.0", "0", "1"], ["6.0", "1", "0"]]
    assert outcomes("number", "whole") == [["3.0", "0", "1"], ["6.0", "0", "1"]]  # neither took the other's place
