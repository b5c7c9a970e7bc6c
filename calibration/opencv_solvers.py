"""OpenCV's hand-eye solvers, against which ours is held. OpenCV 5 has none of them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from robot_rl.types import Array

METHODS = ("park", "horaud", "daniilidis")


def opencv_hand_eye(hand: Array, eye: Array) -> dict[str, Array]:
    """X [4, 4] of H_i X E_i = Y by each method; empty where this OpenCV lacks them."""
    if not hasattr(cv2, "calibrateHandEye"):
        return {}
    samples: Any = (hand[:, :3, :3], hand[:, :3, 3], eye[:, :3, :3], eye[:, :3, 3])
    solutions = {}
    for method in METHODS:
        number = getattr(cv2, f"CALIB_HAND_EYE_{method.upper()}")
        rotation, position = cv2.calibrateHandEye(*samples, method=number)
        x = np.eye(4)
        x[:3, :3], x[:3, 3] = rotation, np.ravel(position)
        if np.isfinite(x).all():
            solutions[method] = x
    return solutions
