"""
Trains the float model on a GPU (or, slowly, on a CPU) in a given time. docs/training.md says how; see --help.

Joint CTC over characters and, on an inner block, over phones; two differently augmented views of each batch that must
agree (CR-CTC, Yao et al. 2025); words of one speaker spliced to new sentences (Lam et al. 2021, aligned data augmentation);
synthesized speech, whose share falls; AdamW with a cosine schedule over wall-clock time; the exported weights are a moving
average. Steps are CUDA graphs, one for each of a few shapes of batches.
"""
import argparse
import dataclasses
import gc
import math
import multiprocessing
import os
import sys
import time

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from augment import Augmentation, augment  # noqa: E402
from data import FRAMES_PER_SECOND, Batches, Speech, held_out_batches  # noqa: E402
from export import export, start_from  # noqa: E402
from model import LasrForCTC, Sizes, hidden_length  # noqa: E402
from optimizer import FlatWeights, Schedule, cosine  # noqa: E402
from step import Step  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="file that training/pytorch/data.js wrote")
    add("--tokenizer", required=True, help="folder with tokenizer.json, tokenizer_config.json and preprocessor_config.json")
    add("--out", required=True, help="model folder to write, in the layout of transformers")
    add("--initial", help="model folder of the same sizes to start from; without it weights are random")
    add("--synthetic", help="folder that synthesize.py wrote")
    add("--synthetic-text", help="the sentences that synthesize.py read")
    add("--synthetic-words", help="JSON with tokens and phones of their words, from synthetic_text.js")
    add("--synthetic-share", type=float, nargs=2, default=(0.5, 0.1), help="share of samples that are synthetic, first and last")
    add("--seconds", type=float, default=240, help="wall-clock time from start to finished model")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--seed", type=int, default=1)
    add("--workers", type=int, default=8, help="processes that put batches together")
    add("--batch-seconds", type=float, default=300, help="seconds of different audio in a step; each is heard twice")
    add("--learning-rate", type=float, default=1.2e-3)
    add("--weight-decay", type=float, default=0.03)
    add("--warm-up", type=float, default=0.03, help="share of the time in which the learning rate rises")
    add("--plain", type=float, default=0.04, help="share of the time, at the beginning, without augmentation; up to four "
        "times as long while the loss stands still")
    add("--ramp", type=float, default=0.05, help="share of the time over which augmentation grows to its full strength")
    add("--plateau", type=float, default=1.5, help="loss per token under which the model has begun to learn")
    add("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of products on a GPU")
    add("--graphs", choices=("on", "off"), default="on", help="whether steps are captured as CUDA graphs")
    add("--consistency", type=float, default=0.2, help="weight of the agreement of the two views")
    add("--inner-loss", type=float, default=0.3, help="share of the loss over phones")
    add("--splice", type=float, default=0.4, help="share of samples made of words of several utterances")
    add("--speed", type=float, default=0.16, help="speeds are between exp of minus this and exp of this")
    add("--average-decay", type=float, default=0.999)
    add("--report-seconds", type=float, default=10)
    add("--weights", default="speechocean762=1.5,ljspeech=0.8,asterisk-core-sounds-en=0.5,fsdd=0.1",
        help="how often utterances of a dataset are drawn; 1 for others")
    for size in dataclasses.fields(Sizes):
        if size.name != "plain":
            add("--" + size.name.replace("_", "-"), type=size.type, default=size.default)
    return parser.parse_args()


def statistics(speech: Speech):
    """Mean and standard deviation of each mel bin, as feature_statistics.ts has them."""
    sample = np.asarray(speech.features[::17], np.float32) / speech.feature_scale
    return sample.mean(0), np.maximum(0.5, sample.std(0))


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
        torch.backends.cudnn.enabled = False  # PyTorch's own depthwise convolutions do not plan for each shape
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.speech = Speech(options.data)
        if options.synthetic:
            self.speech.add_synthetic(options.synthetic, options.synthetic_text, options.synthetic_words)
        self.sizes = Sizes(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Sizes) if field.name != "plain"})
        weights = {name: float(weight) for name, weight in (pair.split("=") for pair in options.weights.split(",") if pair)}
        self.plain = multiprocessing.Value("i", int(options.plain > 0), lock=False)
        self.synthetic = multiprocessing.Value("d", options.synthetic_share[0], lock=False)
        self.augmented_from = 1.0 if options.plain > 0 else 0.0  # progress at which augmentation set in
        batches = Batches(
            self.speech, weights, int(options.batch_seconds * FRAMES_PER_SECOND), options.splice, options.speed,
            self.plain, self.synthetic, options.seed,
        )
        self.buckets = batches.buckets
        self.loader = iter(torch.utils.data.DataLoader(
            batches, batch_size=None, num_workers=options.workers,
            prefetch_factor=8 if options.workers else None, multiprocessing_context="fork" if options.workers else None,
        ))
        self.next_batch = next(self.loader)  # workers start before the device is touched
        mean, deviation = statistics(self.speech)
        self.mean = torch.from_numpy(mean).to(self.device)
        self.deviation = torch.from_numpy(deviation).to(self.device)
        make = lambda: LasrForCTC(self.sizes, self.speech.vocabulary, self.speech.phone_count).to(self.device)
        self.model, self.averaged = make(), make().eval()
        if options.initial:
            start_from(options.initial, self.model, self.mean, self.deviation)
        halves = self.device.type == "cuda" and options.precision == "bfloat16"
        self.weights = FlatWeights(self.model, torch.bfloat16 if halves else torch.float32, options.weight_decay)
        self.features = self.features_on_device()
        self.step = Step(
            self.model, self.weights, self.features, self.speech.feature_scale, self.mean, self.deviation, options.inner_loss,
            options.graphs == "on",
        )
        self.steps, self.audio_seconds = 0, 0.0
        gc.freeze()  # every capture collects garbage, and what is here by now is none
        count = sum(weight.numel() for weight in self.model.parameters())
        hours = len(self.features) / FRAMES_PER_SECOND / 3600
        print(f"{count / 1e6:.1f} million weights, {self.speech.count} utterances, {hours:.1f} hours, ready after "
            f"{time.monotonic() - started:.1f} s", flush=True)

    def features_on_device(self) -> torch.Tensor:
        files = self.speech.feature_files
        features = torch.empty((sum(map(len, files)), files[0].shape[1]), dtype=torch.int16, device=self.device)
        at = 0
        for values in files:
            features[at : at + len(values)] = torch.from_numpy(np.array(values)).to(self.device)
            at += len(values)
        return features

    def schedule(self, progress: float) -> torch.Tensor:
        strength = min(1.0, 0.25 + max(0.0, progress - self.augmented_from) / self.options.ramp)
        return Schedule.at_step(
            self.steps, self.options.average_decay, strength=strength, consistency=self.options.consistency * strength,
            learning_rate=cosine(progress, self.options.learning_rate, self.options.warm_up),
        ).tensor()

    @torch.no_grad()
    def held_out_error(self) -> float:
        """Character error rate of the averaged model, best path, on the held-out speakers."""
        self.weights.copy_average(self.averaged)
        errors = total = 0
        for batch in held_out_batches(self.speech, 60_000):
            frames = [int(self.speech.frames[index + 1] - self.speech.frames[index]) for index in batch]
            features = torch.zeros((len(batch), max(frames), self.features.shape[1]), device=self.device)
            for row, index in enumerate(batch):
                begin = int(self.speech.frames[index])
                features[row, : frames[row]] = self.features[begin : begin + frames[row]].float() / self.speech.feature_scale
            counts = torch.tensor(frames, device=self.device)
            features = augment(features, counts, self.mean, self.deviation, Augmentation(), None)
            best = self.averaged(features, hidden_length(counts))[0].argmax(-1).cpu().numpy()
            for row, index in enumerate(batch):
                path = best[row, : hidden_length(frames[row])]
                path = path[np.concatenate(([True], path[1:] != path[:-1]))]
                begin, end = self.speech.token_words[self.speech.words[index : index + 2]]
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
        told, heard, saved, bad = began, 0.0, began, 0
        while time.monotonic() < deadline:
            progress = (time.monotonic() - began) / (deadline - began)
            first, last = options.synthetic_share
            self.synthetic.value = first + (last - first) * min(1.0, progress / 0.8)
            number, packed = self.next_batch
            self.steps += 1
            self.step.run(number, self.buckets[number], packed, self.schedule(progress))
            self.audio_seconds += int(packed[:, -3].sum()) / FRAMES_PER_SECOND
            if self.plain.value and self.steps % 25 == 0 and progress >= options.plain:
                loss = float(self.step.statistics[0])
                if loss < options.plateau or progress >= 4 * options.plain:
                    self.plain.value, self.augmented_from = 0, progress
                    print(f"augmentation sets in at step {self.steps}, loss {loss:.2f}", flush=True)
            self.next_batch = next(self.loader)
            now = time.monotonic()
            if now - told >= options.report_seconds or self.steps in (1, 100):
                values = self.step.statistics.tolist()
                bad = 0 if math.isfinite(values[3]) else bad + 1
                if bad == 3:
                    sys.exit("the loss is not finite any more")
                self.report(values, progress, (self.audio_seconds - heard) / max(now - told, 1e-3))
                told, heard = time.monotonic(), self.audio_seconds
            if now - saved >= 40:
                self.save()
                saved = time.monotonic()
        print(f"held-out CER of the written model {100 * self.held_out_error():.2f} %, {self.steps} steps", flush=True)
        self.save()

    def report(self, values: list, progress: float, rate: float):
        loss, phones, agreement, norm = values
        memory = f"  {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB" if self.device.type == "cuda" else ""
        print(
            f"{time.monotonic() - self.started:6.1f} s  step {self.steps}  loss {loss:.3f}  phones {phones:.3f}  disagreement {agreement:.3f}"
            f"  gradient {norm:.2f}  rate {cosine(progress, self.options.learning_rate, self.options.warm_up):.2e}"
            f"  {rate:.0f} s of different audio/s{memory}  held-out CER {100 * self.held_out_error():.2f} %",
            flush=True,
        )

    def save(self):
        self.weights.copy_average(self.averaged)
        try:
            export(self.averaged, self.mean, self.deviation, self.speech.vocabulary, self.options.tokenizer, self.options.out)
        except ValueError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    begin = time.monotonic()
    trainer = Trainer(parse_arguments(), begin)
    trainer.run(reserve=3.0)
