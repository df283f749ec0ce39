/** Free Spoken Digit Dataset: recordings/DIGIT_SPEAKER_INDEX.wav; by the official split, indices 0 to 4 are for testing. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { badCorpus, requirePart, sortedNames, type CorpusPart, type CorpusUtterance } from "./corpus.js";

const words = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"];
const firstTrainingIndex = 5;

/** @param folder `free-spoken-digit-dataset`, with `recordings` */
export function readSpokenDigits(folder: string, part?: CorpusPart): CorpusUtterance[] {
  const wanted = requirePart("fsdd", part);
  const recordings = join(folder, "recordings");
  if (!existsSync(recordings)) throw badCorpus(recordings, "does not exist; give the folder free-spoken-digit-dataset");
  return sortedNames(recordings)
    .filter((name) => name.endsWith(".wav"))
    .map((name) => {
      const audioPath = join(recordings, name);
      const [, digit, speaker, index] = /^(\d)_([^_]+)_(\d+)\.wav$/.exec(name) ?? [];
      if (speaker === undefined) throw badCorpus(audioPath, "must be named DIGIT_SPEAKER_INDEX.wav, such as 7_jackson_32.wav");
      const inPart: CorpusPart = Number(index) < firstTrainingIndex ? "test" : "train";
      return { inPart, utterance: { audioPath, transcript: words[Number(digit)] as string, speaker, source: audioPath } };
    })
    .filter(({ inPart }) => inPart === wanted)
    .map(({ utterance }) => utterance);
}
