"""One signature of an artefact, called with as little Python as the runtime allows.

The runtime's own ``SignatureRunner`` resizes all inputs, sets them and copies all outputs in every
call, which takes longer than the kernels of a small model. An input that was set keeps its value
here, and an output is copied only if it is asked for. The attributes used are the same in
``ai-edge-litert`` 2.x and ``tflite-runtime`` 2.14.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


class Signature:
    """A signature, whose tensors are allocated when it is first used.

    Args:
        interpreter: of LiteRT, with the artefact.
        name: of the signature.

    Raises:
        ValueError: the artefact has no such signature.
    """

    def __init__(self, interpreter: Any, name: str) -> None:
        runner = interpreter.get_signature_runner(name)
        self.inputs: dict[str, dict[str, Any]] = runner.get_input_details()
        """Name -> what the runtime says of the tensor, ``shape`` and ``dtype`` among it."""
        self.outputs: dict[str, dict[str, Any]] = runner.get_output_details()
        self._runtime, self._graph = runner._interpreter_wrapper, runner._subgraph_index
        self._in = {key: int(each["index"]) for key, each in self.inputs.items()}
        self._out = {key: int(each["index"]) for key, each in self.outputs.items()}
        self._set, self._invoke, self._get = (
            self._runtime.SetTensor,
            self._runtime.Invoke,
            self._runtime.GetTensor,
        )
        self._allocated = False

    def set(self, name: str, value: NDArray[Any]) -> None:
        """Copy an input, which keeps this value; ValueError for another shape or dtype."""
        if not self._allocated:
            self._runtime.AllocateTensors(self._graph)
            self._allocated = True
        self._set(self._in[name], value, self._graph)

    def run(self) -> None:
        """Run it on the inputs as they were set."""
        if not self._allocated:
            self._runtime.AllocateTensors(self._graph)
            self._allocated = True
        self._invoke(self._graph)

    def get(self, name: str) -> NDArray[Any]:
        """A copy of an output of the last run."""
        found: NDArray[Any] = self._get(self._out[name], self._graph)
        return found
