"""
Trains the float model on a GPU (or, slowly, on a CPU) in a given time. docs/training.md says how; see --help.

Joint CTC over characters and, on an inner block, over phones; two differently augmented views of each batch that must
agree (CR-CTC, Yao et al. 2025); words of one speaker spliced to new sentences (Lam et al. 2021, aligned data augmentation);
AdamW with a cosine schedule over wall-clock time; the exported weights are a moving average.
"""
import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import shutil
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from augment import Augmentation, augment  # noqa: E402
from data import FRAMES_PER_SECOND, Batches, Speech, held_out_batches  # noqa: E402
from model import LasrForCTC, Sizes, hidden_length  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="file that training/pytorch/data.js wrote")
    add("--tokenizer", required=True, help="folder with tokenizer.json, tokenizer_config.json and preprocessor_config.json")
    add("--out", required=True, help="model folder to write, in the layout of transformers")
    add("--initial", help="model folder of the same sizes to start from; without it weights are random")
    add("--seconds", type=float, default=240, help="wall-clock time from start to finished model")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--seed", type=int, default=1)
    add("--workers", type=int, default=8, help="processes that put batches together")
    add("--batch-seconds", type=float, default=150, help="seconds of different audio in a step; each is heard twice")
    add("--learning-rate", type=float, default=1.5e-3)
    add("--weight-decay", type=float, default=0.03)
    add("--warm-up", type=float, default=0.03, help="share of the time in which the learning rate rises")
    add("--plain", type=float, default=0.05, help="share of the time, at the beginning, without augmentation; up to four "
        "times as long while the loss stands still")
    add("--ramp", type=float, default=0.05, help="share of the time over which augmentation grows to its full strength")
    add("--plateau", type=float, default=1.8, help="loss per token under which the model has begun to learn")
    add("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of products on a GPU")
    add("--consistency", type=float, default=0.2, help="weight of the agreement of the two views")
    add("--inner-loss", type=float, default=0.3, help="share of the loss over phones")
    add("--splice", type=float, default=0.5, help="share of samples made of words of several utterances")
    add("--speed", type=float, default=0.16, help="speeds are between exp of minus this and exp of this")
    add("--average-decay", type=float, default=0.999)
    add("--weights", default="speechocean762=1.5,ljspeech=0.8,asterisk-core-sounds-en=0.5,fsdd=0.1",
        help="how often utterances of a dataset are drawn; 1 for others")
    for size in dataclasses.fields(Sizes):
        if size.name != "plain":
            add("--" + size.name.replace("_", "-"), type=size.type, default=size.default)
    return parser.parse_args()


class FlatParameters:
    """All weights in two long tensors, decayed and not, so that a step of the optimizer is a handful of kernels."""

    def __init__(self, model: torch.nn.Module, decay: float):
        self.groups = []
        for matrices in (True, False):
            weights = [weight for weight in model.parameters() if (weight.dim() > 1) == matrices]
            flat = torch.cat([weight.detach().flatten() for weight in weights])
            flat.grad = torch.zeros_like(flat)
            position = 0
            for weight in weights:
                end = position + weight.numel()
                weight.data = flat[position:end].view_as(weight)
                weight.grad = flat.grad[position:end].view_as(weight)
                position = end
            self.groups.append({"params": [flat], "weight_decay": decay if matrices else 0.0})

    @property
    def values(self) -> list:
        return [group["params"][0] for group in self.groups]

    def clear_gradients(self):
        for flat in self.values:
            flat.grad.zero_()

    def clip_gradients(self, maximum: float):
        """To a global norm; a step whose gradients are not finite becomes none. Returns the norm, on the device."""
        norm = torch.stack([flat.grad.norm() for flat in self.values]).norm()
        scale = torch.where(torch.isfinite(norm), (maximum / (norm + 1e-6)).clamp(max=1.0), 0.0)
        for flat in self.values:
            flat.grad.nan_to_num_(0.0, 0.0, 0.0).mul_(scale)
        return norm


class Average:
    """A moving average of weights and of the statistics of batch normalisation, as a model of its own."""

    def __init__(self, model: LasrForCTC, flat: FlatParameters, make):
        self.source, self.source_flat = model, flat
        self.model = make()
        self.model.load_state_dict(model.state_dict())
        self.flat = FlatParameters(self.model, 0.0)
        self.model.eval()
        self.updates = 0

    def update(self, decay: float):
        decay = min(decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        floats = lambda model: [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        torch._foreach_lerp_(
            self.flat.values + floats(self.model), self.source_flat.values + floats(self.source), 1 - decay
        )


def statistics(speech: Speech):
    """Mean and standard deviation of each mel bin, as feature_statistics.ts has them."""
    sample = np.asarray(speech.features[::17], np.float32) / speech.feature_scale
    return sample.mean(0), np.maximum(0.5, sample.std(0))


def ctc(log_probabilities, lengths, targets, blank: int = 0):
    """Sum over the sequences of -ln P(targets)."""
    symbols, counts = targets
    return F.ctc_loss(
        log_probabilities.transpose(0, 1), symbols, lengths, counts, blank=blank, reduction="sum", zero_infinity=True
    )


def disagreement(log_probabilities, padding):
    """Sum over frames of the divergence between two views, either way, without a gradient through the one followed."""
    vocabulary = log_probabilities.shape[-1]
    frames = log_probabilities.reshape(-1, vocabulary).index_select(0, padding.valid)
    first, second = frames.chunk(2)  # the views have equal lengths, one after the other
    divergence = lambda follower, leader: F.kl_div(follower, leader.detach(), log_target=True, reduction="sum")
    return 0.5 * (divergence(first, second) + divergence(second, first))


def edit_distance(reference: list, hypothesis: list) -> int:
    row = np.arange(len(hypothesis) + 1)
    for index, symbol in enumerate(reference, start=1):
        substituted = row[:-1] + (np.array(hypothesis, dtype=np.int64) != symbol)
        row = np.concatenate(([index], np.minimum(substituted, row[1:] + 1)))
        row = np.minimum.accumulate(row - np.arange(len(row))) + np.arange(len(row))  # insertions
    return int(row[-1])


class Trainer:
    def __init__(self, options, started: float):
        self.options, self.started, self.device = options, started, torch.device(options.device)
        torch.manual_seed(options.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.enabled = False  # it plans anew for each shape, and nearly every step has another one
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.speech = Speech(options.data)
        self.sizes = Sizes(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Sizes) if field.name != "plain"})
        self.augmentation = Augmentation()
        weights = {name: float(weight) for name, weight in (pair.split("=") for pair in options.weights.split(",") if pair)}
        self.plain = multiprocessing.Value("i", int(options.plain > 0), lock=False)
        self.augmented_from = 1.0 if options.plain > 0 else 0.0  # progress at which augmentation set in
        batches = Batches(
            self.speech, weights, int(options.batch_seconds * FRAMES_PER_SECOND), options.splice, options.speed,
            self.plain, options.seed,
        )
        on_gpu = self.device.type == "cuda"
        self.loader = iter(torch.utils.data.DataLoader(
            batches, batch_size=None, num_workers=options.workers, pin_memory=on_gpu,
            prefetch_factor=4 if options.workers else None, multiprocessing_context="fork" if options.workers else None,
        ))
        self.first = next(self.loader)  # workers start before the device is touched
        mean, deviation = statistics(self.speech)
        self.mean = torch.from_numpy(mean).to(self.device)
        self.deviation = torch.from_numpy(deviation).to(self.device)
        self.features = torch.from_numpy(np.array(self.speech.features)).to(self.device)
        make = lambda: LasrForCTC(self.sizes, self.speech.vocabulary, self.speech.phone_count).to(self.device)
        self.model = make()
        if options.initial:
            self.start_from(os.path.join(options.initial, "model.safetensors"))
        self.flat = FlatParameters(self.model, options.weight_decay)
        self.average = Average(self.model, self.flat, make)
        self.optimizer = torch.optim.AdamW(self.flat.groups, lr=0.0, betas=(0.9, 0.98), fused=on_gpu)
        self.steps, self.audio_seconds = 0, 0.0

    def start_from(self, path: str):
        """The inverse of what save() does to the first layer; the head of the inner loss stays random."""
        weights = {name: tensor.to(self.device) for name, tensor in load_file(path).items()}
        first = "encoder.subsampler.dense_0."
        weights[first + "bias"] = weights[first + "bias"] + weights[first + "weight"] @ self.mean
        weights[first + "weight"] = weights[first + "weight"] * self.deviation
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        missing = [name for name in missing if not name.startswith("inner_head") and not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            sys.exit(f"{path} is not a model of these sizes: it lacks {missing[:3]}, and {unexpected[:3]} are not known")

    def autocast(self):
        return torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda" and self.options.precision == "bfloat16")

    def gather(self, batch) -> torch.Tensor:
        """Log-mel features (sequences, frames, bins): between two frames where the speed is not 1."""
        first = batch["first"].to(self.device, non_blocking=True).long()
        share = batch["share"].to(self.device, non_blocking=True)[:, :, None]
        last = self.features.shape[0] - 1
        low, high = self.features[first].float(), self.features[(first + 1).clamp(max=last)].float()
        return torch.lerp(low, high, share) / self.speech.feature_scale

    def learning_rate(self, progress: float) -> float:
        rise = min(1.0, progress / self.options.warm_up)
        fall = max(0.0, progress - self.options.warm_up) / (1 - self.options.warm_up)
        return self.options.learning_rate * rise * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, fall))))

    def step(self, batch, progress: float):
        options = self.options
        views = 1 if batch["plain"] else 2
        self.sizes.plain = batch["plain"]
        strength = 0.0 if batch["plain"] else min(1.0, 0.25 + max(0.0, progress - self.augmented_from) / options.ramp)
        frames = batch["frames"] * views
        lengths = [hidden_length(count) for count in frames]
        symbols = lambda name: (batch[name][0].to(self.device, non_blocking=True).repeat(views), batch[name][1] * views)
        features = self.gather(batch).repeat(views, 1, 1)
        on_device = batch["lengths"].to(self.device, non_blocking=True).repeat(views)
        features = augment(features, on_device, self.mean, self.deviation, self.augmentation, strength)
        tokens, phones = symbols("tokens"), symbols("phones")
        with self.autocast():
            log_probabilities, inner, padding = self.model(features, lengths)
        outer_loss, inner_loss = ctc(log_probabilities, lengths, tokens), ctc(inner, lengths, phones)
        loss = (1 - options.inner_loss) * outer_loss + options.inner_loss * inner_loss
        agreement = torch.zeros((), device=self.device)
        if views == 2 and options.consistency > 0:
            agreement = disagreement(log_probabilities, padding)
            loss = loss + options.consistency * strength * agreement
        count = sum(tokens[1])
        self.flat.clear_gradients()
        (loss / count).backward()
        norm = self.flat.clip_gradients(1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)
        self.optimizer.step()
        self.average.update(options.average_decay)
        self.steps += 1
        self.audio_seconds += sum(batch["frames"]) / FRAMES_PER_SECOND
        return torch.stack([outer_loss.detach() / count, inner_loss.detach() / sum(phones[1]), agreement.detach() / count, norm])

    @torch.no_grad()
    def held_out_error(self) -> float:
        """Character error rate of the averaged model, best path, on the held-out speakers."""
        errors = total = 0
        for batch in held_out_batches(self.speech, 60_000):
            frames = [int(self.speech.frames[index + 1] - self.speech.frames[index]) for index in batch]
            features = torch.zeros((len(batch), max(frames), self.features.shape[1]), device=self.device)
            for row, index in enumerate(batch):
                begin = int(self.speech.frames[index])
                features[row, : frames[row]] = self.features[begin : begin + frames[row]].float() / self.speech.feature_scale
            features = augment(features, torch.tensor(frames, device=self.device), self.mean, self.deviation, self.augmentation, 0.0)
            lengths = [hidden_length(count) for count in frames]
            best = self.average.model(features, lengths)[0].argmax(-1).cpu().numpy()
            for row, index in enumerate(batch):
                path = best[row, : lengths[row]]
                path = path[np.concatenate(([True], path[1:] != path[:-1]))]
                words = self.speech.words[index : index + 2]
                begin, end = self.speech.token_words[words]
                reference = self.speech.tokens[begin:end].tolist()
                errors += edit_distance(reference, path[path != 0].tolist())
                total += len(reference)
        return errors / max(total, 1)

    def run(self, reserve: float):
        options = self.options
        began = time.monotonic()
        deadline = self.started + options.seconds - reserve
        if deadline - began < 5:
            sys.exit(f"only {deadline - began:.0f} s are left of --seconds {options.seconds:.0f} after reading the data")
        epoch = sum(self.speech.frames[index + 1] - self.speech.frames[index] for index in range(self.speech.count)) / FRAMES_PER_SECOND
        batch, told, saved, bad = self.first, began, began, 0
        while time.monotonic() < deadline:
            progress = (time.monotonic() - began) / (deadline - began)
            values = self.step(batch, progress)
            if self.plain.value and self.steps % 20 == 0 and progress >= options.plain:
                if float(values[0]) < options.plateau or progress >= 4 * options.plain:
                    self.plain.value, self.augmented_from = 0, progress
                    print(f"augmentation sets in at step {self.steps}, loss {float(values[0]):.2f}", flush=True)
            batch = next(self.loader)
            now = time.monotonic()
            if now - told >= 8 or self.steps in (1, 20, 100):
                told = now
                token_loss, phone_loss, agreement, norm = values.tolist()
                bad = 0 if math.isfinite(norm) else bad + 1
                if bad == 3:
                    sys.exit("the loss is not finite any more")
                error = self.held_out_error() if len(np.flatnonzero(self.speech.held_out == 1)) else math.nan
                print(
                    f"{now - self.started:6.1f} s  step {self.steps}  {self.audio_seconds / epoch:.1f} epochs  loss {token_loss:.3f}"
                    f"  phones {phone_loss:.3f}  disagreement {agreement:.3f}  gradient {norm:.2f}  rate {self.learning_rate(progress):.2e}"
                    f"  {self.audio_seconds / (now - began):.0f} s of audio/s  held-out CER {100 * error:.2f} %",
                    flush=True,
                )
            if now - saved >= 30:
                saved = now
                self.save()
        print(f"held-out CER of the written model {100 * self.held_out_error():.2f} %, {self.steps} steps", flush=True)
        self.save()

    def save(self):
        """The averaged model, with normalisation of features folded into its first layer; the folder appears at once."""
        state = {name: tensor.detach().float().cpu() for name, tensor in self.average.model.state_dict().items()}
        weights = {name: tensor for name, tensor in state.items() if not name.startswith("inner_head")}
        mean, deviation = self.mean.cpu(), self.deviation.cpu()
        first = "encoder.subsampler.dense_0."
        weights[first + "weight"] = weights[first + "weight"] / deviation
        weights[first + "bias"] = weights[first + "bias"] - weights[first + "weight"] @ mean
        for name in weights:
            weights[name] = weights[name].long() if name.endswith("num_batches_tracked") else weights[name].contiguous()
            if not torch.isfinite(weights[name]).all():
                sys.exit(f"{name} is not finite")
        sizes = {
            field.name: getattr(self.sizes, field.name)
            for field in dataclasses.fields(Sizes) if field.metadata.get("exported", True)
        }
        config = {
            "architectures": ["LasrForCTC"], "model_type": "lasr_ctc", "dtype": "float32",
            "vocab_size": self.speech.vocabulary, "pad_token_id": 0, "ctc_loss_reduction": "mean", "ctc_zero_infinity": True,
            "encoder_config": {"model_type": "lasr_encoder", **sizes},
        }
        temporary, out = self.options.out + ".part", self.options.out
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
            shutil.copy(os.path.join(self.options.tokenizer, file), temporary)
        with open(os.path.join(temporary, "config.json"), "w") as file:
            json.dump(config, file, indent=2)
        save_file(weights, os.path.join(temporary, "model.safetensors"), {"format": "pt"})
        shutil.rmtree(out, ignore_errors=True)
        os.rename(temporary, out)


if __name__ == "__main__":
    begin = time.monotonic()
    trainer = Trainer(parse_arguments(), begin)
    trainer.run(reserve=3.0)
