/** What the decoder of a sequence-to-sequence model is told before it writes: language, task, whether it is to say when. */
import { UsmLiteError } from "../errors.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { SequenceGeneration } from "./sequence_generation.js";

export class SequencePrompt {
  /** Ids by code, such as "en"; empty: the model knows English only. */
  readonly languages: ReadonlyMap<string, number>;
  /** Follows the prompt unless times are wanted; undefined where the model knows none. */
  readonly noTimestampsId: number | undefined;

  constructor(
    private readonly generation: SequenceGeneration,
    private readonly tokenizer: TextTokenizer,
  ) {
    this.languages = generation.languages.size > 0 ? generation.languages : languagesOf(tokenizer);
    this.noTimestampsId = generation.promptPieces ? undefined : (generation.noTimestampsId ?? tokenizer.idOf("<|notimestamps|>"));
  }

  /** @throws UsmLiteError INVALID_ARGUMENT for a language or task that the model does not know, or without a language that it must be told */
  check(language: string | undefined, task: string | undefined): void {
    const refuse = (sentence: string): never => {
      throw new UsmLiteError("INVALID_ARGUMENT", sentence);
    };
    const { promptPieces } = this.generation;
    const known = [...this.languages.keys()].join(", ");
    if (language !== undefined && !this.languages.has(language)) {
      refuse(`the model knows no language "${language}"; it knows ${known || "English only, and takes no language"}`);
    }
    if (promptPieces && language === undefined) refuse(`the model must be told the language; it knows ${known}`);
    if (promptPieces && task === "translate") refuse('the model knows no task "translate"');
    if (!promptPieces && task !== undefined && this.languages.size > 0 && this.taskId(task) === undefined)
      refuse(`the model knows no task "${task}"`);
    if (task === "translate" && this.languages.size === 0) refuse("the model knows English only, so there is nothing to translate");
  }

  /** Ids from the one that begins everything on; text with times follows. @throws UsmLiteError BAD_TOKENIZER when the tokenizer lacks a piece */
  ids(language: string | undefined, task = "transcribe"): number[] {
    const { startId, forced, promptPieces } = this.generation;
    if (promptPieces) return promptPieces(language as string).map((piece) => this.pieceId(piece));
    const prompt = [startId];
    if (language !== undefined) prompt.push(this.languages.get(language) as number);
    const taskId = this.languages.size > 0 ? this.taskId(task) : undefined;
    if (taskId !== undefined) prompt.push(taskId);
    // Older configurations prescribe the tokens themselves, of which those that forbid times are ours to choose.
    for (let id = forced.get(prompt.length); id !== undefined && id !== this.noTimestampsId; id = forced.get(prompt.length))
      prompt.push(id);
    return prompt;
  }

  /**
   * All that the decoder is to write of a transcript, without times, as the processors of transformers put it together for training.
   * @throws UsmLiteError INVALID_ARGUMENT when a model of several languages is not told which one it is; BAD_TOKENIZER
   */
  sequence(text: string, language: string | undefined): number[] {
    this.check(language, undefined);
    if (language === undefined && this.languages.size > 0) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `training a model of several languages needs the language of the speech (--language); it knows ${[...this.languages.keys()].join(", ")}`,
      );
    }
    const withoutTimes = this.noTimestampsId === undefined ? [] : [this.noTimestampsId];
    return [...this.ids(language), ...withoutTimes, ...this.tokenizer.encode(text), this.generation.endId];
  }

  private pieceId(piece: string): number {
    const id = this.tokenizer.idOf(piece);
    if (id === undefined) throw new UsmLiteError("BAD_TOKENIZER", `the tokenizer has no piece "${piece}", which this model's prompt needs`);
    return id;
  }

  private taskId(task: string): number | undefined {
    return this.generation.tasks.get(task) ?? this.tokenizer.idOf(`<|${task}|>`);
  }
}

const languagesOf = (tokenizer: TextTokenizer): ReadonlyMap<string, number> =>
  new Map(
    Array.from({ length: tokenizer.size }, (_, id) => [/^<\|([a-z]{2,3})\|>$/.exec(tokenizer.piece(id))?.[1], id] as const).filter(
      (entry): entry is readonly [string, number] => entry[0] !== undefined,
    ),
  );
