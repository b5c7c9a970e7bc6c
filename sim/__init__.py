"""Simulated robots: MuJoCo scenes and arms, tasks, experts, adapted environments."""

from robot_rl.runtime.gl_faults import check_import
from robot_rl.runtime.gl_library import choose_gl_library

choose_gl_library()
check_import()
