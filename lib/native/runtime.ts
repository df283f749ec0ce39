/** Process-wide settings of the native code: threads, instruction set, memory. */
import { addon } from "./addon.js";

/** `reference` is plain C++, slow, and what the others are tested against. */
export type InstructionSet = "reference" | "avx2" | "avx2vnni" | "avx512" | "avx512amx";

/** Bytes of tensor memory of the whole process, all workers together. */
export interface MemoryStatistics {
  bytesInUse: number;
  peakBytes: number;
  bytesCached: number;
  allocations: number;
}

interface RuntimeBindings {
  threadCount(): number;
  setThreadCount(count: number): void;
  instructionSet(): InstructionSet;
  setInstructionSet(name: InstructionSet): void;
  availableInstructionSets(): InstructionSet[];
  memoryStatistics(): MemoryStatistics;
  resetPeakMemory(): void;
  trimMemory(): void;
}

const native = addon as RuntimeBindings;

/**
 * Threads used by one operation; `USMLITE_THREADS` sets the default.
 *
 * @example
 * threadCount(); // as many as cores, unless it was told otherwise
 */
export const threadCount = (): number => native.threadCount();

/**
 * Sets how many threads one operation uses.
 * @throws UsmLiteError INVALID_ARGUMENT outside 1..256
 *
 * @example
 * setThreadCount(1);
 */
export const setThreadCount = (count: number): void => native.setThreadCount(count);

/**
 * The instruction set in use; `USMLITE_ISA` sets the default.
 *
 * @example
 * instructionSet(); // "avx512", for example
 */
export const instructionSet = (): InstructionSet => native.instructionSet();

/**
 * Chooses the instruction set of operations to come.
 * @throws UsmLiteError INVALID_ARGUMENT when this processor lacks it
 *
 * @example
 * setInstructionSet("reference"); // what the others are tested against
 */
export const setInstructionSet = (name: InstructionSet): void => native.setInstructionSet(name);

/**
 * What this processor can run, slowest first.
 *
 * @example
 * setInstructionSet(availableInstructionSets().at(-1) ?? "reference"); // the fastest
 */
export const availableInstructionSets = (): InstructionSet[] => native.availableInstructionSets();

/**
 * Tensor memory in use, at its peak since {@link resetPeakMemory}, and kept for reuse.
 *
 * @example
 * resetPeakMemory();
 * recognizer.transcribe(samples);
 * const { peakBytes } = memoryStatistics();
 */
export const memoryStatistics = (): MemoryStatistics => native.memoryStatistics();

/**
 * Begins the peak of {@link memoryStatistics} anew from what is in use.
 *
 * @example
 * resetPeakMemory();
 * memoryStatistics().peakBytes; // what is in use
 */
export const resetPeakMemory = (): void => native.resetPeakMemory();

/**
 * Gives cached blocks back to the operating system.
 *
 * @example
 * trimMemory();
 * memoryStatistics().bytesCached; // 0
 */
export const trimMemory = (): void => native.trimMemory();
