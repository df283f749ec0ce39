/** One step of a long short-term memory cell. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface LstmCellBindings {
  lstmCell(gates: TensorHandle, cell: TensorHandle): [hidden: TensorHandle, cell: TensorHandle];
}

const native = addon as LstmCellBindings;

/**
 * `cell' = sigmoid(f) cell + sigmoid(i) tanh(g)` and `hidden' = sigmoid(o) tanh(cell')` (Hochreiter, Schmidhuber 1997). Not
 * differentiable.
 * @param gates (rows, 4 * hidden): i, f, g, o, in PyTorch's order
 * @param cell (rows, hidden)
 */
export function lstmCell(gates: Tensor, cell: Tensor): { hidden: Tensor; cell: Tensor } {
  const [hidden, state] = native.lstmCell(gates.handle, cell.handle);
  return { hidden: new Tensor(hidden), cell: new Tensor(state) };
}
