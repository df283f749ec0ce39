/**
 * Writes the CMU Pronouncing Dictionary as lines `WORD  PHONE PHONE ..`: the targets of the intermediate loss.
 * usage: node training/pronunciations.js > training/pronunciations.dict
 */
import { dictionary } from "cmu-pronouncing-dictionary";

for (const [word, phones] of Object.entries(dictionary)) console.log(`${word.toUpperCase()}  ${phones}`);
