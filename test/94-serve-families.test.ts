/** Models of other kinds than CTC behind the server: what it answers is what the recognizer gives. */
import { once } from "node:events";
import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { WebSocket } from "ws";
import { loadModel, Recognizer } from "../lib/index.js";
import type { Server } from "../lib/serve/server.js";
import { writeRandomModel } from "./random_model.js";
import { asDecoded, form, post, startServer, wav } from "./serving.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("serve-families");
test.after.always(folder.clean);
const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");

const encoder = {
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
  subsampling_conv_channels: 8,
  num_mel_bins: 80,
};
const families = {
  parakeet_tdt: {
    config: { model_type: "parakeet_tdt", vocab_size: 61, blank_token_id: 60, decoder_hidden_size: 16, encoder_config: encoder },
    preprocessor: { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 80 },
    generation: undefined,
    tokenizer: "tokenizer_metaspace.json",
    takesHotwords: true,
  },
  whisper: {
    config: {
      model_type: "whisper",
      vocab_size: 320,
      d_model: 32,
      encoder_layers: 1,
      encoder_attention_heads: 2,
      encoder_ffn_dim: 64,
      decoder_layers: 1,
      decoder_attention_heads: 2,
      decoder_ffn_dim: 64,
      max_source_positions: 50,
      max_target_positions: 16,
    },
    preprocessor: { feature_extractor_type: "WhisperFeatureExtractor", chunk_length: 1 },
    generation: { decoder_start_token_id: 310, eos_token_id: 300, no_timestamps_token_id: 311, is_multilingual: false },
    tokenizer: "tokenizer_byte_level.json",
    takesHotwords: false,
  },
} as const;

/** The transcript of a turn of live speech. */
async function spoken(server: Server, samples: Float32Array): Promise<string> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/realtime?intent=transcription`);
  const transcript = new Promise<string>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("message", (data: Buffer) => {
      const event = JSON.parse(data.toString("utf8")) as { type: string; transcript: string };
      if (event.type.endsWith("transcription.completed")) resolve(event.transcript);
      else if (event.type === "error" || event.type.endsWith(".failed")) reject(new Error(data.toString("utf8")));
    });
  });
  await once(socket, "open");
  const send = (event: object): void => socket.send(JSON.stringify(event));
  const input = { format: { type: "audio/pcm", rate: 16000 }, turn_detection: null };
  send({ type: "session.update", session: { type: "transcription", audio: { input } } });
  send({ type: "input_audio_buffer.append", audio: wav(samples).subarray(44).toString("base64") });
  send({ type: "input_audio_buffer.commit" });
  try {
    return await transcript;
  } finally {
    socket.close();
  }
}

for (const [family, { config, preprocessor, generation, tokenizer, takesHotwords }] of Object.entries(families)) {
  test(`${family} behind the server`, async (t) => {
    const model = writeRandomModel(join(folder.path, family), config, preprocessor, { seed: 3, ...(generation ? { generation } : {}) });
    copyFileSync(join(fixtures, tokenizer), join(model, "tokenizer.json"));
    const recognizer = new Recognizer(loadModel(model));
    const clips = [tones(1.2, 1), tones(2.3, 2), tones(0.6, 3)];
    const server = await startServer(model, { spoolFolder: folder.path });
    try {
      const answers = await Promise.all(
        clips.map(
          async (clip) =>
            (await (
              await post(
                server,
                form(wav(clip), [
                  ["model", "tiny"],
                  ["response_format", "verbose_json"],
                  ["timestamp_granularities[]", "word"],
                ]),
              )
            ).json()) as { text: string; words: { word: string; start: number }[] },
        ),
      );
      const expected = clips.map((clip) => recognizer.transcribe(asDecoded(clip)));
      t.true(expected.some(({ text }) => text.length > 0));
      t.deepEqual(
        answers.map(({ text }) => text),
        expected.map(({ text }) => text),
      );
      t.deepEqual(
        answers.map(({ words }) => words.map(({ start }) => start)),
        expected.map(({ words }) => words.map(({ start }) => start)),
      );
      const refused = await post(
        server,
        form(wav(clips[0] as Float32Array), [
          ["model", "tiny"],
          ["keywords[]", "a phrase"],
        ]),
      );
      t.is(refused.status, takesHotwords ? 200 : 400);
      t.is(await spoken(server, clips[1] as Float32Array), (expected[1] as (typeof expected)[0]).text, "live");
      t.is((await post(server, form(wav(clips[0] as Float32Array)))).status, 200, "the server goes on");
    } finally {
      await server.close();
    }
  });
}
