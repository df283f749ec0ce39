/** What a client of the realtime interface may send, after OpenAI's realtime API (transcription sessions). */
import { z } from "zod";
import { RequestError } from "../http/openai_error.js";
import { checkLanguage, checkModel, speakerSchema, type ServedModel } from "../http/transcription_request.js";
import type { AudioFormat } from "./audio_format.js";
import { defaultTurnDetection, type TurnDetection } from "./turn_detector.js";

const format = z.union([
  z.object({ type: z.literal("audio/pcm"), rate: z.int().min(8000).max(48_000).default(24_000) }),
  z.object({ type: z.literal("audio/pcmu") }),
  z.object({ type: z.literal("audio/pcma") }),
]);
const transcription = z.object({
  model: z.string().optional(),
  language: z.string().optional(),
  keywords: z.array(z.string().trim().min(1).max(100)).max(200).optional(),
  /** Whose adapter the turns from now on are heard with; null: nobody's. */
  speaker: speakerSchema.nullish(),
  /** Makes no difference to this kind of model. */
  prompt: z.string().optional(),
});
const turnDetection = z.object({
  type: z.literal("server_vad", { error: "only server_vad (by energy), or null, is offered" }),
  threshold: z.number().min(0).max(1).default(defaultTurnDetection.threshold),
  prefix_padding_ms: z.int().min(0).max(5000).default(defaultTurnDetection.prefixPaddingMs),
  silence_duration_ms: z.int().min(40).max(10_000).default(defaultTurnDetection.silenceDurationMs),
});
const session = z.object({
  type: z.literal("transcription", { error: "only transcription sessions are offered" }).optional(),
  audio: z
    .object({
      input: z
        .object({
          format: format.optional(),
          transcription: transcription.nullish(),
          turn_detection: turnDetection.nullish(),
        })
        .optional(),
    })
    .optional(),
  include: z.array(z.literal("item.input_audio_transcription.logprobs")).nullish(),
});
const eventId = { event_id: z.string().max(512).optional() };
const clientEvent = z.discriminatedUnion("type", [
  z.object({ ...eventId, type: z.literal("session.update"), session }),
  z.object({ ...eventId, type: z.literal("input_audio_buffer.append"), audio: z.base64() }),
  z.object({ ...eventId, type: z.literal("input_audio_buffer.commit") }),
  z.object({ ...eventId, type: z.literal("input_audio_buffer.clear") }),
]);

export type ClientEvent = z.output<typeof clientEvent>;

export interface SessionConfig {
  readonly format: AudioFormat;
  readonly keywords: readonly string[];
  readonly speaker: string | undefined;
  readonly model: string;
  readonly language: string;
  /** Undefined: the client says where turns end. */
  readonly turnDetection: TurnDetection | undefined;
  readonly logprobs: boolean;
}

export const initialSession = ({ name, language }: ServedModel): SessionConfig => ({
  format: { type: "audio/pcm", rate: 24_000 },
  keywords: [],
  speaker: undefined,
  model: name,
  language,
  turnDetection: defaultTurnDetection,
  logprobs: false,
});

/** @throws RequestError 400 */
export function parseClientEvent(text: string): ClientEvent {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new RequestError(400, "invalid_json", "the message is not JSON");
  }
  const result = clientEvent.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  const param = issue.path.map(String).join(".") || null;
  const type = (json as { type?: unknown } | null)?.type;
  const known = clientEvent.options.some(({ shape }) => shape.type.value === type);
  if (!known)
    throw new RequestError(
      400,
      "unknown_event",
      `there is no event of type ${typeof type === "string" ? JSON.stringify(type.slice(0, 100)) : typeof type}`,
      "type",
    );
  throw new RequestError(400, "invalid_value", `${param}: ${issue.message}`, param);
}

/** What `session.update` makes of a session: what it does not mention stays. @throws RequestError 400, 404 */
export function updateSession(
  before: SessionConfig,
  { session: update }: Extract<ClientEvent, { type: "session.update" }>,
  served: ServedModel,
): SessionConfig {
  const { format: newFormat, transcription: wanted, turn_detection: turns } = update.audio?.input ?? {};
  if (wanted?.model !== undefined) checkModel(wanted.model, served);
  if (wanted?.language !== undefined) checkLanguage(wanted.language, served);
  return {
    format: newFormat ?? before.format,
    keywords: wanted?.keywords ?? before.keywords,
    speaker: wanted?.speaker === undefined ? before.speaker : (wanted.speaker ?? undefined),
    model: wanted?.model ?? before.model,
    language: wanted?.language ?? before.language,
    turnDetection: turns === undefined ? before.turnDetection : turnDetectionOf(turns),
    logprobs: update.include === undefined ? before.logprobs : (update.include ?? []).length > 0,
  };
}

function turnDetectionOf(turns: z.output<typeof turnDetection> | null): TurnDetection | undefined {
  return turns === null
    ? undefined
    : { threshold: turns.threshold, prefixPaddingMs: turns.prefix_padding_ms, silenceDurationMs: turns.silence_duration_ms };
}

/** A session as `session.created` and `session.updated` show it. */
export function sessionObject(
  id: string,
  { format: shown, keywords, speaker, model, language, turnDetection: turns, logprobs }: SessionConfig,
) {
  return {
    type: "transcription",
    object: "realtime.transcription_session",
    id,
    audio: {
      input: {
        format: shown,
        noise_reduction: null,
        transcription: { model, language, ...(keywords.length > 0 ? { keywords } : {}), ...(speaker === undefined ? {} : { speaker }) },
        turn_detection: turns
          ? {
              type: "server_vad",
              threshold: turns.threshold,
              prefix_padding_ms: turns.prefixPaddingMs,
              silence_duration_ms: turns.silenceDurationMs,
            }
          : null,
      },
    },
    include: logprobs ? ["item.input_audio_transcription.logprobs"] : null,
  };
}
