"""What a training run depends on."""

from __future__ import annotations

from dataclasses import dataclass

LOSSES = ("consensus", "loc2")


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on; stored in the weights it makes."""

    steps: int
    batch: int
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    match_loss_weight: float = 0.3
    fine_loss_weight: float = 0.5
    flat_share: float = 0.35
    """Share of batches lifted by flat ground instead of metric depth."""
    workers: int = 2
    """Each computes its own batch of a step; one core each beats sharing every operation, also on a busy machine."""
    seed: int = 0
    bf16: bool = True
    """Mixed precision: the networks' convolutions in bfloat16, everything after them in single precision."""
    log_every: int = 100
    """Steps between log lines and checkpoints."""
    loss: str = "consensus"
    """One of `LOSSES`: the posterior of the consensus, or the published loss on sampled matches."""
    backbone: str = ""
    """DINOv2 by name or folder for the matcher to stand on, frozen; empty: trunks of its own."""
    device: str = "cpu"
    validate_every: int = 500
    """Steps between measurements on held-out data, where there is any."""
    validation_samples: int = 16
