/** Gradients of convolutions on the GPU, as those of gradient_operations.ts. */
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import type { DevicePlaneConvolutionOptions } from "./encoder_operations.js";
import { gpuAddon } from "./gpu.js";
import { layerGradients, type DeviceLayerGradients, type OptionalHandles, type WantedGradients } from "./layer_gradients.js";

interface ConvolutionGradientBindings {
  deviceDepthwiseConvolutionBackward(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    gradient: DeviceTensorHandle,
    leftPadding: number,
    wantsX: boolean,
    wantsWeight: boolean,
    wantsBias: boolean,
    stream?: StreamHandle,
  ): OptionalHandles;
  devicePlaneConvolutionBackward(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    y: DeviceTensorHandle | undefined,
    features: number,
    stride: number,
    padding: number,
    relu: boolean,
    sequences: DeviceSequencesHandle,
    outputs: DeviceSequencesHandle,
    gradient: DeviceTensorHandle,
    wantsX: boolean,
    wantsWeight: boolean,
    wantsBias: boolean,
    stream?: StreamHandle,
  ): OptionalHandles;
  deviceGatherWindowsBackward(
    gradient: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    kernel: number,
    stride: number,
    outputs: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
}

const native = (): ConvolutionGradientBindings => gpuAddon<ConvolutionGradientBindings>();

/**
 * Gradients of {@link deviceDepthwiseConvolution} without activation.
 * @param x (frames, channels), its input
 * @param weight float32 (channels, kernel)
 * @param gradient (frames, channels), of its result
 */
export function deviceDepthwiseConvolutionBackward(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  gradient: DeviceTensor,
  { leftPadding, wantsX, wantsWeight, wantsBias, stream }: WantedGradients & { leftPadding: number; stream?: DeviceStream | undefined },
): DeviceLayerGradients {
  return layerGradients(
    native().deviceDepthwiseConvolutionBackward(
      x.handle,
      weight.handle,
      sequences.handle,
      gradient.handle,
      leftPadding,
      wantsX,
      wantsWeight,
      wantsBias,
      stream?.handle,
    ),
  );
}

/**
 * Gradients of {@link devicePlaneConvolution}.
 * @param x (frames, features * channels), or (frames, features), as the forward pass was given
 * @param weight float32 (channels, 9)
 * @param gradient (output frames, output features * channels)
 * @param options what the forward pass was given, and its result `y` where its activation was "relu"
 */
export function devicePlaneConvolutionBackward(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  gradient: DeviceTensor,
  options: Omit<DevicePlaneConvolutionOptions, "bias"> & WantedGradients & { y?: DeviceTensor | undefined },
): DeviceLayerGradients {
  const { y, features, stride, padding, activation = "none", outputs, wantsX, wantsWeight, wantsBias, stream } = options;
  return layerGradients(
    native().devicePlaneConvolutionBackward(
      x.handle,
      weight.handle,
      y?.handle,
      features,
      stride,
      padding,
      activation === "relu",
      sequences.handle,
      outputs.handle,
      gradient.handle,
      wantsX,
      wantsWeight,
      wantsBias,
      stream?.handle,
    ),
  );
}

/**
 * The gradient of {@link deviceGatherWindows}' input: the sum over all windows that a frame is in.
 * @param gradient (windows, kernel * channels), channels a multiple of 8
 * @param outputs windows of each sequence
 * @returns (frames, channels)
 */
export function deviceGatherWindowsBackward(
  gradient: DeviceTensor,
  sequences: DeviceSequences,
  { kernel, stride, outputs, stream }: { kernel: number; stride: number; outputs: DeviceSequences; stream?: DeviceStream | undefined },
): DeviceTensor {
  return new DeviceTensor(
    native().deviceGatherWindowsBackward(gradient.handle, sequences.handle, kernel, stride, outputs.handle, stream?.handle),
  );
}
