"""The shapes of a MuJoCo model as rerun entities, and the poses of its bodies.

Model and data are read as arrays, so that a physics of any origin will do that has MuJoCo's fields.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.types import Array

_SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER, _BOX, _MESH = 2, 3, 4, 5, 6, 7  # mjtGeom
_SHOWN_GROUPS = 3  # groups of geoms below this one, as MuJoCo's own viewer has it


class BodyGeometry:
    """Draws the bodies of ``model`` below the entity ``root``: shapes once, poses whenever asked."""

    def __init__(self, model: Any, root: str) -> None:
        self._model, self._root = model, root
        geoms = [i for i in range(model.ngeom) if model.geom_group[i] < _SHOWN_GROUPS and model.geom_rgba[i][3] > 0]
        self._geoms = [i for i in geoms if _shape(model, i) is not None]  # planes and height fields have no end
        self._bodies = sorted({int(model.geom_bodyid[i]) for i in self._geoms} - {0})  # the world stands still

    def log_shapes(self, recording: Any) -> None:
        """The shapes, which never change, each in the frame of its body."""
        import rerun as rr

        model = self._model
        for i in self._geoms:
            path = f"{self._body_path(int(model.geom_bodyid[i]))}/{model.geom(i).name or f'geom{i}'}"
            recording.log(path, _pose(model.geom_pos[i], model.geom_quat[i]), static=True)
            recording.log(path, _shape(model, i), static=True)
        recording.log(self._root, rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)

    def log_poses(self, recording: Any, data: Any) -> None:
        """Where the bodies are now."""
        for body in self._bodies:
            recording.log(self._body_path(body), _pose(data.xpos[body], data.xquat[body]))

    def _body_path(self, body: int) -> str:
        return f"{self._root}/{self._model.body(body).name or f'body{body}'}"


def _pose(position: Array, quat_wxyz: Array) -> Any:
    import rerun as rr

    w, x, y, z = (float(part) for part in quat_wxyz)
    return rr.Transform3D(translation=position, quaternion=rr.Quaternion(xyzw=[x, y, z, w]))


def _shape(model: Any, geom: int) -> Any:
    """What rerun draws for a geom, None for those without an end."""
    import rerun as rr

    size, kind = model.geom_size[geom], int(model.geom_type[geom])
    rgba = np.rint(255 * np.clip(model.geom_rgba[geom], 0.0, 1.0)).astype(np.uint8)
    solid = {"colors": [rgba], "fill_mode": rr.components.FillMode.Solid}
    if kind == _MESH:
        return _mesh(model, int(model.geom_dataid[geom]), rgba)
    if kind == _BOX:
        return rr.Boxes3D(half_sizes=[size], **solid)
    if kind == _SPHERE:
        return rr.Ellipsoids3D(half_sizes=[[size[0]] * 3], **solid)
    if kind == _ELLIPSOID:
        return rr.Ellipsoids3D(half_sizes=[size], **solid)
    if kind == _CYLINDER:
        return rr.Cylinders3D(lengths=[2.0 * size[1]], radii=[size[0]], **solid)
    if kind == _CAPSULE:  # rerun's begins at its origin, MuJoCo's has it in the middle
        return rr.Capsules3D(lengths=[2.0 * size[1]], radii=[size[0]], translations=[[0.0, 0.0, -size[1]]], **solid)
    return None


def _mesh(model: Any, mesh: int, rgba: Array) -> Any:
    import rerun as rr

    vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
    faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    return rr.Mesh3D(
        vertex_positions=model.mesh_vert[vertices], triangle_indices=model.mesh_face[faces], albedo_factor=rgba
    )
