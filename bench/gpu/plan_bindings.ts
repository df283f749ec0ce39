/** Functions of the addon that measure products by each of their plans (native/cuda/product_plan.hpp). */
import type { DeviceTensorHandle } from "../../lib/device/device_tensor.js";
import type { DeviceWeightHandle } from "../../lib/device/device_weight.js";

export interface PlanBindings {
  /** Codes of the plans that may be the fastest for a weight and a number of tokens, and of the one that is taken. */
  devicePlans(weight: DeviceWeightHandle, tokens: number): { plans: string[]; chosen: string };
  /** A weight of as many times the channels. */
  deviceWeightRepeat(weight: DeviceWeightHandle, times: number): DeviceWeightHandle;
  /** Milliseconds of a product; words are those of deviceLinear with weights that take turns, then launches, repetitions and a plan. */
  deviceLinearTimes(...words: unknown[]): Float64Array;
  /** The same of a product of two dense matrices, by one of deviceMatmulWays. */
  deviceMatmulTimes(x: DeviceTensorHandle, ws: DeviceTensorHandle[], way: string, launches: number, repetitions: number): Float64Array;
  deviceMatmulWays(): string[];
}
