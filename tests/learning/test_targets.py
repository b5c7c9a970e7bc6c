from __future__ import annotations

import functools

import pytest

from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM
from robot_rl.errors import ConfigError
from robot_rl.learning.targets import build


def test_objects_partials_and_nested_lists() -> None:
    partial = build({"_target_": "policies.samplers.DDIM", "_partial_": True, "steps": 4})
    assert isinstance(partial, functools.partial)
    sampler = partial(schedule=build({"_target_": "policies.noise_schedules.NoiseSchedule", "steps": 10}))
    assert isinstance(sampler, DDIM) and sampler.timesteps == [9, 6, 3, 0]
    assert isinstance(build({"_target_": "policies.noise_schedules.NoiseSchedule"}, steps=7), NoiseSchedule)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, "may not be built"),
        ({"_target_": "policies.samplers.math.sqrt"}, "does not exist"),
        ({"_target_": "policies.samplers.clean_estimate"}, "not a class"),
        ({"_target_": "policies.samplers.Nothing"}, "does not exist"),
        ({"_target_": "policies.noise_schedules.NoiseSchedule", "stepz": 3}, "stepz"),
        ({"steps": 3}, "may not be built"),
        ({"_target_": "policies.noise_schedules.NoiseSchedule", "kind": {"_target_": "builtins.print"}}, "may not"),
    ],
)
def test_nothing_but_classes_of_allowed_packages_is_built(config: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config)
