"""
Speech from text, for training: Flite (four voices) and eSpeak NG (its variants of English), called through ctypes.

usage: synthesize.py --text FILE (--features FOLDER | --audio FOLDER) [--libraries FOLDER] [--espeak-data FOLDER]
         [--seconds N] [--processes N]

FILE has a sentence a line, in any case, without punctuation. With --features, for pretrain.py, FOLDER gets, from each process
p, p.features (frames, 128; int16, 1024 times the natural logarithm of mel power, as data.js writes it) and p.lines: for each
utterance, its line in FILE (from 0), its voice and its frames. With --audio, for `usm-lite train`, it gets WAV files of 16 kHz
and their manifest p.jsonl. It ends after --seconds, or when every sentence was spoken twice.

Each utterance has a voice, a pace and a loudness of its own, silence around it, a noise floor and, in part, a room.
"""
import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import time
import wave

import numpy as np

RATE, WINDOW, HOP, POINTS, BINS = 16000, 400, 160, 512, 128
FLITE_VOICES = ("awb", "kal16", "rms", "slt")
ESPEAK_LANGUAGES = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
ESPEAK_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3",
    "klatt4", "Annie", "Alicia", "Andrea", "Andy", "Gene", "Jacky", "Lee", "Mario", "Michael", "anika", "aunty", "belinda",
    "benjamin", "boris", "caleb", "david", "grandma", "linda", "max", "paul", "rob", "steph", "travis", "victor", "zac")


class Wave(ctypes.Structure):
    _fields_ = [("type", ctypes.c_char_p), ("sample_rate", ctypes.c_int), ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int), ("samples", ctypes.POINTER(ctypes.c_short))]


class Voice(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


class Flite:
    def __init__(self, folder: str):
        load = lambda name: ctypes.CDLL(os.path.join(folder, name), ctypes.RTLD_GLOBAL) if folder else ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        self.library = load("libflite.so.1")
        load("libflite_usenglish.so.1"), load("libflite_cmulex.so.1")
        self.library.flite_init()
        self.library.flite_text_to_wave.restype = ctypes.POINTER(Wave)
        self.library.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self.voices = []
        for name in FLITE_VOICES:
            register = getattr(load(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
            register.restype = ctypes.POINTER(Voice)
            self.voices.append(register(None))

    def speak(self, text: str, voice: int, random) -> np.ndarray:
        handle = self.voices[voice]
        self.library.feat_set_float(handle.contents.features, b"duration_stretch", random.uniform(0.85, 1.5))
        wave = self.library.flite_text_to_wave(text.encode(), handle)
        samples = np.ctypeslib.as_array(wave.contents.samples, (wave.contents.num_samples,)).astype(np.float32)
        rate = wave.contents.sample_rate
        self.library.delete_wave(wave)
        return resample(samples, rate)


class Espeak:
    RATE, PITCH, PITCH_RANGE, WORD_GAP = 1, 3, 4, 7  # espeak_PARAMETER
    SYNCHRONOUS, CHARACTERS_UTF8 = 2, 1

    def __init__(self, folder: str, data: str):
        load = lambda name: ctypes.CDLL(os.path.join(folder, name), ctypes.RTLD_GLOBAL) if folder else ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        if folder:
            load("libpcaudio.so.0"), load("libsonic.so.0")
        self.library = load("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(self.SYNCHRONOUS, 0, data.encode() if data else None, 0)
        if self.rate <= 0:
            raise RuntimeError("eSpeak NG has no data")
        self.pieces = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

        def keep(samples, count, _):
            if count > 0:
                self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self.callback = kind(keep)  # must outlive the library's use of it
        self.library.espeak_SetSynthCallback(self.callback)

    def speak(self, text: str, random) -> np.ndarray:
        name = f"{random.choice(ESPEAK_LANGUAGES)}+{random.choice(ESPEAK_VARIANTS)}"
        if self.library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {name}")
        for parameter, value in ((self.RATE, random.integers(110, 190)), (self.PITCH, random.integers(30, 85)),
                (self.PITCH_RANGE, random.integers(20, 80)), (self.WORD_GAP, random.integers(0, 8))):
            self.library.espeak_SetParameter(parameter, int(value), 0)
        self.pieces.clear()
        bytes = text.encode()
        self.library.espeak_Synth(bytes, len(bytes) + 1, 0, 0, 0, self.CHARACTERS_UTF8, None, None)
        samples = np.concatenate(self.pieces).astype(np.float32) if self.pieces else np.zeros(0, np.float32)
        return resample(samples, self.rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """To 16 kHz, through the spectrum: utterances are seconds long."""
    if rate == RATE or len(samples) == 0:
        return samples
    wanted = int(len(samples) * RATE / rate)
    spectrum = np.fft.rfft(samples)
    kept = wanted // 2 + 1
    spectrum = np.pad(spectrum[:kept], (0, max(0, kept - len(spectrum))))
    return (np.fft.irfft(spectrum, wanted) * (wanted / len(samples))).astype(np.float32)


def mel_filters() -> np.ndarray:
    """(257, 128), as transformers' LasrFeatureExtractor has them: without the DC bin, 125 to 7500 Hz, HTK's mel."""
    mel = lambda hertz: 1127.0 * np.log1p(hertz / 700.0)
    edges = np.linspace(mel(125.0), mel(7500.0), BINS + 2)
    bins = mel(np.arange(1, POINTS // 2 + 1) * RATE / POINTS)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.pad(np.maximum(0, np.minimum(rise, fall)), ((1, 0), (0, 0)))


FILTERS = mel_filters()


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(frames, 128) natural logarithms of samples at full scale 1, as lib/audio/log_mel.ts has them."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), POINTS)) ** 2
    return np.log(np.maximum(power @ FILTERS, 1e-5))


def record(samples: np.ndarray, random) -> np.ndarray:
    """As a microphone in a room would hear it; full scale 1."""
    samples = np.concatenate((np.zeros(int(random.uniform(0.05, 0.6) * RATE)), samples, np.zeros(int(random.uniform(0.1, 0.6) * RATE))))
    if random.random() < 0.5:
        decay = random.uniform(0.05, 0.3)  # seconds in which the sound of the room falls by 60 dB
        count = int(decay * RATE)
        room = random.standard_normal(count) * np.exp(-6.9 * np.arange(count) / count) * random.uniform(0.02, 0.12)
        room[0] = 1.0
        length = 1 << (len(samples) + count).bit_length()
        samples = np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(room, length), length)[: len(samples)]
    level = np.sqrt((samples**2).mean() + 1e-12)
    samples = samples * (10 ** (random.uniform(-34, -16) / 20) / level)
    return samples + random.standard_normal(len(samples)) * 10 ** (random.uniform(-80, -50) / 20)


class FeatureWriter:
    """What training/pytorch/pretrain.py reads."""

    def __init__(self, folder: str, process: int):
        base = os.path.join(folder, str(process))
        self.features, self.lines = open(base + ".features", "wb"), open(base + ".lines", "w")

    def write(self, samples: np.ndarray, line: int, text: str, voice: str):
        values = np.round(log_mel(samples) * 1024).astype(np.int16)
        self.features.write(values.tobytes())
        self.lines.write(f"{line} {voice} {len(values)}\n")

    def close(self):
        self.features.close(), self.lines.close()


class AudioWriter:
    """What `usm-lite train` reads: a WAV file for each utterance, and a manifest."""

    def __init__(self, folder: str, process: int):
        self.folder, self.process, self.count = folder, process, 0
        self.manifest = open(os.path.join(folder, f"{process}.jsonl"), "w")

    def write(self, samples: np.ndarray, line: int, text: str, voice: str):
        name = f"{self.process}-{self.count}.wav"
        self.count += 1
        with wave.open(os.path.join(self.folder, name), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
            file.writeframes(np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes())
        entry = {"audio_filepath": name, "duration": len(samples) / RATE, "text": text.upper(), "speaker": f"synthetic/{voice}", "dataset": "synthetic"}
        self.manifest.write(json.dumps(entry) + "\n")

    def close(self):
        self.manifest.close()


def work(options, process: int, deadline: float):
    random = np.random.default_rng((options.seed, process))
    with open(options.text) as file:
        sentences = file.read().splitlines()
    flite, espeak = Flite(options.libraries), Espeak(options.libraries, options.espeak_data)
    writer = AudioWriter(options.audio, process) if options.audio else FeatureWriter(options.features, process)
    with contextlib.closing(writer):
        for round in range(2):
            for line in range((process + 7 * round) % options.processes, len(sentences), options.processes):
                if time.monotonic() > deadline:
                    return
                text = sentences[line].lower()
                voice = int(random.integers(len(FLITE_VOICES))) if random.random() < options.flite_share else -1
                samples = flite.speak(text, voice, random) if voice >= 0 else espeak.speak(text, random)
                if not 0.3 * RATE < len(samples) < 12 * RATE or np.abs(samples).max() < 1:
                    continue
                writer.write(record(samples, random), line, text, FLITE_VOICES[voice] if voice >= 0 else "espeak")


def main():
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--features")
    parser.add_argument("--audio")
    parser.add_argument("--libraries", default="", help="folder of libflite*.so.1, libespeak-ng.so.1 and what they need")
    parser.add_argument("--espeak-data", default="", help="folder with espeak-ng-data")
    parser.add_argument("--flite-share", type=float, default=0.6)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if (options.features is None) == (options.audio is None):
        parser.error("one of --features and --audio says what to write")
    os.makedirs(options.features or options.audio, exist_ok=True)
    workers = [
        multiprocessing.get_context("spawn").Process(target=work, args=(options, process, started + options.seconds))
        for process in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{time.monotonic() - started:.0f} s; exits {[worker.exitcode for worker in workers]}")


if __name__ == "__main__":
    main()
