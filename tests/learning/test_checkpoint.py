"""Checkpoints: what goes in comes out, damage and foreign specs are refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import CheckpointError
from robot_rl.learning.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    point_to,
    read_manifest,
    save_checkpoint,
)
from robot_rl.learning.targets import build
from robot_rl.types import ActContext, ArraySpec, EnvSpec
from tests.policies.tiny import CONFIG, SPEC, make_rows, make_window


def make_policy() -> Any:
    policy = build(CONFIG, env_spec=SPEC)
    policy.fit_normalizer(make_rows())
    with torch.no_grad():
        draw = torch.Generator().manual_seed(1)
        for value in policy.module.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=draw))
    return policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "run" / "checkpoints" / "step_00000010"
    policy = make_policy()
    meta = {"step": 10, "data": {"dataset": "beads"}}
    training = {"step": torch.tensor(10)}
    save_checkpoint(target, weights=policy.state_dict(), config=CONFIG, env_spec=SPEC, training=training, meta=meta)
    point_to(target)
    return target


def plan(policy: Any) -> np.ndarray:
    policy.reset(np.arange(2), np.array([4, 5]))
    return policy.act(make_window(2), ActContext.start(2)).actions


def test_a_loaded_policy_acts_like_the_saved_one(folder: Path) -> None:
    for path in (folder, folder.parent / "latest", folder.parent, folder.parent.parent):
        np.testing.assert_array_equal(plan(load_checkpoint(path, SPEC)), plan(make_policy()))
    assert json.loads((folder / "env_spec.json").read_text()) == SPEC.to_json()
    manifest = read_manifest(folder)
    assert manifest["step"] == 10 and manifest["data"]["dataset"] == "beads" and "code_revision" in manifest
    state, _ = load_training_state(folder)
    assert int(state["step"]) == 10


def test_arguments_can_be_changed_at_load(folder: Path) -> None:
    policy = load_checkpoint(folder, changes={"sampler.steps": 4, "execute": 2})
    assert policy.sampler.timesteps == [49, 33, 16, 0]
    assert policy.spec.execute == 2
    with pytest.raises(CheckpointError, match=r"no policy argument 'sampelr\.steps'\. Did you mean 'sampler'"):
        load_checkpoint(folder, changes={"sampelr.steps": 4})
    with pytest.raises(CheckpointError, match="stepz"):
        load_checkpoint(folder, changes={"sampler.stepz": 4})


def spec_with(**changes: Any) -> EnvSpec:
    return replace(SPEC, **changes)


REFUSED = {
    "task": (spec_with(task="lift"), "task: expected slide, found lift"),
    "rate": (spec_with(step_rate_hz=20.0), "step_rate_hz"),
    "missing": (spec_with(observation={"bead/position": ArraySpec((2,), unit="m")}), "'wire/angle' is missing"),
    "unit": (
        spec_with(observation={**SPEC.observation, "bead/position": ArraySpec((2,), unit="mm")}),
        "observation 'bead/position'",
    ),
    "arm": (spec_with(arm_parts=("arm1",)), "arm_parts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_env_is_refused_by_name_and_cannot_be_accepted(folder: Path, name: str) -> None:
    spec, message = REFUSED[name]
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, spec, accept=["all"])


def test_an_env_may_observe_more_and_lack_cameras_that_are_not_read(folder: Path) -> None:
    more = spec_with(observation={**SPEC.observation, "new/thing": ArraySpec((1,))}, cameras={})
    assert load_checkpoint(folder, more) is not None


def test_another_robot_must_be_accepted_by_name(folder: Path) -> None:
    spec = spec_with(robot="other", limits={"max_speed_m_s": 0.1})
    with pytest.raises(CheckpointError, match=r"accept=\[robot,limits\]"):
        load_checkpoint(folder, spec)
    with pytest.raises(CheckpointError, match=r"accept=\[limits\]"):
        load_checkpoint(folder, spec, accept=["robot"])
    for accept in (["robot", "limits"], ["all"]):
        assert load_checkpoint(folder, spec, accept=accept) is not None


def test_another_camera_is_accepted_by_its_name_and_nothing_by_a_part_of_one(tmp_path: Path) -> None:
    camera = {"_target_": "policies.image_encoder.ImageEncoder", "_partial_": True, "height": 36, "width": 36}
    small = {"crop_height": 34, "crop_width": 34, "channels": 8}
    config = {**CONFIG, "cameras": {"front": {**camera, **small}}}
    policy = build(config, env_spec=SPEC)
    policy.fit_normalizer(make_rows())
    save_checkpoint(tmp_path / "seeing", weights=policy.state_dict(), config=config, env_spec=SPEC)
    finer = spec_with(robot="other", cameras={"front": replace(SPEC.cameras["front"], height=80, width=88)})
    for accept in ([], ["r", "camera", ""]):
        with pytest.raises(CheckpointError, match=r"accept=\[robot,front\]"):
            load_checkpoint(tmp_path / "seeing", finer, accept=accept)
    assert load_checkpoint(tmp_path / "seeing", finer, accept=["robot", "front"]) is not None


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGE = {
    "flipped byte": (lambda f: flip_byte(f / "policy.safetensors"), "policy.safetensors was changed"),
    "truncated": (
        lambda f: (f / "policy.safetensors").write_bytes((f / "policy.safetensors").read_bytes()[:500]),
        "policy.safetensors was changed",
    ),
    "missing file": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not a checkpoint"),
    "manifest torn": (lambda f: (f / "manifest.json").write_text('{"form'), "manifest.json cannot be read"),
    "newer": (
        lambda f: (f / "manifest.json").write_text(
            json.dumps({**json.loads((f / "manifest.json").read_text()), "version": 9})
        ),
        "version 9",
    ),
    "list": (lambda f: (f / "manifest.json").write_text("[]"), "no JSON object"),
    "unlisted": (
        lambda f: (f / "manifest.json").write_text(
            json.dumps({**json.loads((f / "manifest.json").read_text()), "files": {}})
        ),
        "does not list its files",
    ),
    "foreign": (lambda f: (f / "manifest.json").write_text("{}"), "not a checkpoint of this project"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(folder: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder, SPEC)


def test_a_configuration_cannot_import_at_will(folder: Path) -> None:
    other = folder.with_name("step_00000020")
    save_checkpoint(other, weights={}, config={"_target_": "subprocess.Popen", "args": "true"}, env_spec=SPEC)
    with pytest.raises(CheckpointError, match="may not be built"):
        load_checkpoint(other)


HOSTILE = {
    "no policy": ({"config": CONFIG["network"] | {"_partial_": False}}, "cannot be built|no policy"),
    "partial": ({"config": {**CONFIG, "_partial_": True}}, "no policy"),
    "not a class": ({"config": {**CONFIG, "_target_": "policies.diffusion.torch"}}, "not a class"),
    "other type": ({"config": {**CONFIG, "history": "2"}}, "history=2 .limit: an integer"),
    "negative": ({"config": {**CONFIG, "network": {**CONFIG["network"], "width": -1}}}, "cannot be built"),
    "lost statistics": ({"lost": "normalizer.features.scale"}, "the normaliser holds"),
    "odd statistics": ({"more": {"normalizer.action.offset": torch.zeros(5)}}, "the normaliser holds"),
    "foreign statistics": ({"more": {"normalizer.spy": torch.zeros(5)}}, "the normaliser holds"),
    "lost weights": ({"lost": "module.network.chunk_in.weight"}, "weights do not fit"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_made_up_is_refused_by_name(folder: Path, name: str) -> None:
    changes, message = HOSTILE[name]
    weights = {**make_policy().state_dict(), **changes.get("more", {})}
    weights.pop(changes.get("lost", ""), None)
    other = folder.with_name("step_00000020")
    save_checkpoint(other, weights=weights, config=changes.get("config", CONFIG), env_spec=SPEC)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(other, SPEC)


@pytest.mark.parametrize("text", ["../../../elsewhere", "step_00000099", "", "x" * 5000])
def test_a_pointer_leads_nowhere_else(folder: Path, text: str) -> None:
    save_checkpoint(folder.parents[2] / "elsewhere", weights={}, config=CONFIG, env_spec=SPEC)
    (folder.parent / "latest").write_text(text + "\n")
    with pytest.raises(CheckpointError, match="names no checkpoint beside it"):
        find_checkpoint(folder.parents[1])


def test_missing_and_taken_places_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="never overwritten"):
        save_checkpoint(folder, weights={}, config=CONFIG, env_spec=SPEC)
    other = folder.with_name("step_00000030")
    save_checkpoint(other, weights=make_policy().state_dict(), config=CONFIG, env_spec=SPEC)
    with pytest.raises(CheckpointError, match="no training state"):
        load_training_state(other)
    assert not list(folder.parent.glob(".*partial"))


def test_what_is_not_finite_is_not_saved_and_the_last_good_one_stays_the_newest(folder: Path) -> None:
    policy = make_policy()
    with torch.no_grad():
        next(policy.module.parameters()).view(-1)[3] = float("nan")
    for weights, training in (
        (policy.state_dict(), {}),
        (make_policy().state_dict(), {"moments.actor.0.weight.exp_avg": torch.tensor([0.0, float("inf")])}),
    ):
        later = folder.with_name("step_00000020")
        with pytest.raises(CheckpointError, match=r"step_00000020 would hold '.*' that is not finite"):
            save_checkpoint(later, weights=weights, config=CONFIG, env_spec=SPEC, training=training)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["latest", folder.name]
    np.testing.assert_array_equal(plan(load_checkpoint(folder.parent, SPEC)), plan(make_policy()))
