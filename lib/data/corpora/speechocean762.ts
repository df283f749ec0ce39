/** speechocean762 (OpenSLR 101): Kaldi folders train and test, whose paths WAVE/.. are relative to the corpus. */
import { requirePart, type CorpusPart, type CorpusUtterance } from "./corpus.js";
import { readKaldi } from "./kaldi.js";

/** @param folder `speechocean762`, with `train`, `test` and `WAVE` */
export function readSpeechocean762(folder: string, part?: CorpusPart): CorpusUtterance[] {
  return readKaldi(folder, requirePart("speechocean762", part));
}
