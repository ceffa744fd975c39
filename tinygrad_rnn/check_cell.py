"""Does a cell keep the contract that `Recurrent`, the pictures and the compiler rely on? `check_cell` tries, and explains.

The contract: forward(x, state) -> state is a pure step. It reads x, the state and the parameters, sample by sample; it returns
a state like the one it was given; it keeps nothing; and its gradients are those of what it computes.
"""

from __future__ import annotations

from .cell_checks import CHECKS, Broken, Trial
from .nn.module import Module


class CellError(AssertionError):
    """A cell does not keep the contract. The message has a line for each check; `failed` names those that found something."""

    def __init__(self, message: str, failed: list[str]) -> None:
        super().__init__(message)
        self.failed = failed


class Report(dict[str, str]):
    """What each check saw, by its name; it prints as a line for each."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.items())


def check_cell(cell: Module, input_size: int | None = None) -> Report:
    """Try a cell in every way that its contract speaks of; return what was seen, or raise a CellError that says what to mend.

    cell: a Module with `state_size` and `forward(x, state)`, as `Recurrent` takes it. It is not called itself: copies are, in
        evaluation mode, in its own dtype and in float64.
    input_size: the features of x, if the cell has no `input_size` of its own.

    state: comes back with the structure and shape it had, in every batch size; output: has the size it says; dtype: is kept;
    memory: nothing is left on the module, or written into the arguments; determinism: the same call gives the same numbers;
    batch: no sample changes another; causality: no step changes an earlier one; loop: a loop by hand is the layer;
    gradients: agree with finite differences, parameter by parameter (at up to 30 elements of each).
    """
    if not isinstance(cell, Module):
        raise TypeError(f"check_cell: expected a cell, a Module, got {cell!r}; of a class make an instance: SomeCell(3, 4)")
    features = getattr(cell, "input_size", None) if input_size is None else input_size
    if features is None:
        raise TypeError(
            f"check_cell: {type(cell).__name__} does not say how many features x has; write check_cell(cell, 3), or set "
            "self.input_size in the cell"
        )
    trial, report, failed = Trial(cell, features), Report(), list[str]()
    for name, (check, needs) in CHECKS.items():
        missing = [need for need in needs if need in failed or report.get(need, "").startswith("not checked")]
        try:
            report[name] = f"not checked, as that needs: {', '.join(missing)}" if missing else check(trial)
        except Broken as found:
            report[name] = f"WRONG: {found}"
            failed.append(name)
        except Exception as error:
            report[name] = f"WRONG: raised {type(error).__name__}: {error}"
            failed.append(name)
    if failed:
        lines = str(report).replace("\n", "\n  ")
        raise CellError(f"{type(cell).__name__} does not keep the contract of a cell\n  {lines}", failed)
    return report
