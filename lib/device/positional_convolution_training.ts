/**
 * What training does on the GPU in the positional convolution of wav2vec 2.0: pure functions, as those of gradient_operations.ts.
 */
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface PositionalConvolutionBindings {
  deviceWeightNorm(gain: DeviceTensorHandle, direction: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceWeightNormBackward(
    gain: DeviceTensorHandle,
    direction: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    stream?: StreamHandle,
  ): [gain: DeviceTensorHandle, direction: DeviceTensorHandle];
  deviceGroupedProducts(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    groups: number,
    leftPadding: number,
    sequences: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceGroupedProductsBackward(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    groups: number,
    leftPadding: number,
    sequences: DeviceSequencesHandle,
    gradient: DeviceTensorHandle,
    wantsX: boolean,
    wantsWeight: boolean,
    stream?: StreamHandle,
  ): [x?: DeviceTensorHandle, weight?: DeviceTensorHandle];
}

const native = (): PositionalConvolutionBindings => gpuAddon<PositionalConvolutionBindings>();

/**
 * `gain[tap] * direction / |direction of the tap|`, whose length is taken over all outputs and inputs (Salimans, Kingma 2016).
 * @param gain float32 (1, taps)
 * @param direction float32 (out, taps * in)
 * @returns like direction
 */
export function deviceWeightNorm(gain: DeviceTensor, direction: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceWeightNorm(gain.handle, direction.handle, stream?.handle));
}

/**
 * Gradients of {@link deviceWeightNorm}.
 * @param gradient like direction, of the result
 */
export function deviceWeightNormBackward(
  gain: DeviceTensor,
  direction: DeviceTensor,
  gradient: DeviceTensor,
  stream?: DeviceStream,
): { gain: DeviceTensor; direction: DeviceTensor } {
  const handles = native().deviceWeightNormBackward(gain.handle, direction.handle, gradient.handle, stream?.handle);
  return { gain: new DeviceTensor(handles[0]), direction: new DeviceTensor(handles[1]) };
}

export interface DeviceGroupedProductsOptions {
  readonly groups: number;
  /** Zeros before each sequence, 0 .. kernel - 1; the rest of kernel - 1 lies behind it. */
  readonly leftPadding: number;
  readonly stream?: DeviceStream | undefined;
}

/**
 * A convolution over time in groups of channels: as many frames come out as go in, a group of output channels sees the input channels of its
 * group.
 * @param x (frames, in)
 * @param weight (out, kernel * in / groups), of the type of `x`; in / groups and out / groups are multiples of 8
 * @returns (frames, out)
 */
export function deviceGroupedProducts(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  { groups, leftPadding, stream }: DeviceGroupedProductsOptions,
): DeviceTensor {
  return new DeviceTensor(native().deviceGroupedProducts(x.handle, weight.handle, groups, leftPadding, sequences.handle, stream?.handle));
}

/**
 * Gradients of {@link deviceGroupedProducts}: that of `x` like it, that of the weight float32.
 * @param gradient (frames, out), of the result
 */
export function deviceGroupedProductsBackward(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  gradient: DeviceTensor,
  {
    groups,
    leftPadding,
    wantsX,
    wantsWeight,
    stream,
  }: DeviceGroupedProductsOptions & { readonly wantsX: boolean; readonly wantsWeight: boolean },
): { x: DeviceTensor | undefined; weight: DeviceTensor | undefined } {
  const handles = native().deviceGroupedProductsBackward(
    x.handle,
    weight.handle,
    groups,
    leftPadding,
    sequences.handle,
    gradient.handle,
    wantsX,
    wantsWeight,
    stream?.handle,
  );
  const [ofX, ofWeight] = handles.map((handle) => handle && new DeviceTensor(handle));
  return { x: ofX, weight: ofWeight };
}
