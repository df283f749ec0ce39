/** What the decoder of a sequence-to-sequence model is told before it writes: language, task, whether it is to say when. */
import { UsmLiteError } from "../errors.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { SequenceGeneration } from "./sequence_generation.js";

export class SequencePrompt {
  /** Ids by code, such as "en"; empty: the model knows English only. */
  readonly languages: ReadonlyMap<string, number>;
  /** What the model's own files prescribe where nothing else is said; undefined: it listens for the language. */
  readonly language: string | undefined;
  private readonly task: string;
  /** Follows the prompt unless times are wanted; undefined where the model knows none. */
  readonly noTimestampsId: number | undefined;

  constructor(
    private readonly generation: SequenceGeneration,
    private readonly tokenizer: TextTokenizer,
  ) {
    this.languages = generation.languages.size > 0 ? generation.languages : languagesOf(tokenizer, generation);
    this.noTimestampsId = generation.promptPieces ? undefined : (generation.noTimestampsId ?? tokenizer.idOf("<|notimestamps|>"));
    // Older configurations prescribe the tokens at these places, newer ones say what they mean; where they do the old ones do not count.
    const forced = generation.language || generation.task ? new Map<number, number>() : generation.forced;
    const nameOf = (ids: Iterable<readonly [string, number | undefined]>, place: number): string | undefined =>
      [...ids].find(([, id]) => id !== undefined && id === forced.get(place))?.[0];
    this.language = generation.language ?? nameOf(this.languages, 1);
    this.task =
      generation.task ??
      nameOf(
        ["transcribe", "translate"].map((task) => [task, this.taskId(task)] as const),
        2,
      ) ??
      "transcribe";
  }

  /** @throws UsmLiteError INVALID_ARGUMENT for a language or task that the model does not know, or without a language that it must be told */
  check(language: string | undefined, task: string | undefined): void {
    const refuse = (sentence: string): never => {
      throw new UsmLiteError("INVALID_ARGUMENT", sentence);
    };
    const { promptPieces } = this.generation;
    const known = [...this.languages.keys()].join(", ");
    const isEnglish = language === "en" && this.languages.size === 0 && !promptPieces; // what it writes anyway
    if (language !== undefined && !this.languages.has(language) && !isEnglish) {
      refuse(`the model knows no language "${language}"; it knows ${known || "English only"}`);
    }
    if (promptPieces && language === undefined) refuse(`the model must be told the language; it knows ${known}`);
    if (promptPieces && task === "translate") refuse('the model knows no task "translate"');
    if (!promptPieces && task !== undefined && this.languages.size > 0 && this.taskId(task) === undefined)
      refuse(`the model knows no task "${task}"`);
    if (task === "translate" && this.languages.size === 0) refuse("the model knows English only, so there is nothing to translate");
  }

  /** Ids from the one that begins everything on; text with times follows. @throws UsmLiteError BAD_TOKENIZER when the tokenizer lacks a piece */
  ids(language: string | undefined, task = this.task): number[] {
    const { startId, forced, promptPieces } = this.generation;
    if (promptPieces) return promptPieces(language as string).map((piece) => this.pieceId(piece));
    const prompt = [startId];
    const languageId = this.languages.get(language ?? "");
    if (languageId !== undefined) prompt.push(languageId);
    const taskId = this.languages.size > 0 ? this.taskId(task) : undefined;
    if (taskId !== undefined) prompt.push(taskId);
    // Of what is prescribed behind these, tokens that forbid times are ours to choose.
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
    const spoken = language ?? this.language;
    if (spoken === undefined && this.languages.size > 0) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `training a model of several languages needs the language of the speech (--language); it knows ${[...this.languages.keys()].join(", ")}`,
      );
    }
    const withoutTimes = this.noTimestampsId === undefined ? [] : [this.noTimestampsId];
    return [...this.ids(spoken, "transcribe"), ...withoutTimes, ...this.tokenizer.encode(text), this.generation.endId];
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

function languagesOf(tokenizer: TextTokenizer, { english, languageCodes }: SequenceGeneration): ReadonlyMap<string, number> {
  const languages = new Map<string, number>();
  for (let id = 0; id < tokenizer.size && !english; id++) {
    const code = /^<\|([a-z]{2,3})\|>$/.exec(tokenizer.piece(id))?.[1];
    if (code !== undefined && (languageCodes?.includes(code) ?? true)) languages.set(code, id);
  }
  return languages;
}
