/** LibriSpeech (OpenSLR 12): SET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt with FLAC files beside it. */
import { basename, join, resolve } from "node:path";
import { UsmLiteError } from "../../errors.js";
import { badCorpus, corpusLines, sortedNames, type CorpusPart, type CorpusUtterance } from "./corpus.js";

/**
 * @param folder one set, such as `LibriSpeech/train-clean-100`, or the folder of several sets
 * @param part sets whose names begin with `train-` or `test-`; needed where there are several sets
 */
export function readLibriSpeech(folder: string, part?: CorpusPart): CorpusUtterance[] {
  return chosenSets(folder, part).flatMap((set) =>
    numberedFolders(set).flatMap((speaker) =>
      numberedFolders(join(set, speaker)).flatMap((chapter) => readChapter(join(set, speaker, chapter), speaker, chapter)),
    ),
  );
}

function chosenSets(folder: string, part: CorpusPart | undefined): string[] {
  const isSet = (path: string): boolean => numberedFolders(path).length > 0;
  const sets = isSet(folder)
    ? [resolve(folder)]
    : sortedNames(folder)
        .filter((name) => /^(train|dev|test)-/.test(name))
        .map((name) => join(folder, name))
        .filter(isSet);
  if (sets.length === 0) {
    throw badCorpus(folder, "holds no folders SPEAKER/CHAPTER; give LibriSpeech/train-clean-100 or another set, or LibriSpeech itself");
  }
  const names = sets.map((set) => basename(set)).join(", ");
  if (!part && sets.length > 1) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `${folder} holds the sets ${names}; choose part train or test, or give the folder of one set`,
    );
  }
  const chosen = part ? sets.filter((set) => basename(set).startsWith(`${part}-`)) : sets;
  if (chosen.length === 0) throw badCorpus(folder, `has no set ${part}-.. but ${names}; choose another part or folder`);
  return chosen;
}

/** Speakers and chapters are numbers. */
const numberedFolders = (folder: string): string[] => sortedNames(folder).filter((name) => /^\d+$/.test(name));

function readChapter(folder: string, speaker: string, chapter: string): CorpusUtterance[] {
  const prefix = `${speaker}-${chapter}-`;
  const path = join(folder, `${speaker}-${chapter}.trans.txt`);
  return corpusLines(path, "each chapter has its transcripts there; unpack the corpus anew").map(({ text, source }) => {
    const [, id, transcript] = /^(\S+)\s+(.+)$/.exec(text) ?? [];
    if (id === undefined || transcript === undefined || !id.startsWith(prefix)) {
      throw badCorpus(source, `is not a transcript; a line must be such as "${prefix}0000 WHAT IS SAID"`);
    }
    return { audioPath: join(folder, `${id}.flac`), transcript, speaker, source };
  });
}
