/** Where a trainer gets its batches from. */
import type { TrainingBatch } from "../train/trainable_model.js";

/** Batches by position, so that training can continue anywhere: nothing is remembered between calls. */
export interface BatchSource {
  /** Number of batches of `epoch`, at least 1. */
  count(epoch: number): number;
  /**
   * Batch `index` of `epoch`, the same bits for the same arguments. Its tensors belong to the scope of the caller.
   * @param masksApart whether the batch may come with {@link TrainingBatch.masks} instead of features in which they are
   */
  batch(epoch: number, index: number, masksApart?: boolean): TrainingBatch;
}
