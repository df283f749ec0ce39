/** Folders as Kaldi's recipes make them: text, wav.scp, utt2spk and, for long recordings, segments. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { UsmLiteError } from "../../errors.js";
import { badCorpus, corpusLines, type CorpusPart, type CorpusSegment, type CorpusUtterance } from "./corpus.js";

/**
 * @param folder its paths in wav.scp are relative to it
 * @param part where given, the four files lie in the folder of this name in `folder`
 */
export function readKaldi(folder: string, part?: CorpusPart): CorpusUtterance[] {
  const lists = part ? join(folder, part) : folder;
  const audio = keyedLines(join(lists, "wav.scp"), "UTTERANCE path/of/audio.wav");
  const speakers = keyedLines(join(lists, "utt2spk"), "UTTERANCE SPEAKER");
  const segmentList = join(lists, "segments");
  const segments = existsSync(segmentList) ? keyedLines(segmentList, segmentForm) : undefined;

  return Array.from(keyedLines(join(lists, "text"), "UTTERANCE WHAT IS SAID"), ([id, { value: transcript, source }]) => {
    const missing = (file: string): UsmLiteError =>
      badCorpus(source, `utterance ${id} has no line in ${join(lists, file)}; add it, or leave the transcript out`);
    const speaker = speakers.get(id);
    if (!speaker) throw missing("utt2spk");
    const segmentLine = segments?.get(id);
    if (segments && !segmentLine) throw missing("segments");
    const { recording, segment } = segmentLine ? parseSegment(segmentLine) : { recording: id };
    const file = audio.get(recording);
    if (!file) {
      if (!segmentLine) throw missing("wav.scp");
      throw badCorpus(
        segmentLine.source,
        `recording ${recording} has no line in ${join(lists, "wav.scp")}; add it, or leave the segment out`,
      );
    }
    if (file.value.endsWith("|")) {
      throw badCorpus(file.source, "is a command; wav.scp must name audio files (write what the command makes to a file first)");
    }
    return { audioPath: resolve(folder, file.value), transcript, speaker: speaker.value, source, ...(segment ? { segment } : {}) };
  });
}

interface KeyedLine {
  /** The line without its key. */
  readonly value: string;
  readonly source: string;
}

/** Lines `KEY value`, by key, in the order of the file. */
function keyedLines(path: string, form: string): Map<string, KeyedLine> {
  const lines = new Map<string, KeyedLine>();
  for (const { text, source } of corpusLines(path, `it must hold lines "${form}"`)) {
    const [, key, value] = /^(\S+)\s+(.+)$/.exec(text) ?? [];
    if (key === undefined || value === undefined) throw badCorpus(source, `must be of the form "${form}"`);
    const earlier = lines.get(key);
    if (earlier) throw badCorpus(source, `${key} has a line already, ${earlier.source}; each may have one`);
    lines.set(key, { value, source });
  }
  return lines;
}

const segmentForm = "UTTERANCE RECORDING BEGIN END";

/** An end of -1 is that of the recording. */
function parseSegment({ value, source }: KeyedLine): { recording: string; segment?: CorpusSegment } {
  const [recording = "", ...times] = value.split(/\s+/);
  const [begin = NaN, end = NaN] = times.map(Number);
  if (times.length !== 2 || !(begin >= 0 && (end > begin || end === -1))) {
    throw badCorpus(
      source,
      `must be of the form "${segmentForm}", in seconds and the end above the begin (or -1: to the end of the recording)`,
    );
  }
  return { recording, segment: { begin, end: end === -1 ? undefined : end, source } };
}
