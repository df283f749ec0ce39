"""AdamW (Loshchilov and Hutter 2019) and a moving average over all weights at once, with every number on the device."""
import math
from dataclasses import dataclass

import torch

BETAS = (0.9, 0.98)
EPSILON = 1e-8


@dataclass
class Schedule:
    """What changes from step to step. `values` is a tensor on the device that a CUDA graph reads."""

    learning_rate: float = 0.0
    first_correction: float = 1.0  # 1 / (1 - beta^step)
    second_correction: float = 1.0
    averaging: float = 1.0  # share of the new weights in the average
    strength: float = 0.0  # of augmentation
    consistency: float = 0.0  # weight of the agreement of the two views

    def tensor(self) -> torch.Tensor:
        return torch.tensor([
            self.learning_rate, self.first_correction, self.second_correction, self.averaging, self.strength, self.consistency,
        ])

    @staticmethod
    def at_step(step: int, average_decay: float, **values) -> "Schedule":
        """`step` counts from 1; the average follows faster at the beginning."""
        first, second = (1 / (1 - beta**step) for beta in BETAS)
        return Schedule(first_correction=first, second_correction=second, averaging=1 - min(average_decay, step / (9 + step)), **values)


class FlatWeights:
    """
    The weights of a model as one long float32 tensor, of which the model computes with copies in `dtype`; also their moving
    average, to which the buffers of the model (statistics of batch normalization) belong too.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype, decay: float):
        self.weights = sorted(model.parameters(), key=lambda weight: weight.dim() > 1)  # matrices last: only they decay
        self.values = torch.cat([weight.detach().float().flatten() for weight in self.weights])
        self.undecayed = sum(weight.numel() for weight in self.weights if weight.dim() <= 1)
        self.decay = decay
        self.working = self.values.to(dtype, copy=True)
        for weight, part in zip(self.weights, self.split(self.working)):
            weight.data = part
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.average, self.buffer_averages = self.values.clone(), [buffer.clone() for buffer in self.buffers]

    def split(self, flat: torch.Tensor) -> list:
        parts = flat.split([weight.numel() for weight in self.weights])
        return [part.view(weight.shape) for part, weight in zip(parts, self.weights)]

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        gradients = torch.autograd.grad(loss, self.weights)
        return torch.cat([gradient.reshape(-1) for gradient in gradients]).float()

    @torch.no_grad()
    def step(self, gradient: torch.Tensor, schedule: torch.Tensor, maximum_norm: float = 1.0) -> torch.Tensor:
        """One step against `gradient`, scaled down to a norm; none where it is not finite. Returns the norm, on the device."""
        rate, first_correction, second_correction, averaging = schedule[:4].unbind()
        norm = torch.linalg.vector_norm(gradient)
        finite = torch.isfinite(norm)
        scale = (maximum_norm / (norm + 1e-6)).clamp(max=1.0).masked_fill(~finite, 0.0)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0).mul_(scale)
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        change = (self.first * first_correction).div_((self.second * second_correction).sqrt_().add_(EPSILON))
        self.values[self.undecayed :].mul_(1 - rate * finite * self.decay)
        self.values.sub_(change.mul_(rate * finite))
        self.working.copy_(self.values)
        self.average.lerp_(self.values, averaging)
        for average, buffer in zip(self.buffer_averages, self.buffers):
            average.lerp_(buffer, averaging)
        return norm

    @torch.no_grad()
    def copy_average(self, model: torch.nn.Module):
        """The average, in float32, into a model of the same kind."""
        weights = sorted(model.parameters(), key=lambda weight: weight.dim() > 1)
        for weight, part in zip(weights, self.split(self.average)):
            weight.copy_(part)
        for buffer, average in zip((buffer for buffer in model.buffers() if buffer.is_floating_point()), self.buffer_averages):
            buffer.copy_(average)


def cosine(progress: float, highest: float, warm_up: float) -> float:
    """Learning rate at a share of the time: a linear rise, then half a cosine to a hundredth."""
    rise = min(1.0, progress / warm_up) if warm_up > 0 else 1.0
    fall = min(1.0, max(0.0, progress - warm_up) / (1 - warm_up))
    return highest * rise * max(0.01, 0.5 * (1 + math.cos(math.pi * fall)))
