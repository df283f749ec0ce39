/** The fields of a transcription request, as OpenAI's API names them. */
import { z } from "zod";
import { isSpeakerName, speakerNameRule } from "../../adapt/speaker_name.js";
import { transcriptFormats, type TranscriptFormat } from "../../text/transcript_formats.js";
import { RequestError } from "./openai_error.js";

export interface TranscriptionRequest {
  readonly format: TranscriptFormat;
  readonly stream: boolean;
  readonly keywords: readonly string[];
  /** Whose adapter it is heard with. */
  readonly speaker: string | undefined;
  readonly granularities: ReadonlySet<"word" | "segment">;
  readonly logprobs: boolean;
}

/** What the served model is called and speaks. */
export interface ServedModel {
  readonly name: string;
  readonly aliases: readonly string[];
  /** ISO 639-1 */
  readonly language: string;
}

const maximumKeywords = 200;
const maximumKeywordCharacters = 100;

const boolean = z.enum(["true", "false", "1", "0", ""]).transform((value) => value === "true" || value === "1");
export const speakerSchema = z.string().refine(isSpeakerName, { error: `is no name of a speaker; ${speakerNameRule}` });
// These make no difference to this kind of model, but must be what the API allows.
const withoutEffect = { prompt: z.string(), temperature: z.coerce.number().min(0).max(1), chunking_strategy: z.string() };
const single = z.object({
  model: z.string({ error: "must be given" }),
  language: z.string().optional(),
  speaker: speakerSchema.optional(),
  response_format: z.enum(transcriptFormats).default("json"),
  stream: boolean.default(false),
  prompt: withoutEffect.prompt.optional(),
  temperature: withoutEffect.temperature.optional(),
  chunking_strategy: withoutEffect.chunking_strategy.optional(),
});
const several = z.object({
  keywords: z.array(z.string().trim().min(1).max(maximumKeywordCharacters)).max(maximumKeywords).default([]),
  languages: z.array(z.string()).default([]),
  timestamp_granularities: z.array(z.enum(["word", "segment"])).default([]),
  include: z.array(z.enum(["logprobs"])).default([]),
});

/** @throws RequestError 400; 404 for a model that is not served */
export function parseTranscriptionRequest(fields: ReadonlyMap<string, readonly string[]>, served: ServedModel): TranscriptionRequest {
  const singles: Record<string, string> = {};
  const arrays: Record<string, readonly string[]> = {};
  for (const [name, values] of fields) {
    if (name in several.shape) arrays[name] = values;
    else if (values.length > 1) throw new RequestError(400, "invalid_value", `${name} is given ${values.length} times`, name);
    else singles[name] = values[0] as string;
  }
  const { model, language, speaker, response_format: format, stream } = checked(single, singles);
  const { keywords, languages, timestamp_granularities, include } = checked(several, arrays);
  checkModel(model, served);
  for (const name of [...(language === undefined ? [] : [language]), ...languages]) checkLanguage(name, served);
  if (timestamp_granularities.length > 0 && format !== "verbose_json") {
    throw invalid("timestamp_granularities", `need response_format verbose_json, but it is ${format}`);
  }
  if (stream && format !== "json" && format !== "text") {
    throw invalid("stream", `goes with response_format json or text, but it is ${format}`);
  }
  if (include.length > 0 && format !== "json") throw invalid("include", `logprobs go with response_format json, but it is ${format}`);
  return {
    format,
    stream,
    keywords,
    speaker,
    granularities: new Set(timestamp_granularities.length > 0 ? timestamp_granularities : ["segment"]),
    logprobs: include.length > 0,
  };
}

/** @throws RequestError 404 */
export function checkModel(name: string, { name: served, aliases }: ServedModel): void {
  if (name === served || aliases.includes(name)) return;
  const names = [served, ...aliases].join(", also called ");
  throw new RequestError(404, "model_not_found", `the model ${JSON.stringify(name)} is not served here; ${names} is`, "model");
}

/** Some clients send "en", some "en-US", some "english"; some models say "eng". */
export function checkLanguage(language: string, served: ServedModel): void {
  if (languageCode(language) === languageCode(served.language) || language.toLowerCase() === languageName(served.language)) return;
  throw invalid("language", `is ${JSON.stringify(language)}, but the model that is served recognises ${served.language}`);
}

/** "english" for "en", as verbose transcripts say it. */
export function languageName(language: string): string {
  const code = languageCode(language);
  return (isCode.test(code) ? (new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code) : code).toLowerCase();
}

// As BCP 47 writes them; four letters stand for nothing.
const isCode = /^([a-z]{2,3}|[a-z]{5,8})$/;

/** "fr" for "fra" and "fr-CA": the shortest code, without region and script. */
function languageCode(language: string): string {
  const [code = ""] = language.toLowerCase().split(/[-_]/);
  return isCode.test(code) ? new Intl.Locale(code).language : code;
}

function checked<Schema extends z.ZodType>(schema: Schema, values: unknown): z.output<Schema> {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  const [param = "request"] = issue.path.map(String);
  const missing = issue.code === "invalid_type" && !(param in (values as object));
  throw new RequestError(400, missing ? "missing_required_parameter" : "invalid_value", `${param}: ${issue.message}`, param);
}

const invalid = (param: string, sentence: string): RequestError => new RequestError(400, "invalid_value", `${param} ${sentence}`, param);
