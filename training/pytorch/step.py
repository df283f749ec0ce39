"""A training step: batch to loss to weights, on the device from end to end, replayed as one CUDA graph for each shape."""
import torch
import torch.nn.functional as F

from augment import Augmentation, augment
from ctc import ctc_losses
from data import Bucket
from model import LasrForCTC, hidden_length, real_frames
from optimizer import FlatWeights

IN_FLIGHT = 6  # steps that the device may be behind


def disagreement(log_probabilities, real):
    """Sum over frames of the divergence between two views, either way, without a gradient through the one followed."""
    first, second = (log_probabilities * real).chunk(2)  # the views have equal lengths, one after the other
    divergence = lambda follower, leader: F.kl_div(follower, leader.detach(), log_target=True, reduction="none")
    both = divergence(first, second) + divergence(second, first)
    return 0.5 * (both.sum(-1, keepdim=True) * real.chunk(2)[0]).sum()


class Step:
    """
    features (frames, mel bins) of all speech, int16 on the device, `scale` to the nat; mean and deviation of each bin.
    `statistics` holds, after a step: loss per token, inner loss per phone, disagreement per token, norm of the gradient.
    """

    def __init__(self, model: LasrForCTC, weights: FlatWeights, features, scale: float, mean, deviation, inner_loss: float, graphs: bool):
        self.model, self.weights, self.features, self.scale = model, weights, features, scale
        self.mean, self.deviation, self.inner_loss, self.graphs = mean, deviation, inner_loss, graphs
        self.augmentation = Augmentation()
        self.device = features.device
        self.schedule = torch.zeros(6, device=self.device)
        self.statistics = torch.zeros(4, device=self.device)
        self.inputs, self.captured = {}, {}
        self.count = 0
        if self.device.type == "cuda":
            self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            self.staging, self.events = [None] * IN_FLIGHT, [None] * IN_FLIGHT

    def run(self, number: int, bucket: Bucket, packed: torch.Tensor, schedule: torch.Tensor):
        if number not in self.inputs:
            self.inputs[number] = torch.zeros_like(packed, device=self.device)
        if self.device.type != "cuda":
            self.inputs[number].copy_(packed)
            self.schedule.copy_(schedule)
            return self.compute(bucket, self.inputs[number])
        self.send(packed, schedule, self.inputs[number])
        if number in self.captured:
            self.captured[number].replay()
        else:
            self.first_of_shape(number, bucket)
        self.events[self.count % IN_FLIGHT].record()
        self.count += 1

    def send(self, packed, schedule, target):
        """To the device from pinned memory, once the step that last used that memory is over."""
        slot = self.count % IN_FLIGHT
        if self.events[slot] is None:
            self.events[slot] = torch.cuda.Event()
        else:
            self.events[slot].synchronize()
        if self.staging[slot] is None or self.staging[slot][0].numel() < packed.numel():
            self.staging[slot] = (torch.empty(packed.numel(), dtype=torch.int32, pin_memory=True), torch.empty(6, pin_memory=True))
        pinned = self.staging[slot][0][: packed.numel()].view(packed.shape)
        pinned.copy_(packed)
        self.staging[slot][1].copy_(schedule)
        target.copy_(pinned, non_blocking=True)
        self.schedule.copy_(self.staging[slot][1], non_blocking=True)

    def first_of_shape(self, number: int, bucket: Bucket):
        """The step as it is, on a stream of its own as capturing wants it; then it is captured for the steps to come."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.compute(bucket, self.inputs[number])
        torch.cuda.current_stream().wait_stream(self.stream)
        if not self.graphs:
            return
        try:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                self.compute(bucket, self.inputs[number])
            self.captured[number] = graph
        except Exception as error:
            self.graphs = False
            print(f"steps are not captured any more, and slow: {type(error).__name__}: {error}", flush=True)

    def gather(self, first, share):
        """Log-mel features (sequences, frames, bins): between two frames where the speed is not 1."""
        last = self.features.shape[0] - 1
        low, high = self.features[first].float(), self.features[(first + 1).clamp(max=last)].float()
        return torch.lerp(low, high, share[:, :, None]) / self.scale

    def compute(self, bucket: Bucket, packed: torch.Tensor):
        """Nothing in here depends on values on the device or allocates beyond the graph's own memory."""
        strength, consistency = self.schedule[4], self.schedule[5]
        views = 1 if bucket.plain else 2
        self.model.sizes.plain = bucket.plain
        first, share, *symbols = bucket.unpack(packed)
        features = self.gather(first, share).repeat(views, 1, 1)
        tokens, phones, frames, token_counts, phone_counts = (
            part.repeat(views, *[1] * (part.dim() - 1)) for part in symbols
        )
        with torch.no_grad():
            strength = None if bucket.plain else strength
            features = augment(features, frames, self.mean, self.deviation, self.augmentation, strength)
        lengths = hidden_length(frames).clamp(min=1)
        log_probabilities, inner, real = self.model(features, lengths)
        outer_loss, inner_loss = ctc_losses(
            [(log_probabilities, tokens, token_counts), (inner, phones, phone_counts)], lengths
        ).sum(1).unbind()
        count = token_counts.sum()
        loss = (1 - self.inner_loss) * outer_loss + self.inner_loss * inner_loss
        agreement = torch.zeros((), device=self.device)
        if views == 2:
            agreement = disagreement(log_probabilities, real)
            loss = loss + consistency * agreement
        norm = self.weights.step(self.weights.gradient(loss / count), self.schedule)
        self.statistics.copy_(torch.stack([
            outer_loss.detach() / count, inner_loss.detach() / phone_counts.sum(), agreement.detach() / count, norm,
        ]))
