"""Speech from training/pytorch/data.js and synthesize.py, and batches of it that worker processes put together."""
import json
import lzma
import os
import struct
from dataclasses import dataclass

import numpy as np
import torch

from model import hidden_length

DTYPES = {"I16": np.int16, "I32": np.int32}
FRAMES_PER_SECOND = 100
SYNTHETIC = "synthetic"


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
        self.feature_files = [self.features]

    @property
    def count(self) -> int:
        return len(self.dataset)

    def add_synthetic(self, folder: str, text: str, words: str):
        """
        What synthesize.py wrote to `folder` from the file `text`. `words` (JSON) has tokens and phones of each word; both may be
        compressed with xz. Nothing is known of where words begin.
        """
        read = lambda path: (lzma.open if path.endswith(".xz") else open)(path, "rt").read()
        spelled, sentences = json.loads(read(words)), [line.split(" ") for line in read(text).splitlines()]
        counts, lengths, symbols = [], [], {"tokens": [], "phones": []}
        for name in sorted(name for name in os.listdir(folder) if name.endswith(".lines")):
            with open(os.path.join(folder, name)) as file:
                utterances = [(int(line), int(frames)) for line, _, frames in (row.split() for row in file.read().splitlines())]
            if not utterances:
                continue
            total = sum(frames for _, frames in utterances)
            path = os.path.join(folder, name.replace(".lines", ".features"))
            self.feature_files.append(np.memmap(path, np.int16, "r").reshape(-1, self.features.shape[1])[:total])
            for line, frames in utterances:
                lengths.append(frames)
                counts.append(len(sentences[line]))
                for word in sentences[line]:
                    symbols["tokens"].append(spelled[word][0])
                    symbols["phones"].append(spelled[word][1])
        after = lambda begins, more: np.concatenate((begins, begins[-1] + np.cumsum(more))).astype(np.int64)
        self.frames, self.words = after(self.frames, lengths), after(self.words, counts)
        self.word_frames = np.concatenate((self.word_frames, np.full(sum(counts), -1, np.int32)))
        for kind, begins in (("tokens", "token_words"), ("phones", "phone_words")):
            flat = np.array([symbol for word in symbols[kind] for symbol in word], np.int32)
            setattr(self, kind, np.concatenate((getattr(self, kind), flat)))
            setattr(self, begins, after(getattr(self, begins), [len(word) for word in symbols[kind]]))
        new = len(lengths)
        self.dataset = np.concatenate((self.dataset, np.full(new, len(self.datasets), np.int32)))
        self.datasets.append(SYNTHETIC)
        self.speaker = np.concatenate((self.speaker, np.full(new, -1, np.int32)))
        self.held_out = np.concatenate((self.held_out, np.zeros(new, np.int32)))

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

    def symbols(self, symbols: np.ndarray, begins: np.ndarray) -> np.ndarray:
        return np.concatenate([symbols[begins[word] : begins[word + 1]] for word in self.words])

    def count(self, begins: np.ndarray) -> int:
        return int(sum(begins[word + 1] - begins[word] for word in self.words))


@dataclass
class Bucket:
    """The fixed shape of a batch: sequences of up to so many frames and labels. Batches of one shape replay one CUDA graph."""

    frames: int
    sequences: int
    plain: bool

    @property
    def labels(self) -> int:
        return max(8, self.frames // 5)  # 20 a second: nobody spells faster

    @property
    def width(self) -> int:
        return 2 * self.frames + 2 * self.labels + 3

    def pack(self, speech: Speech, batch: list) -> torch.Tensor:
        """int32 (sequences, width): where frames lie (first, share between it and the next), tokens, phones, the three lengths."""
        packed = np.zeros((self.sequences, self.width), np.int32)
        shares = packed[:, self.frames : 2 * self.frames].view(np.float32)
        tokens = packed[:, 2 * self.frames : 2 * self.frames + self.labels]
        phones = packed[:, 2 * self.frames + self.labels : -3]
        for row, pieces in enumerate(batch):
            positions = pieces.positions()
            first = np.floor(positions)
            packed[row, : pieces.frames] = first
            shares[row, : pieces.frames] = positions - first
            spelled, sounds = pieces.symbols(speech.tokens, speech.token_words), pieces.symbols(speech.phones, speech.phone_words)
            tokens[row, : len(spelled)], phones[row, : len(sounds)] = spelled, sounds
            packed[row, -3:] = pieces.frames, len(spelled), len(sounds)
        return torch.from_numpy(packed)

    def unpack(self, packed: torch.Tensor):
        """(first, share, tokens, phones, frames, token counts, phone counts) of what `pack` made, on any device."""
        frames, labels = self.frames, self.labels
        first, shares, tokens, phones, lengths = packed.split((frames, frames, labels, labels, 3), 1)
        counts = lengths.long()
        return first.long(), shares.contiguous().view(torch.float32), tokens.long(), phones.long(), *counts.unbind(1)


class Batches(torch.utils.data.IterableDataset):
    """
    Endless random batches (number of the bucket, packed batch), of about `batch_frames` frames each.
    plain: shared value; while it is not 0, sequences are a few words at their own speed, on which a model starts to learn.
    synthetic: shared value, share of samples that are synthesized.
    weights: how often utterances of each dataset are drawn, relative to each other.
    splice: share of real samples that join words of several utterances of one speaker, so that no sentence is learned by heart.
    """

    PLAIN_FRAMES = (70, 110, 160, 220, 300, 420)
    FRAMES = (180, 250, 320, 400, 480, 580, 700, 900, 1200, 1700)

    def __init__(self, speech: Speech, weights: dict, batch_frames: int, splice: float, speed: float, plain, synthetic, seed: int):
        super().__init__()
        self.speech, self.splice, self.speed = speech, splice, speed
        self.plain, self.synthetic, self.seed = plain, synthetic, seed
        self.buckets = [
            Bucket(frames, max(1, batch_frames // frames), kind)
            for kind, all_frames in ((True, self.PLAIN_FRAMES), (False, self.FRAMES)) for frames in all_frames
        ]
        made = np.array([name == SYNTHETIC for name in speech.datasets])[speech.dataset]
        self.made = np.flatnonzero(made)
        train = np.flatnonzero((speech.held_out == 0) & ~made)
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
        waiting = [[] for _ in self.buckets]
        while True:
            plain = self.plain.value != 0
            pieces = self.sample(random, plain)
            number = self.bucket_of(pieces, plain)
            if number is None:
                continue
            waiting[number].append(pieces)
            if len(waiting[number]) == self.buckets[number].sequences:
                yield number, self.buckets[number].pack(self.speech, waiting[number])
                waiting[number] = []

    def bucket_of(self, pieces: Pieces, plain: bool):
        """Number of the narrowest bucket that holds a sample; None for one that cannot be learned from."""
        labels = max(pieces.count(self.speech.token_words), pieces.count(self.speech.phone_words))
        if hidden_length(pieces.frames) < 2 or labels > hidden_length(pieces.frames):
            return None
        for number, bucket in enumerate(self.buckets):
            if bucket.plain == plain and pieces.frames <= bucket.frames and labels <= bucket.labels:
                return number
        return None

    def sample(self, random, plain: bool) -> Pieces:
        speech = self.speech
        speed = 1.0 if plain else float(np.exp(random.uniform(-self.speed, self.speed)))
        if not plain and len(self.made) and random.random() < self.synthetic.value:
            return self.whole(int(self.made[random.integers(len(self.made))]), speed)
        utterance = int(self.train[np.searchsorted(self.chance, random.random())])
        if utterance in self.aligned and plain:
            return self.words_of(random, utterance, 1 + int(random.integers(4)), speed)
        if utterance not in self.aligned or random.random() >= self.splice:
            return self.whole(utterance, speed)
        same = self.by_speaker[speech.speaker[utterance]]
        wanted = FRAMES_PER_SECOND * random.uniform(1.5, 8.0)
        pieces = Pieces([], [], speed)
        while pieces.frames < wanted:
            more = self.words_of(random, same[random.integers(len(same))], 1 + int(random.integers(7)), speed)
            pieces = Pieces(pieces.spans + more.spans, pieces.words + more.words, speed)
        return pieces

    def whole(self, utterance: int, speed: float) -> Pieces:
        speech = self.speech
        return Pieces([(int(speech.frames[utterance]), int(speech.frames[utterance + 1]))], list(speech.word_range(utterance)), speed)

    def words_of(self, random, utterance: int, count: int, speed: float) -> Pieces:
        words = self.speech.word_range(utterance)
        count = min(count, len(words))
        first = words.start + int(random.integers(len(words) - count + 1))
        span = (self.speech.word_begin(utterance, first), self.speech.word_begin(utterance, first + count))
        return Pieces([span], list(range(first, first + count)), speed)


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
