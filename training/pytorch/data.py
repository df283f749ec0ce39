"""Speech from training/pytorch/data.js, and batches of it that worker processes put together."""
import json
import struct
from dataclasses import dataclass

import numpy as np
import torch

from model import hidden_length

DTYPES = {"I16": np.int16, "I32": np.int32}
FRAMES_PER_SECOND = 100


class Speech:
    """Utterances with their words. Tensors are described in data.js."""

    def __init__(self, path: str):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        self.feature_scale = float(metadata["feature_scale"])
        self.vocabulary = int(metadata["vocabulary"])
        self.phone_count = int(metadata["phones"])
        self.datasets = metadata["datasets"].split(",")
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = np.dtype(DTYPES[entry["dtype"]])
            array = np.memmap(path, dtype, "r", 8 + length + begin, ((end - begin) // dtype.itemsize,))
            setattr(self, name, array.reshape(entry["shape"]) if name == "features" else np.array(array))
        self.count = len(self.dataset)

    def word_range(self, utterance: int) -> range:
        return range(self.words[utterance], self.words[utterance + 1])

    def word_begin(self, utterance: int, word: int) -> int:
        """Frame at which a word begins; the utterance's end for the word after its last."""
        return int(self.frames[utterance + 1] if word == self.words[utterance + 1] else self.frames[utterance] + self.word_frames[word])


@dataclass
class Pieces:
    """An utterance, or words of several one after another, to be heard at some speed."""

    spans: list  # (first frame, end frame) in all features
    words: list  # indices of words
    speed: float

    def __post_init__(self):
        self.span_frames = [max(1, int((end - begin) / self.speed)) for begin, end in self.spans]
        self.frames = sum(self.span_frames)

    def positions(self) -> np.ndarray:
        """Where each frame lies in all features, between two frames as a rule."""
        return np.concatenate(
            [begin + np.arange(frames) * self.speed for (begin, _), frames in zip(self.spans, self.span_frames)]
        )


class Batches(torch.utils.data.IterableDataset):
    """
    Endless random batches of about `batch_frames` frames, padding included.
    plain: shared value; while it is not 0, sequences are a few words at their own speed, on which a model starts to learn.
    weights: how often utterances of each dataset are drawn, relative to each other.
    splice: share of samples that join words of several utterances of one speaker, so that no sentence is learned by heart.
    """

    def __init__(self, speech: Speech, weights: dict, batch_frames: int, splice: float, speed: float, plain, seed: int):
        super().__init__()
        self.speech, self.batch_frames, self.splice, self.speed = speech, batch_frames, splice, speed
        self.plain, self.seed = plain, seed
        train = np.flatnonzero(speech.held_out == 0)
        chance = np.array([weights.get(speech.datasets[speech.dataset[index]], 1.0) for index in train])
        self.train, self.chance = train, np.cumsum(chance) / chance.sum()
        aligned = [index for index in train if all(speech.word_frames[word] >= 0 for word in speech.word_range(index))]
        self.by_speaker = {}
        for index in aligned:
            self.by_speaker.setdefault(speech.speaker[index], []).append(index)
        self.aligned = set(aligned)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        random = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            plain = self.plain.value != 0
            pool, frames = [], 0
            while frames < 10 * self.batch_frames:
                pieces = self.sample(random, plain)
                if hidden_length(pieces.frames) >= 2:
                    pool.append(pieces)
                    frames += pieces.frames
            pool.sort(key=lambda pieces: pieces.frames)
            batches, batch = [], []
            for pieces in pool:
                if batch and (len(batch) + 1) * pieces.frames > self.batch_frames:
                    batches.append(batch)
                    batch = []
                batch.append(pieces)
            # What is left over at the end are the longest: a batch too.
            for index in random.permutation(len(batches) + 1):
                yield self.collate((batches + [batch])[index], plain)

    def draw(self, random) -> int:
        return int(self.train[np.searchsorted(self.chance, random.random())])

    def sample(self, random, plain: bool) -> Pieces:
        speech, utterance = self.speech, self.draw(random)
        speed = 1.0 if plain else float(np.exp(random.uniform(-self.speed, self.speed)))
        if utterance in self.aligned and plain:
            return self.words_of(random, utterance, 1 + int(random.integers(4)), speed)
        if utterance not in self.aligned or random.random() >= self.splice:
            return Pieces([(int(speech.frames[utterance]), int(speech.frames[utterance + 1]))], list(speech.word_range(utterance)), speed)
        same = self.by_speaker[speech.speaker[utterance]]
        wanted = FRAMES_PER_SECOND * random.uniform(1.5, 8.0)
        pieces = Pieces([], [], speed)
        while pieces.frames < wanted:
            more = self.words_of(random, same[random.integers(len(same))], 1 + int(random.integers(7)), speed)
            pieces = Pieces(pieces.spans + more.spans, pieces.words + more.words, speed)
        return pieces

    def words_of(self, random, utterance: int, count: int, speed: float) -> Pieces:
        words = self.speech.word_range(utterance)
        count = min(count, len(words))
        first = words.start + int(random.integers(len(words) - count + 1))
        span = (self.speech.word_begin(utterance, first), self.speech.word_begin(utterance, first + count))
        return Pieces([span], list(range(first, first + count)), speed)

    def collate(self, batch: list, plain: bool) -> dict:
        frames = [pieces.frames for pieces in batch]
        positions = np.zeros((len(batch), max(frames)), np.float64)
        for row, pieces in enumerate(batch):
            positions[row, : frames[row]] = pieces.positions()
        first = np.floor(positions)
        return {
            "first": torch.from_numpy(first.astype(np.int32)),
            "share": torch.from_numpy((positions - first).astype(np.float32)),
            "frames": frames,
            "lengths": torch.tensor(frames),
            "plain": plain,
            "tokens": self.targets(batch, self.speech.tokens, self.speech.token_words),
            "phones": self.targets(batch, self.speech.phones, self.speech.phone_words),
        }

    @staticmethod
    def targets(batch: list, symbols: np.ndarray, begins: np.ndarray):
        rows = [np.concatenate([symbols[begins[word] : begins[word + 1]] for word in pieces.words]) for pieces in batch]
        return torch.from_numpy(np.concatenate(rows).astype(np.int64)), [len(row) for row in rows]


def held_out_batches(speech: Speech, batch_frames: int):
    """Whole utterances of the held-out speakers, as lists of their numbers, similar lengths together."""
    batch = []
    for utterance in sorted(np.flatnonzero(speech.held_out == 1), key=lambda index: speech.frames[index + 1] - speech.frames[index]):
        if batch and (len(batch) + 1) * (speech.frames[utterance + 1] - speech.frames[utterance]) > batch_frames:
            yield batch
            batch = []
        batch.append(int(utterance))
    if batch:
        yield batch
