/** Small corpora, laid out as their publishers do. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { flacFile } from "./flac_encoder.js";
import { wavFile, type WavOptions } from "./wav_writer.js";

/** Writes files of a corpus below `folder`; an array is the lines of a text file. */
export function writeCorpus(folder: string, name: string, files: Readonly<Record<string, Uint8Array | readonly string[]>>): string {
  const root = join(folder, name);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content instanceof Uint8Array ? content : content.map((line) => `${line}\n`).join(""));
  }
  return root;
}

export const zeros = (count: number): number[] => new Array<number>(count).fill(0);
export const wav = (samples: number, sampleRate = 16000, more: Partial<WavOptions> = {}): Buffer =>
  wavFile([zeros(samples)], { sampleRate, coding: "s16", ...more });
export const flac = (samples: number, totalSamples = samples): Buffer =>
  flacFile([zeros(samples)], { sampleRate: 16000, bits: 16, blockSizes: [4096], subframes: [{ kind: "verbatim" }], totalSamples });

export const writeLibrispeech = (folder: string): string =>
  writeCorpus(folder, "LibriSpeech", {
    "SPEAKERS.TXT": [";ID |SEX"],
    "train-clean-100/19/198/19-198.trans.txt": ["19-198-0000 NORTHANGER ABBEY", "19-198-0001 THIS LITTLE WORK WAS FINISHED"],
    "train-clean-100/19/198/19-198-0000.flac": flac(8000),
    "train-clean-100/19/198/19-198-0001.flac": flac(20000),
    "train-clean-100/103/1240/103-1240.trans.txt": ["103-1240-0000 MISSUS RACHEL LYNDE'S"],
    "train-clean-100/103/1240/103-1240-0000.flac": flac(1600),
    "test-clean/61/70968/61-70968.trans.txt": ["61-70968-0000 HE BEGAN"],
    "test-clean/61/70968/61-70968-0000.flac": flac(3200),
  });

export const writeSpeechocean = (folder: string): string =>
  writeCorpus(folder, "speechocean762", {
    "train/text": ["000010011\tWE CALL IT BEAR"],
    "train/wav.scp": ["000010011\tWAVE/SPEAKER0001/000010011.WAV"],
    "train/utt2spk": ["000010011 0001"],
    "test/text": ["000030012\tMARK IS GOING TO SEE ELEPHANT"],
    "test/wav.scp": ["000030012\tWAVE/SPEAKER0003/000030012.WAV"],
    "test/utt2spk": ["000030012 0003"],
    "WAVE/SPEAKER0001/000010011.WAV": wav(16000),
    "WAVE/SPEAKER0003/000030012.WAV": wav(4000),
  });
