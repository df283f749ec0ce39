import test from "ava";
import { formatTranscript, type Transcript } from "../lib/index.js";
import { segmentWords, type TranscriptFormat } from "../lib/text/transcript_formats.js";

/** Words of 0.3 s with 0.1 s between them; "|" is a silence of 2 s. */
function transcriptOf(text: string, begin = 0): Transcript {
  const words = [];
  let time = begin;
  for (const word of text.split(" ")) {
    if (word === "|") time += 2;
    else words.push({ word, start: time, end: (time += 0.3), confidence: 0.5 });
    time = Math.round((time + 0.1) * 1000) / 1000;
  }
  return { text: words.map(({ word }) => word).join(" "), words, duration: time };
}

test("text and json hold the text", (t) => {
  const transcript = transcriptOf('HELLO | "WORLD"');
  t.is(formatTranscript(transcript, "text"), 'HELLO "WORLD"\n');
  t.is(formatTranscript(transcript, "json"), '{"text":"HELLO \\"WORLD\\""}');
  t.throws(() => formatTranscript(transcript, "xml" as TranscriptFormat), {
    code: "INVALID_ARGUMENT",
    message: /choose text, json/,
  });
});

test("srt numbers its cues and vtt has a header and escapes", (t) => {
  const transcript = transcriptOf("A <B> | C & D", 3599.9);
  t.is(formatTranscript(transcript, "srt"), "1\n00:59:59,900 --> 01:00:00,600\nA <B>\n\n2\n01:00:02,800 --> 01:00:03,900\nC & D\n");
  t.is(
    formatTranscript(transcript, "vtt"),
    "WEBVTT\n\n00:59:59.900 --> 01:00:00.600\nA &lt;B&gt;\n\n01:00:02.800 --> 01:00:03.900\nC &amp; D\n",
  );
  const empty = { text: "", words: [], duration: 1 };
  t.is(formatTranscript(empty, "srt"), "");
  t.is(formatTranscript(empty, "vtt"), "WEBVTT\n");
});

test("segments end at pauses, at seven seconds and when two lines of 42 characters are full", (t) => {
  const long = transcriptOf(Array.from({ length: 60 }, (_, i) => "ABCDEFGHIJKLM".slice(0, 2 + (i % 11))).join(" ")).words;
  const segments = segmentWords(long);
  t.true(segments.length > 5);
  t.deepEqual(
    segments.flatMap(({ words }) => words),
    long,
  );
  for (const { lines, words, start, end } of segments) {
    t.true(lines.length <= 2 && lines.every((line) => line.length <= 42), lines.join("/"));
    t.is(lines.join(" "), words.map(({ word }) => word).join(" "));
    t.true(end - start <= 7 && end > start);
  }
  t.deepEqual(
    segmentWords(transcriptOf("A B | C D").words).map(({ lines }) => lines),
    [["A B"], ["C D"]],
  );
  t.is(segmentWords(transcriptOf("A B | C D").words, { pause: 3 }).length, 1);
  t.is(segmentWords(transcriptOf("A B C D").words, { maximumSeconds: 1 }).length, 2);
  const huge = "X".repeat(90);
  t.deepEqual(
    segmentWords(transcriptOf(`A ${huge} B`).words).map(({ lines }) => lines),
    [["A", huge], ["B"]],
  );
});

test("two lines are balanced", (t) => {
  const [segment] = segmentWords(transcriptOf("THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AGAIN").words);
  t.deepEqual(segment?.lines, ["THE QUICK BROWN FOX JUMPS", "OVER THE LAZY DOG AGAIN"]);
});

test("verbose_json has OpenAI's fields", (t) => {
  const transcript = {
    ...transcriptOf("HELLO THERE | WORLD"),
    tokens: [
      { id: 7, start: 0 },
      { id: 8, start: 0.4 },
      { id: 9, start: 2.9 },
    ],
  };
  const json = JSON.parse(formatTranscript(transcript, "verbose_json")) as Record<string, unknown>;
  t.deepEqual(Object.keys(json), ["duration", "language", "text", "segments", "words", "usage"]);
  t.is(json["language"], "english");
  t.deepEqual(json["usage"], { type: "duration", seconds: 4 });
  t.deepEqual(json["words"], [
    { word: "HELLO", start: 0, end: 0.3 },
    { word: "THERE", start: 0.4, end: 0.7 },
    { word: "WORLD", start: 2.9, end: 3.1999999999999997 },
  ]);
  const [first, second] = json["segments"] as Record<string, unknown>[];
  t.deepEqual(first, {
    id: 0,
    seek: 0,
    start: 0,
    end: 0.7,
    text: "HELLO THERE",
    tokens: [7, 8],
    temperature: 0,
    avg_logprob: Math.log(0.5),
    compression_ratio: 11 / 19,
    no_speech_prob: 0,
  });
  t.deepEqual(second?.["tokens"], [9]);
  t.is(second?.["seek"], 290);
});
