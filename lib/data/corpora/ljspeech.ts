/** LJSpeech 1.1: metadata.csv with lines `ID|text|normalized text`, and wavs/ID.wav. One speaker, no official split. */
import { join } from "node:path";
import { UsmLiteError } from "../../errors.js";
import { badCorpus, corpusLines, type CorpusPart, type CorpusUtterance } from "./corpus.js";

/** @param folder `LJSpeech-1.1` */
export function readLjSpeech(folder: string, part?: CorpusPart): CorpusUtterance[] {
  if (part) throw new UsmLiteError("INVALID_ARGUMENT", "LJSpeech has no official split; leave the part out");
  return corpusLines(join(folder, "metadata.csv"), "give the unpacked folder LJSpeech-1.1").map(({ text, source }) => {
    // Quotation marks are part of the text: this is no CSV that quotes.
    const [id, , transcript, ...more] = text.split("|");
    if (!id || transcript === undefined || more.length > 0) {
      throw badCorpus(source, 'must have three fields, such as "LJ001-0001|In 1465 ..|In fourteen sixty-five .."');
    }
    return { audioPath: join(folder, "wavs", `${id}.wav`), transcript, speaker: "LJ", source };
  });
}
