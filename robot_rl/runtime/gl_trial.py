"""Draws a small scene and says how it went: ``python -m robot_rl.runtime.gl_trial`` prints one JSON line.

A process of its own because a broken driver may end it. Keys: ``faults`` [[told, remedy], ...], or ``library`` (the
value of MUJOCO_GL), ``renderer`` (the driver's name of itself), ``fps`` at 128 px, ``black`` (nothing was drawn).
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from robot_rl.runtime.gl_faults import gl_faults
from robot_rl.runtime.gl_library import choose_gl_library

_SCENE = """<mujoco><worldbody><light pos='0 0 2'/><geom type='plane' size='1 1 .1'/><geom type='sphere' size='.1'/>
<camera name='camera' pos='0 0 1'/></worldbody></mujoco>"""
_IMAGES = 20


def draw() -> dict[str, Any]:
    """Draw the scene with the library that MUJOCO_GL names. Raises whatever MuJoCo raises."""
    import mujoco

    lib: Any = mujoco  # mujoco ships no type information
    model = lib.MjModel.from_xml_string(_SCENE)
    data = lib.MjData(model)
    lib.mj_forward(model, data)
    with lib.Renderer(model, 128, 128) as renderer:
        renderer.update_scene(data, "camera")
        image = renderer.render()
        began = time.perf_counter()
        for _ in range(_IMAGES):
            image = renderer.render()
        fps = _IMAGES / (time.perf_counter() - began)
        from OpenGL import GL

        name = GL.glGetString(GL.GL_RENDERER)
    told = name.decode(errors="replace") if isinstance(name, bytes) else "unnamed"
    return {"library": os.environ.get("MUJOCO_GL", ""), "renderer": told, "fps": fps, "black": not image.any()}


def main() -> None:
    choose_gl_library()
    faults = gl_faults(os.environ)
    print(json.dumps({"faults": [[fault.told, fault.remedy] for fault in faults]} if faults else draw()))


if __name__ == "__main__":
    main()
