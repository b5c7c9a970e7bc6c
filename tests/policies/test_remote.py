"""A policy in another process: bit for bit the one here, for every wrapper that needs chunks only, and nothing more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq

from policies.black_box import BlackBox, as_sampler
from policies.chosen import Chosen, Medoid
from policies.composed import Composed
from policies.real_time_chunking import RealTimeChunked
from policies.remote import RemotePolicy, RemoteSampler
from policies.scaled_noise import ScaledNoise
from policies.served import SamplerServer
from policies.warm_started import WarmStarted
from policies.white_box import WhiteBox
from robot_rl.apps.serve import refer_to
from robot_rl.errors import CheckpointError, ConfigError, InvalidArrayError, ProtocolError, RobotConnectionError
from robot_rl.interfaces import ChunkSampler, Denoiser, Policy
from robot_rl.learning.checkpoint import load_checkpoint, save_checkpoint
from robot_rl.learning.targets import build
from robot_rl.transport.messages import Message, decode, encode
from tests.policies.tiny import CONFIG, SPEC, decisions, make_acting, make_rows, make_window


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = build(CONFIG, env_spec=SPEC)
    policy.fit_normalizer(make_rows())
    with torch.no_grad():
        for value in policy.module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)), alpha=0.05)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return save_checkpoint(folder, weights=policy.state_dict(), config=CONFIG, env_spec=SPEC)


@contextmanager
def serving(checkpoint: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.processes.sampler_server", str(checkpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate(timeout=20)
    assert server.returncode == 0


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    with serving(checkpoint) as where:
        yield where


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the server has: a product over two threads may round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_served_policy_acts_and_is_wrapped_as_it_is_here(checkpoint: Path, address: str) -> None:
    here, there = load_checkpoint(checkpoint), RemotePolicy(SPEC, address)
    sampler = as_sampler(there)
    assert isinstance(there, Policy) and isinstance(sampler, ChunkSampler) and sampler.spec == BlackBox(here).spec
    assert not isinstance(there, Denoiser | WhiteBox) and not isinstance(sampler, Denoiser | WhiteBox)
    pairs = [(here, there), (ScaledNoise(here, 0.5), ScaledNoise(there, 0.5))]
    pairs += [(Chosen(here, Medoid(), 6), Chosen(there, Medoid(), 6))]
    for local, remote in pairs:
        assert local.spec == remote.spec
        for one, other in zip(decisions(local), decisions(remote), strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)
            np.testing.assert_array_equal(one.decision["noise"], other.decision["noise"])


def test_what_enters_the_denoising_refuses_it(address: str) -> None:
    there = RemotePolicy(SPEC, address)
    for wrap in (WarmStarted, RealTimeChunked, Composed, lambda base: Composed(make_acting(), [base])):
        with pytest.raises(ConfigError, match=r"RemotePolicy offers chunks only.*DSRL-SAC"):
            wrap(there)


def test_nothing_but_chunks_is_served(address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(address)
        for number, kind in enumerate(("predict", "encode", "weights", "state_dict")):
            socket.send_multipart(encode(Message(kind, {"request": number})))
            assert socket.poll(10_000)
            reply = decode(socket.recv_multipart())
            assert (reply.kind, reply.fields["request"], reply.fields["class"]) == ("error", number, "ProtocolError")
            assert not reply.arrays


def test_garbage_is_dropped_and_wrong_requests_are_answered(checkpoint: Path) -> None:
    with SamplerServer(load_checkpoint(checkpoint)) as server:
        sampler = RemoteSampler(server.address)
        obs = {key: torch.from_numpy(value) for key, value in make_window(2).items()}
        noise = torch.zeros(2, *sampler.spec.noise_shape)
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(server.address)
            for junk in ([b""], [b"\xc1junk"], [b"x"] * 50, encode(Message("sample")), encode(Message("describe"))[:1]):
                socket.send_multipart(junk)
            with pytest.raises(InvalidArrayError, match="'noise' is float32"):
                sampler.sample(obs, noise[:, :3])
            with pytest.raises(InvalidArrayError, match="0 rows"):
                sampler.sample(obs, noise[:0])
            with pytest.raises(InvalidArrayError, match="'obs/wire/angle' is float64"):
                sampler.sample({**obs, "wire/angle": obs["wire/angle"].double()}, noise)
            with pytest.raises(InvalidArrayError, match="noise"):
                sampler.sample(obs, noise + torch.nan)
        assert sampler.sample(obs, noise).shape == (2, 8, 2)
        assert server.counts["chunks"] == 1 and server.counts["error"] == 4
    with pytest.raises(RobotConnectionError, match="no policy answers"):
        RemoteSampler(server.address, timeout_s=0.1)


def test_a_checkpoint_refers_to_what_is_served_by_hash(checkpoint: Path, tmp_path: Path) -> None:
    with SamplerServer(load_checkpoint(checkpoint)) as server:
        run = refer_to(server, checkpoint, tmp_path / "tiny_served")
        assert refer_to(server, checkpoint, tmp_path / "tiny_served") == run  # serving again changes nothing
        there = load_checkpoint(run, SPEC)
        assert isinstance(there, RemotePolicy) and there.sha256() == load_checkpoint(checkpoint).sha256()
        np.testing.assert_array_equal(
            decisions(there, 1)[0].actions, decisions(load_checkpoint(checkpoint), 1)[0].actions
        )
        address = server.address
    with SamplerServer(make_acting(seed=3), address) as server:
        with pytest.raises(CheckpointError, match=r"serves policy .* \(limit: "):
            load_checkpoint(run, SPEC)
        assert isinstance(load_checkpoint(run, SPEC, changes={"sha256": ""}), RemotePolicy)


def test_beyond_this_machine_it_needs_keys(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="without keys"):
        SamplerServer(load_checkpoint(checkpoint), "tcp://0.0.0.0:0")
    with pytest.raises(ConfigError, match="without keys"):
        RemoteSampler("tcp://192.0.2.1:5590")


def test_a_message_that_describes_no_sampler_is_a_protocol_error() -> None:
    from policies.remote import sampler_message, sampler_spec

    spec = BlackBox(make_acting()).spec
    assert sampler_spec(sampler_message(spec)) == spec
    fields = dict(sampler_message(spec).fields["spec"])
    for broken in ({}, {**fields, "noise_shape": 3}, {**fields, "extra": 1}, {**fields, "observation": {"a": {}}}):
        with pytest.raises(ProtocolError, match="describes no sampler"):
            sampler_spec(Message("sampler", {"spec": broken}))
