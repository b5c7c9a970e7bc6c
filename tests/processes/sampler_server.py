"""A process that serves the policy of a checkpoint: prints its address, ends when its standard input closes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from policies.served import SamplerServer
from robot_rl.learning.checkpoint import load_checkpoint


def main(checkpoint: str) -> None:
    torch.set_num_threads(1)
    with SamplerServer(load_checkpoint(Path(checkpoint))) as server:
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
