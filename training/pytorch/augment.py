"""Augmentation of log-mel features on the training device. All tensors are (sequences, frames, mel bins) in nats of power."""
from dataclasses import dataclass

import torch

DECIBEL = 0.2302585  # of power, in nats
ENERGY_FLOOR = -11.512925  # ln 1e-5, the lowest value of the front end
SILENCE = -30.0  # of noise that is not there: far below the floor
LOWEST_HERTZ, HIGHEST_HERTZ = 125.0, 7500.0


@dataclass
class Augmentation:
    """Ranges at full strength; a strength between 0 and 1 narrows them."""

    vocal_tract: float = 0.16  # frequencies are scaled by exp of up to so much, up or down
    gain: float = 6.0  # decibels, up or down
    tilt: float = 8.0  # decibels between the lowest and the highest bin, up or down
    ripple: float = 4.0  # decibels of one slow wave over the bins
    noise_share: float = 0.4  # of sequences get stationary noise
    noise_ratio: tuple = (3.0, 30.0)  # decibels of speech above noise
    babble_share: float = 0.2  # of sequences get another one as noise
    babble_ratio: tuple = (6.0, 25.0)
    frequency_masks: int = 2
    frequency_mask_bins: int = 30
    time_masks_per_frame: float = 0.025
    time_mask_share: float = 0.04  # of the sequence, each mask
    time_mask_frames: int = 40  # and at most so many


def uniform(low, high, shape, device):
    return torch.rand(shape, device=device) * (high - low) + low


def warp_frequencies(x, extent):
    """Vocal tract length perturbation (Jaitly and Hinton 2013): scales the frequency axis of each sequence."""
    count, _, bins = x.shape
    mel = torch.linspace(hertz_to_mel(LOWEST_HERTZ), hertz_to_mel(HIGHEST_HERTZ), bins, device=x.device)
    scale = torch.exp(uniform(-extent, extent, (count, 1), x.device))
    hertz = 700.0 * (torch.exp(mel / 1127.0) - 1.0)
    source = 1127.0 * torch.log1p(scale * hertz / 700.0)
    position = ((source - mel[0]) / (mel[1] - mel[0])).clamp(0, bins - 1)  # (sequences, bins)
    from_bins = torch.arange(bins, device=x.device)[None, :, None]
    weights = (1 - (position[:, None, :] - from_bins).abs()).clamp(min=0)  # linear interpolation as a matrix
    return torch.bmm(x, weights)


def hertz_to_mel(hertz: float) -> float:
    return float(1127.0 * torch.log1p(torch.tensor(hertz / 700.0)))


def colour(x, options: Augmentation, strength):
    """A random loudness and a smooth random frequency response, as of another microphone."""
    count, _, bins = x.shape
    axis = torch.linspace(-0.5, 0.5, bins, device=x.device)[None, :]
    draw = lambda extent: uniform(-1, 1, (count, 1), x.device) * (extent * DECIBEL * strength)
    wave = torch.sin(6.2832 * (uniform(0.5, 2, (count, 1), x.device) * axis + torch.rand((count, 1), device=x.device)))
    response = draw(options.gain) + draw(options.tilt) * axis + draw(options.ripple) * 0.5 * wave
    return x + response[:, None, :]


def add_noise(x, real, options: Augmentation, strength):
    """Powers of uncorrelated sounds add: ln(e^x + e^n). Noise in one cell has an exponentially distributed power."""
    count, _, bins = x.shape
    mean = (x.exp() * real).sum((1, 2)) / (real.sum((1, 2)) * bins).clamp(min=1)
    level = mean.clamp(min=1e-6).log()[:, None]
    axis = torch.linspace(-0.5, 0.5, bins, device=x.device)[None, :]
    spectrum = level - uniform(*options.noise_ratio, (count, 1), x.device) * DECIBEL
    spectrum = spectrum + uniform(-20, 20, (count, 1), x.device) * DECIBEL * axis
    spectrum = spectrum.masked_fill(torch.rand((count, 1), device=x.device) >= options.noise_share * strength, SILENCE)
    cell = torch.empty_like(x).exponential_().clamp(min=1e-6).log()
    x = torch.logaddexp(x, spectrum[:, None, :] + cell)
    babble = x.roll(1, 0) - uniform(*options.babble_ratio, (count, 1, 1), x.device) * DECIBEL
    quiet = torch.rand((count, 1, 1), device=x.device) >= options.babble_share * strength
    babble = (babble + (level - level.roll(1, 0))[:, :, None]).masked_fill(quiet, SILENCE)
    return torch.logaddexp(x, babble)


def spec_augment(x, lengths, options: Augmentation, strength):
    """Zeroes bands and stretches of normalized features (Park et al. 2019; adaptive to length: 2020)."""
    count, frames, bins = x.shape
    device = x.device
    hidden_bins = torch.zeros((count, bins), dtype=torch.bool, device=device)
    axis = torch.arange(bins, device=device)[None, :]
    for _ in range(options.frequency_masks):
        width = torch.rand((count, 1), device=device) * (options.frequency_mask_bins * strength)
        begin = torch.rand((count, 1), device=device) * (bins - width)
        hidden_bins |= (axis >= begin) & (axis < begin + width)
    masks = max(1, int(options.time_masks_per_frame * frames))
    length = lengths[:, None].float()
    width = torch.rand((count, masks), device=device) * (length * options.time_mask_share).clamp(max=options.time_mask_frames) * strength
    begin = torch.rand((count, masks), device=device) * (length - width)
    time = torch.arange(frames, device=device)[None, :, None]
    hidden_frames = ((time >= begin[:, None, :]) & (time < (begin + width)[:, None, :])).any(-1)
    return x.masked_fill(hidden_bins[:, None, :] | hidden_frames[:, :, None], 0.0)


def augment(x, lengths, mean, deviation, options: Augmentation, strength):
    """
    From log-mel features to normalized, augmented ones.
    lengths (sequences) frames of each, on the device; strength: between 0 and 1, on the device, or None to normalize only.
    """
    frames = torch.arange(x.shape[1], device=x.device)
    real = (frames[None, :] < lengths[:, None])[:, :, None]
    if strength is not None:
        x = warp_frequencies(x, options.vocal_tract * strength)
        x = colour(x, options, strength)
        x = add_noise(x, real, options, strength).clamp(min=ENERGY_FLOOR)
    x = (x - mean) / deviation
    if strength is not None:
        x = spec_augment(x, lengths, options, strength)
    return x * real
