"""Simulated robots: MuJoCo scenes and arms, tasks, experts, adapted environments."""

from robot_rl.runtime.gl_library import choose_gl_library

choose_gl_library()
