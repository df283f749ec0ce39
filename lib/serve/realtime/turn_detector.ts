/**
 * When somebody speaks, by the energy of the signal over that of the background, which is followed as it changes. The
 * oldest of voice activity detectors (Rabiner and Sambur 1975), with hysteresis in time: speech begins after a few loud
 * frames and ends after a silence.
 */
import { sampleRate } from "./audio_format.js";

export interface TurnDetection {
  /** 0 to 1: how far speech must stand out; 0.5 asks for 12 dB over the background. */
  readonly threshold: number;
  /** Milliseconds of audio from before the speech that belong to the turn. */
  readonly prefixPaddingMs: number;
  /** Milliseconds of silence that end it. */
  readonly silenceDurationMs: number;
}

export const defaultTurnDetection: TurnDetection = { threshold: 0.5, prefixPaddingMs: 300, silenceDurationMs: 500 };

export interface TurnEvent {
  readonly kind: "started" | "stopped";
  /** Samples from the beginning of the audio: where speech begins, or where silence began. */
  readonly speechSample: number;
  /** The sample behind the frame that decided it. */
  readonly sample: number;
}

const frameSamples = sampleRate / 50; // 20 ms
/** dB relative to full scale. */
const quietest = -80;
/** Below this nothing is speech, however quiet the background. */
const floorOfSpeech = -55;
const loudFramesToStart = 3;
/** How the background is followed, in dB a frame: down at once, up slowly, slower still during speech. */
const riseInSilence = 0.2;
const riseInSpeech = 0.02;

export class TurnDetector {
  speaking = false;
  private readonly margin: number;
  private readonly silentFramesToStop: number;
  private background = floorOfSpeech - 5;
  private frame = new Float32Array(frameSamples);
  private filled = 0;
  private frames = 0;
  private loud = 0;
  private silent = 0;

  constructor({ threshold, silenceDurationMs }: TurnDetection) {
    this.margin = 2 + 20 * threshold;
    this.silentFramesToStop = Math.max(1, Math.round(silenceDurationMs / 20));
  }

  /** Takes samples and tells what they change, in order. */
  push(samples: Float32Array): TurnEvent[] {
    const events: TurnEvent[] = [];
    for (let begin = 0; begin < samples.length;) {
      const part = samples.subarray(begin, begin + frameSamples - this.filled);
      this.frame.set(part, this.filled);
      this.filled += part.length;
      begin += part.length;
      if (this.filled < frameSamples) break;
      this.filled = 0;
      const event = this.step(level(this.frame));
      if (event) events.push(event);
    }
    return events;
  }

  private step(decibels: number): TurnEvent | undefined {
    this.frames++;
    const isLoud = decibels > Math.max(this.background + this.margin, floorOfSpeech);
    const rise = this.speaking ? riseInSpeech : riseInSilence;
    this.background = Math.min(decibels, this.background + rise);
    this.loud = isLoud ? this.loud + 1 : 0;
    this.silent = isLoud ? 0 : this.silent + 1;
    const sample = this.frames * frameSamples;
    if (!this.speaking && this.loud >= loudFramesToStart) {
      this.speaking = true;
      return { kind: "started", speechSample: sample - this.loud * frameSamples, sample };
    }
    if (this.speaking && this.silent >= this.silentFramesToStop) {
      this.speaking = false;
      return { kind: "stopped", speechSample: sample - this.silent * frameSamples, sample };
    }
    return undefined;
  }
}

function level(frame: Float32Array): number {
  let power = 0;
  for (const value of frame) power += value * value;
  return Math.max(quietest, 10 * Math.log10((2 * power) / frame.length + 1e-12));
}
