/** What a network that learns is to write of a transcript. */
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "./model_folder.js";
import { checkLanguage } from "./model_language.js";
import { SequencePrompt } from "./sequence_prompt.js";

/** Token ids of a transcript: its tokens or, of a sequence-to-sequence model, all that the decoder is to write. */
export type TranscriptEncoder = (text: string) => readonly number[];

/**
 * @param language what sequence-to-sequence models of several languages are to be told
 * @throws UsmLiteError BAD_TOKENIZER; INVALID_ARGUMENT for a language that the model does not know or lacks, or where it takes none
 */
export function transcriptEncoder(
  model: Pick<SpeechModel, "network" | "tokenizer" | "textTokenizer" | "folder" | "language">,
  language: string | undefined,
): TranscriptEncoder {
  const { network, tokenizer, textTokenizer } = model;
  const missing = missingTokenizer(model.folder);
  if (network.kind === "sequence-to-sequence") {
    if (!textTokenizer) throw missing;
    const prompt = new SequencePrompt(network.generation, textTokenizer);
    prompt.sequence("", language); // a wrong language is told before anything is written
    return (text) => prompt.sequence(text, language);
  }
  if (!tokenizer) throw missing;
  checkLanguage(model, language);
  return (text) => tokenizer.encode(text);
}

/** Of a model that is to learn from text, and has none. */
export const missingTokenizer = (folder: string): UsmLiteError =>
  new UsmLiteError("BAD_TOKENIZER", `${folder} has no tokenizer.json, without which nothing is learned from text`);
