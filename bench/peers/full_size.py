"""Peer of full_size.ts: transformers on a checkpoint of its own layout, float32 on the CPU, 30 s of recorded features through the encoder.

usage: full_size.py THREADS MODEL_FOLDER FEATURES (safetensors with input_features, as the family's model takes them)
Prints one line of JSON: seconds to load, median seconds of three passes of the encoder, peak resident bytes.
"""
import json
import resource
import statistics
import sys
import time

import torch
import transformers
from safetensors.torch import load_file

threads, folder, recorded = sys.argv[1:]
torch.set_num_threads(int(threads))
classes = {
    "parakeet_tdt": "ParakeetForTDT",
    "wav2vec2-bert": "Wav2Vec2BertForCTC",
    "whisper": "WhisperForConditionalGeneration",
    "cohere_asr": "CohereAsrForConditionalGeneration",
}


def seconds(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


config = transformers.AutoConfig.from_pretrained(folder)
load, model = seconds(
    lambda: getattr(transformers, classes[config.model_type]).from_pretrained(folder, config=config, dtype=torch.float32).eval()
)
features = load_file(recorded)["input_features"]
if config.model_type == "wav2vec2-bert":
    encoder = model.wav2vec2_bert  # from features to what the head is given
else:
    encoder = model.get_encoder() if hasattr(model, "get_encoder") else model.encoder
with torch.inference_mode():
    passes = [seconds(lambda: encoder(features))[0] for _ in range(3)]
print(
    json.dumps(
        {
            "impl": f"transformers {transformers.__version__}, PyTorch {torch.__version__}, float32",
            "loadSeconds": round(load, 3),
            "encoderSeconds": round(statistics.median(passes), 3),
            "encoderRtfx": round(30 / statistics.median(passes), 2),
            "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )
)
