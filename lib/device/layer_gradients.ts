/** What the gradient of a layer on the GPU consists of. */
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";

/** Of input, weight and bias, as the addon returns them. */
export type OptionalHandles = [DeviceTensorHandle?, DeviceTensorHandle?, DeviceTensorHandle?];

/** Gradients of a layer's input and parameters, those that were wanted. */
export interface DeviceLayerGradients {
  /** like the input */
  x?: DeviceTensor | undefined;
  /** float32, like the weight */
  weight?: DeviceTensor | undefined;
  /** float32, like the bias */
  bias?: DeviceTensor | undefined;
}

/** Which gradients a layer is asked for; frozen parameters and inputs cost nothing. */
export interface WantedGradients {
  wantsX: boolean;
  wantsWeight: boolean;
  wantsBias: boolean;
}

export function layerGradients(handles: OptionalHandles): DeviceLayerGradients {
  const [x, weight, bias] = handles.map((handle) => handle && new DeviceTensor(handle));
  return { x, weight, bias };
}
