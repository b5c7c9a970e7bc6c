"""Set before anything imports torch or MuJoCo: one thread per process (two noisy cores), headless rendering."""

import importlib.util
import os
import signal
from pathlib import Path

from robot_rl.runtime.gl_library import choose_gl_library

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
choose_gl_library()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; processes would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _needs_more_than_a_robot_computer() -> list[str]:
    """Test files without a test marked ``robot``: not even importable where only the base dependencies are there."""
    files = Path(__file__).parent.rglob("test_*.py")
    return [str(path.relative_to(Path(__file__).parent)) for path in files if "mark.robot" not in path.read_text()]


if importlib.util.find_spec("torch") is None:
    collect_ignore = _needs_more_than_a_robot_computer()
