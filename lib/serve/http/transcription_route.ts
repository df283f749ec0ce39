/** `POST /v1/audio/transcriptions` */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ByteSource } from "../../audio/byte_source.js";
import { detectFormat } from "../../audio/container.js";
import { UsmLiteError } from "../../errors.js";
import type { Client } from "../api_keys.js";
import type { Heard } from "../engine/dispatcher.js";
import type { Service } from "../service.js";
import { EventStream } from "./event_stream.js";
import { errorResponse, RequestError } from "./openai_error.js";
import { languageName, parseTranscriptionRequest, type TranscriptionRequest } from "./transcription_request.js";
import { logprobsOf, renderTranscript, usageOf } from "./transcription_response.js";
import { checkUploadHeaders, receiveUpload, type Upload } from "./upload.js";

// To weigh what waits, before anything is decoded: common files hold 8 to 32 kB a second.
const bytesPerSecond = 16_000;

export function transcriptionRoute(app: FastifyInstance, service: Service): void {
  app.post("/v1/audio/transcriptions", async (request, reply) => {
    checkUploadHeaders(request, service.uploads);
    const signal = closedSignal(reply);
    // A place in the queue first, so that nobody sends a file in vain.
    const release = service.dispatcher.reserve();
    try {
      await using upload = await receiveUpload(request, service.uploads, signal);
      const wanted = parseTranscriptionRequest(upload.fields, service.model);
      const submit = (onText?: (text: string) => void): Promise<Heard> => {
        const recognized = recognize(request, service, upload, wanted, signal, onText);
        release();
        return recognized;
      };
      if (wanted.stream) return await streamed(request, reply, wanted, submit);
      const { contentType, body } = renderTranscript(await submit(), wanted, languageName(service.model.language));
      return await reply.type(contentType).send(body);
    } finally {
      release();
    }
  });
}

/** Aborted when the client goes away before it has its answer. */
function closedSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) controller.abort(new UsmLiteError("ABORTED", "the client went away"));
  });
  return controller.signal;
}

async function recognize(
  request: FastifyRequest,
  { dispatcher, metrics, options }: Service,
  upload: Upload,
  { keywords, speaker, stream }: TranscriptionRequest,
  signal: AbortSignal,
  onText: ((text: string) => void) | undefined,
): Promise<Heard> {
  const { notes } = request;
  try {
    const heard = await dispatcher.submit({
      client: (notes.client as Client).name,
      cost: upload.bytes / bytesPerSecond,
      audio: upload.path,
      options: { hotwords: keywords, partials: stream, ...(speaker === undefined ? {} : { speaker }) },
      signal,
      ...(onText ? { onPartial: ({ text }) => onText(text) } : {}),
      onReport: (report) => {
        notes.job = report;
        metrics.queueSeconds.observe(report.queueSeconds);
        metrics.recognitionSeconds.observe(report.recognitionSeconds);
      },
    });
    const { speech } = heard;
    notes.audioSeconds = speech.duration;
    if (options.logTranscripts) notes.transcript = speech.text;
    metrics.audioSeconds.inc(speech.duration);
    metrics.rtfx.observe(speech.duration / Math.max(notes.job?.recognitionSeconds ?? 0, 1e-6));
    return heard;
  } catch (error) {
    throw await recordingError(error, upload);
  }
}

/** Errors speak of the client's file, not of where it lies here; one of a format without a decoder has a status of its own. */
async function recordingError(error: unknown, { path, name }: Upload): Promise<unknown> {
  if (!(error instanceof UsmLiteError)) return error;
  const message = error.message.replaceAll(path, () => name || "the file");
  if (error.code === "BAD_AUDIO") {
    await using source = await ByteSource.open(path);
    if (source.size && (await detectFormat(source)) === undefined)
      return new RequestError(415, "unsupported_audio_format", message, "file");
  }
  return new UsmLiteError(error.code, message, { cause: error });
}

/** Deltas that add up to the text; an error after the first of them is the last event. */
async function streamed(
  request: FastifyRequest,
  reply: FastifyReply,
  { logprobs }: TranscriptionRequest,
  submit: (onText: (text: string) => void) => Promise<Heard>,
): Promise<FastifyReply> {
  const events = new EventStream(reply);
  let sent = "";
  const onText = (text: string): void => {
    if (text.length <= sent.length) return;
    events.send({ type: "transcript.text.delta", delta: text.slice(sent.length) } as { type: string });
    sent = text;
  };
  try {
    const { speech, vocabulary } = await submit(onText);
    onText(speech.text);
    events.send({
      type: "transcript.text.done",
      text: speech.text,
      ...(logprobs ? { logprobs: logprobsOf(speech, vocabulary) } : {}),
      usage: usageOf(speech),
    } as { type: string });
  } catch (error) {
    if (!events.begun) throw error;
    if (reply.raw.destroyed) return reply; // the client has gone
    const { status, body } = errorResponse(error);
    if (status >= 500) request.log.error({ err: error }, "failed while streaming");
    events.send(body);
  }
  events.end();
  return reply;
}
